"""What the tests here import of the scripts."""

import sys
from pathlib import Path

# last, because evaluate.py there would hide the library of that name
sys.path.append(str(Path(__file__).parents[3] / "scripts"))
