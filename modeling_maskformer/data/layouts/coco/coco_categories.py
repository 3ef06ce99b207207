"""The categories of several COCO files as those of one dataset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers.utils import logging

from .coco_content import CocoContent

logger = logging.get_logger(__name__)


def join_categories(contents: Sequence[CocoContent]) -> tuple[list[dict[str, Any]], list[dict[int, int]]]:
    """The categories of all files, and for each file the id that each of its categories has there.

    Categories of one name are one; the ids are those of the first file, and of the next ones where they are free.
    """
    joined: dict[int, dict[str, Any]] = {}
    new_ids: list[dict[int, int]] = []
    for content in contents:
        own: dict[int, int] = {}
        by_name = {category["name"]: raw for raw, category in reversed(joined.items())}
        for category in content.categories:
            raw, name = category["id"], category["name"]
            if joined.get(raw, {}).get("name") != name:
                raw = by_name[name] if name in by_name else raw if raw not in joined else max(joined) + 1
            own[category["id"]] = raw
            joined.setdefault(raw, category | {"id": raw})
        new_ids.append(own)
    if any(len(own) < len(joined) for own in new_ids):
        logger.warning(
            f"The files name different categories, which are joined by their names to {len(joined)}: "
            + ", ".join(
                f"'{content.file.name}' has {len(own)}" for content, own in zip(contents, new_ids, strict=True)
            )
            + "."
        )
    return _without_placeholders(list(joined.values()), contents, new_ids), new_ids


def _without_placeholders(
    categories: list[dict[str, Any]], contents: Sequence[CocoContent], new_ids: Sequence[dict[int, int]]
) -> list[dict[str, Any]]:
    """Without those that only hold others together, as Roboflow's category 0: a supercategory that no object is of.

    It may be called like the only class below it; a category that is its own supercategory, as COCO's person, stays.
    """
    used = {own.get(raw, raw) for content, own in zip(contents, new_ids, strict=True) for raw in content.used_ids}
    below: dict[str, set[int]] = {}  # name -> categories of which it is the supercategory
    for item in categories:
        below.setdefault(str(item.get("supercategory")), set()).add(item["id"])
    kept = [item for item in categories if item["id"] in used or not below.get(item["name"], set()) - {item["id"]}]
    return kept or categories
