"""What the tests here import of their neighbours."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "serving"))
