"""Names that may be those of folders here or of something on the Hub."""

import os
import re

_HUB_NAME = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*")


def hub_hint(name: str | os.PathLike) -> str:
    """A sentence, to follow others, where there is no such folder or file here; "" where there is."""
    return "" if os.path.exists(name) else " There is no such folder here, so it was looked up on the Hub."


def is_hub_name(name: str | os.PathLike) -> bool:
    """Whether something on the Hub may be called so, as `name` or `owner/name`; else it is a path."""
    return _HUB_NAME.fullmatch(str(name)) is not None
