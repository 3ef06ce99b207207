"""The classes of a dataset in the numbers of a checkpoint, so that the one can be measured on the other."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import cycle

import torch
from transformers.utils import logging

from ...targets import Segments
from ..errors import DataError
from ..samples import Sample, SampleSource
from .label_set import LabelSet

logger = logging.get_logger(__name__)

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


def match_labels(
    id2label: Mapping[int, str], labels: LabelSet, category_ids: Sequence[int] | None = None, first_id: int = 0
) -> list[int]:
    """For each class of a dataset the id that a checkpoint has for it.

    Classes are matched by name, several of one name in their order. Those of a dataset that names none are matched by
    their ids in the annotations, of which not all need to occur. Those of a checkpoint that names none are too, if it
    says which ids it has learnt; else they are those of the dataset, in their order, if they are as many.

    Args:
        id2label: of the checkpoint.
        labels: of the dataset.
        category_ids: the ids that the checkpoint's classes had in its training's annotations, in the order of its
            classes; None where it does not say.
        first_id: the id in the annotations of its first class then, others follow: 1 where 0 is unlabelled.

    Raises:
        DataError: the checkpoint lacks a class of the dataset, or they have a name several times, but not as often.
    """
    named: dict[str, list[int]] = {}
    for class_id, name in id2label.items():
        named.setdefault(name, []).append(class_id)
    missing = [name for name in labels.names if name not in named]
    if not missing:
        found = _match_names(named, labels.names)
        _tell_of_shifted_ids(id2label, labels, found, category_ids)
        return found
    dataset_is_nameless, checkpoint_is_nameless = (
        all(_MADE_UP.fullmatch(name) for name in names) for names in (labels.names, named)
    )
    if category_ids is not None and len(category_ids) != len(id2label):
        category_ids = None  # of other classes than the checkpoint has now
    if dataset_is_nameless or (checkpoint_is_nameless and category_ids is not None):
        ids = range(first_id, first_id + len(id2label)) if category_ids is None else category_ids
        by_id = dict(zip(ids, sorted(id2label), strict=True))
        missing = [name for name, raw in zip(labels.names, labels.dataset_ids, strict=True) if raw not in by_id]
        if not missing:
            found = [by_id[raw] for raw in labels.dataset_ids]
            pairs = [f"{raw} is '{id2label[own]}'" for raw, own in zip(labels.dataset_ids, found, strict=True)]
            logger.warning(f"Classes are matched by their ids, as not all have names: {_some(pairs)}.")
            return found
    elif checkpoint_is_nameless and len(labels) == len(id2label):
        return list(range(len(labels)))
    known = _some([f"'{name}'" for name in id2label.values()])
    raise DataError(
        f"The checkpoint does not know {len(missing)} of the dataset's {len(labels)} classes, among them "
        f"'{missing[0]}'; its {len(id2label)} classes are {known}. "
        "Pass an --id2label file with the checkpoint's names, or --ignore_index for an id of unlabelled pixels, or "
        "evaluate on the data it was trained for."
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


def _tell_of_shifted_ids(
    id2label: Mapping[int, str], labels: LabelSet, found: Sequence[int], category_ids: Sequence[int] | None
) -> None:
    """Warns where each class was learnt as the id after the one it has here, as with `reduce_labels` only in training.

    Args:
        id2label, labels, category_ids: as in `match_labels`.
        found: the checkpoint's id of each of the dataset's classes, by their names.
    """
    if category_ids is None or len(category_ids) != len(id2label) or labels.has_categories:
        return
    learnt = dict(zip(sorted(id2label), category_ids, strict=True))
    if all(learnt[own] == raw + 1 for own, raw in zip(found, labels.dataset_ids, strict=True)):
        logger.warning(
            f"'{labels.names[0]}' is id {labels.dataset_ids[0]} here, and was {learnt[found[0]]} in the training's "
            "annotations, and so on for each class. Where 0 means unlabelled here too, all classes are measured as "
            "their neighbours: pass --reduce_labels."
        )


def _some(texts: Sequence[str], count: int = 10) -> str:
    """The first of them, and that there are more."""
    return ", ".join(texts[:count]) + (", ..." if len(texts) > count else "")
