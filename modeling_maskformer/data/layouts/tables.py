"""What every layout of files becomes: a table of rows for each split, and what the files tell of the classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from datasets import Dataset

from ..labels.label_set import NamedIds
from .label_tables import LabelTable


@dataclass
class Tables:
    """The splits of a dataset as tables, and the names of the classes where its files tell them."""

    splits: dict[str, Dataset]
    named: NamedIds | None = None
    colours: dict[int, int] | None = None  # R + 256 G + 65536 B -> class id, where a table tells it
    void_ids: frozenset[int] = frozenset()  # ids of unlabelled pixels, where the dataset is known to have them
    annotation_format: str | None = None  # where the layout tells it
    hub_name: str | None = None  # of the dataset's repository, where it comes from the Hub
    are_heads: bool = False  # only the first rows of streams, in which not all classes need to occur

    def take(self, table: LabelTable) -> None:
        """Names, colours and void are those of a table of classes."""
        self.named, self.colours, self.void_ids = table.named, table.colours, table.void_ids


def annotated_splits(splits: Mapping[str, Dataset]) -> dict[str, Dataset]:
    """The splits without those for tests, which often have no annotations, unless there is no other; "train" first."""
    names = [name for name in splits if not name.lower().startswith("test")] or list(splits)
    return {name: splits[name] for name in sorted(names, key=lambda name: not name.lower().startswith("train"))}
