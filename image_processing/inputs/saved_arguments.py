"""The dictionary of a saved image processor, also an old one -> its arguments as they are called today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Keys of saved processors that are no arguments of this one: written by every processor, or by old ones.
SAVED_KEYS = ("image_processor_type", "feature_extractor_type", "processor_class", "_processor_class", "auto_map")
RENAMED_KEYS = {"_max_size": "max_size", "reduce_labels": "do_reduce_labels", "size_divisibility": "size_divisor"}


def present_names(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A processor's dictionary with the names that arguments have today, and without what is no argument."""
    present = {}
    for key, value in arguments.items():
        name = RENAMED_KEYS.get(key, key)
        # A file may have both names of an argument: the present one holds.
        if key not in SAVED_KEYS and (key == name or name not in arguments):
            present[name] = value
    return present
