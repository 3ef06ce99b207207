"""Tells errors that somebody has thought of from those that happen deep inside."""

from __future__ import annotations

import linecache
import traceback
from pathlib import Path

import huggingface_hub
import transformers
from huggingface_hub.errors import StrictDataclassError

REPOSITORY = Path(__file__).resolve().parents[2]
# their checks of arguments are sentences too: this package's classes are subclasses of theirs
SPEAKING = (
    REPOSITORY / "modeling_maskformer",
    REPOSITORY / "image_processing",
    Path(transformers.__file__).parent,
    Path(huggingface_hub.__file__).parent,
)


def is_own(error: BaseException) -> bool:
    """Whether an error is one of value, type, a missing file or a loss that is not finite, raised by a statement.

    What a library raises below such a statement, or Python itself (`int("x")`), is none: nobody wrote its sentence.
    """
    if isinstance(error, StrictDataclassError):  # the field of a config, what was found and what was expected
        return True
    if not isinstance(error, (ValueError, TypeError, FileNotFoundError, FloatingPointError)):
        return False
    last = traceback.extract_tb(error.__traceback__)[-1]
    is_speaking = any(Path(last.filename).is_relative_to(folder) for folder in SPEAKING)
    return (
        is_speaking and linecache.getline(last.filename, last.lineno).strip().startswith("raise") and bool(str(error))
    )


def place_of(error: BaseException) -> str:
    """Kind and innermost places of an error, by which findings are counted: one in this project, and the last one."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(REPOSITORY)]
    own = [frame for frame in own if not Path(frame.filename).is_relative_to(REPOSITORY / "tests")] or own
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in (*(own or frames)[-1:], frames[-1])]
    return f"{type(error).__name__} in {' <- '.join(dict.fromkeys(places))}"
