"""The order of training images, and the seed of each random view: both follow from (seed, epoch, index) alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler

from ..streams import StreamedRow


class View(NamedTuple):
    """Asks a `SegmentationDataset` for one random view: of which sample, and drawn with which seed."""

    index: int | StreamedRow
    seed: int


def view_seed(seed: int, epoch: int, index: int) -> int:
    """A 64-bit seed, as good as independent for each image and epoch."""
    return int(np.random.SeedSequence((seed, epoch, index)).generate_state(1, np.uint64)[0] >> np.uint64(1))


class ViewSampler(Sampler[View]):
    """Each sample once an epoch, with the seed of its view.

    So a view does not depend on how many workers prepare it, how far ahead of the training they are, or whether the
    run was interrupted before.

    Args:
        length: number of samples.
        seed: of the run, at least 0.
        epoch: says, when an epoch starts, which one it is.
        shuffle: another order in each epoch; False goes through the samples in theirs.
    """

    def __init__(self, length: int, seed: int, epoch: Callable[[], int], shuffle: bool = True) -> None:
        self.length = length
        self.seed = seed
        self.epoch = epoch
        self.shuffle = shuffle

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[View]:
        epoch = self.epoch()
        order = torch.arange(self.length)
        if self.shuffle:
            generator = torch.Generator().manual_seed(view_seed(self.seed, epoch, self.length))  # no sample's index
            order = torch.randperm(self.length, generator=generator)
        for index in order.tolist():
            yield View(index, view_seed(self.seed, epoch, index))
