"""Which training images a run has set aside to be measured on, kept beside the model: evaluation takes the same."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch.utils.data import Subset
from tqdm.auto import tqdm
from transformers.utils import logging

from ..files.whole_file import whole_file
from .errors import DataError
from .samples import SampleSource
from .streams import stream_of

logger = logging.get_logger(__name__)

HELD_OUT_NAME = "held_out.json"


class KnownSamples(SampleSource, Protocol):
    """Samples whose images are known again, also where they have another place or name."""

    def identity(self, index: int) -> tuple[str, str]:
        """The name of an image and a digest of its content."""

    def lengths(self) -> list[int]:
        """A number for each image, such as the bytes of its file, that equal images have in common."""


def draw(samples: KnownSamples, fraction: float, seed: int) -> list[int]:
    """Which of the samples to set aside, ascending: always the same for the same seed.

    Samples of one image, as where each of its objects has a row, are set aside together: nothing is measured on an
    image that was trained on. So there may be some more than the fraction.

    Raises:
        DataError: they, or their images, are too few.
    """
    count = max(1, round(fraction * len(samples)))
    if count >= len(samples):
        raise DataError(f"{len(samples)} samples are too few to set {count} aside for validation.")
    lengths = samples.lengths()
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, length in enumerate(lengths):
        by_length[length].append(index)

    @cache
    def samples_of_images(length: int) -> dict[int, list[int]]:
        """Each sample of this length -> all samples of its image. A file whose length no other has is not read."""
        alike = by_length[length]
        if len(alike) == 1:
            return {alike[0]: alike}
        by_image: dict[str, list[int]] = defaultdict(list)
        # files that are not compressed all have one length, and all are read
        for index in tqdm(alike, desc="Looking for equal images", leave=False, disable=len(alike) < 1000):
            by_image[samples.identity(index)[1]].append(index)
        return {index: group for group in by_image.values() for index in group}

    chosen: set[int] = set()
    for index in torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed)).tolist():
        if len(chosen) >= count:
            break
        chosen.update(samples_of_images(lengths[index])[index])
    if len(chosen) == len(samples):
        raise DataError(
            f"The {len(samples)} samples have too few different images to set some aside for validation: name a split "
            "to be measured on with validation_split."
        )
    return sorted(chosen)


def part(samples: SampleSource, held_out: Collection[int]) -> tuple[Subset, Subset]:
    """The samples to train on and those set aside."""
    chosen = set(held_out)
    rest = [index for index in range(len(samples)) if index not in chosen]
    return Subset(samples, rest), Subset(samples, sorted(chosen))


class HeldOutImage(NamedTuple):
    """An image that was set aside: its place in the split, its name, and a digest of its content."""

    index: int
    name: str
    sha256: str


class Found(NamedTuple):
    """Where the images are that were set aside; none where not all are there, and `missing` names one that is not."""

    indices: list[int]
    missing: str | None = None


@dataclass(frozen=True)
class HeldOut:
    """The images that a run has set aside of a split, for want of one to be measured on."""

    train_split: str
    images: list[HeldOutImage]

    @classmethod
    def of(cls, splits: dict[str, SampleSource], validation: Subset) -> HeldOut:
        """What `validation` holds of one of the splits."""
        samples: KnownSamples = validation.dataset
        split = next(name for name, source in splits.items() if source is samples)
        return cls(split, [HeldOutImage(index, *samples.identity(index)) for index in validation.indices])

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        content = asdict(self) | {"images": [image._asdict() for image in self.images]}
        with whole_file(folder / HELD_OUT_NAME) as file:
            file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def find(self, samples: KnownSamples, is_same_dataset: bool = False) -> Found:
        """Their places in a split, which may have grown or be in another order; another dataset lacks them.

        Args:
            samples: the split.
            is_same_dataset: whether it is said to be the one that they are of: what has the place and the name of one
                is then that image, mended or saved anew, if not all of several have changed.
        """
        if stream_of(samples) is not None:
            return Found([], self.images[0].name)
        if all(image.index < len(samples) and image[1:] == samples.identity(image.index) for image in self.images):
            return Found([image.index for image in self.images])
        places: dict[str, list[int]] = defaultdict(list)
        for index in tqdm(range(len(samples)), desc="Looking for the images that were set aside", leave=False):
            places[samples.identity(index)[1]].append(index)
        indices, changed = [], []
        for image in self.images:
            if places[image.sha256]:
                indices.append(places[image.sha256].pop(0))
            elif is_same_dataset and image.index < len(samples) and samples.identity(image.index)[0] == image.name:
                indices.append(image.index)
                changed.append(image.name)
            else:
                return Found([], image.name)
        if len(set(indices)) < len(indices) or len(changed) == len(self.images) > 1:
            return Found([], self.images[0].name)
        if changed:
            names = ", ".join(f"'{name}'" for name in changed)
            logger.warning(f"Of the images that were set aside, these have changed, and stay set aside: {names}.")
        return Found(sorted(indices))


def held_out_of(model: str) -> HeldOut | None:
    """What the run behind a model's folder, or one of its checkpoints, has set aside; None where that is not known.

    Raises:
        DataError: the file that tells it is broken.
    """
    for folder in (Path(model), Path(model).parent):
        if (folder / HELD_OUT_NAME).is_file():
            try:
                content = json.loads((folder / HELD_OUT_NAME).read_text(encoding="utf-8"))
                return HeldOut(content["train_split"], [HeldOutImage(**image) for image in content["images"]])
            except (ValueError, TypeError, KeyError) as error:
                raise DataError(
                    f"{folder / HELD_OUT_NAME} does not tell which images a run has set aside: {error}."
                ) from error
    return None


def parts_of_run(parts: tuple[SampleSource, SampleSource], checkpoint: str) -> tuple[SampleSource, SampleSource]:
    """What a run that goes on trains and measures on: what it has set aside when it began stays set aside.

    Args:
        parts: what would be trained and measured on if it began now.
        checkpoint: from which it goes on.

    Raises:
        DataError: images that it has set aside are not in the dataset, or would now be trained on.
    """
    held_out, validation = held_out_of(checkpoint), parts[1]
    if held_out is None:
        if isinstance(validation, Subset):
            logger.warning(
                f"Nothing beside '{checkpoint}' tells which images the run has set aside: of those set aside now, "
                "some may have been trained on, and measure too well."
            )
        return parts
    where = f"The run of '{checkpoint}' has set images aside to be measured on ({HELD_OUT_NAME})"
    if not isinstance(validation, Subset):
        raise DataError(
            f"{where}, and would now train on them and be measured on another split: name the training split as the "
            "--validation_split to go on as it began, or start a new run."
        )
    found = held_out.find(validation.dataset, is_same_dataset=True)
    if not found.indices:
        image = f", among them '{found.missing}'" if found.missing else ""
        raise DataError(
            f"{where}, which are not all in the dataset any more{image}: go on with the dataset that it began with, "
            "or start a new run."
        )
    if found.indices != validation.indices:
        logger.warning(
            f"{where}, {len(found.indices)} of what are now {len(validation.dataset)}. These stay set aside, whatever "
            "--validation_fraction and --seed are, and all others are trained on."
        )
    return part(validation.dataset, found.indices)
