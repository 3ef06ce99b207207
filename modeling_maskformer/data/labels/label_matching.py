"""The classes of a dataset in the numbers of a checkpoint, so that the one can be measured on the other."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import cycle

import torch

from ...targets import Segments
from ..errors import DataError
from ..samples import Sample, SampleSource
from .label_set import LabelSet

_MADE_UP = re.compile(r"class_\d+|LABEL_\d+")  # names that were given to classes without a name


class RelabelledSamples:
    """Samples whose class ids are translated.

    Args:
        samples: the samples.
        new_ids: new_ids[k] is what class k becomes.
    """

    def __init__(self, samples: SampleSource, new_ids: list[int]) -> None:
        self.samples = samples
        self.new_ids = torch.tensor(new_ids, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        sample = self.samples[index]
        segments = sample.segments
        return replace(sample, segments=Segments(segments.ids, self.new_ids[segments.class_ids], segments.is_crowd))


def match_labels(id2label: Mapping[int, str], labels: LabelSet) -> list[int]:
    """For each class of a dataset the id that a checkpoint has for it.

    Classes are matched by name, several of one name in their order. Where either side has made-up names only, they are
    matched by number.

    Args:
        id2label: of the checkpoint.
        labels: of the dataset.

    Raises:
        DataError: the checkpoint lacks a class of the dataset, or they have a name several times, but not as often.
    """
    named: dict[str, list[int]] = {}
    for class_id, name in id2label.items():
        named.setdefault(name, []).append(class_id)
    missing = [name for name in labels.names if name not in named]
    if not missing:
        return _match_names(named, labels.names)
    is_nameless = any(all(_MADE_UP.fullmatch(name) for name in names) for names in (labels.names, named))
    if is_nameless and len(labels) == len(id2label):
        return list(range(len(labels)))
    raise DataError(
        f"The checkpoint does not know {len(missing)} of the dataset's {len(labels)} classes, among them "
        f"'{missing[0]}'; its {len(id2label)} classes are {_some(list(id2label.values()))}. "
        "Pass an --id2label file with the checkpoint's names, or evaluate on the data it was trained for."
    )


def _match_names(named: Mapping[str, list[int]], names: Sequence[str]) -> list[int]:
    """For each name the id that a checkpoint has for it; its only one of a name stands for all of that name."""
    counts = Counter(names)
    for name, count in counts.items():
        if len(named[name]) not in (1, count):
            raise DataError(
                f"The checkpoint has {len(named[name])} classes called '{name}' and the dataset {count}, so it is not "
                "known which is which: pass an --id2label file that gives them names of their own, or evaluate on the "
                "data it was trained for."
            )
    in_turn = {name: cycle(named[name]) for name in counts}
    return [next(in_turn[name]) for name in names]


def _some(names: list[str], count: int = 10) -> str:
    return ", ".join(f"'{name}'" for name in names[:count]) + (", ..." if len(names) > count else "")
