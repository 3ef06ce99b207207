"""What a card says of the images that a model was trained and measured on: counts, and what they did not hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...data.statistics import DataStatistics, images_text, percent, segments_text

FEW_IMAGES = 10  # classes that fewer have are named


@dataclass(frozen=True)
class CardData:
    """Numbers of the images that were looked at before training, in words.

    Attributes:
        sentences: on training images and on evaluation images.
        classes: name of a class -> training images and segments that have it, its part of their pixels, and
            evaluation images that have it.
        limits: sentences on classes that images lack, or that few have.
    """

    sentences: tuple[str, ...]
    classes: dict[str, tuple[str, ...]]
    limits: tuple[str, ...]


def card_data(training: DataStatistics, evaluation: DataStatistics, names: Sequence[str]) -> CardData | None:
    """The numbers of both in words; None where no image was looked at.

    Args:
        training, evaluation: what was found in the images of each.
        names: of the classes, by label.
    """
    if not training.sizes or not evaluation.sizes:
        return None
    shares = training.shares()
    sentences = (
        f"{images_text(found, f'{what} images')}, {segments_text(found.num_segments)}."
        for what, found in (("training", training), ("evaluation", evaluation))
    )
    classes = {
        name: (
            f"{training.images[label]:,}",
            f"{training.segments[label]:,}",
            percent(shares.get(label, 0.0)),
            f"{evaluation.images[label]:,}",
        )
        for label, name in enumerate(names)
    }
    return CardData(tuple(sentences), classes, tuple(_limits(training, evaluation, names)))


def _limits(training: DataStatistics, evaluation: DataStatistics, names: Sequence[str]) -> Iterator[str]:
    count = training.images
    unseen, unmeasured = (
        ", ".join(name for label, name in enumerate(names) if not found.images[label])
        for found in (training, evaluation)
    )
    few = ", ".join(f"{name} ({count[label]})" for label, name in enumerate(names) if 0 < count[label] < FEW_IMAGES)
    if unseen:
        yield f"No training image{_looked_at(training)} has any of these classes, which it cannot know: {unseen}."
    if few and training.num_looked_at > 2 * FEW_IMAGES:
        yield f"Fewer than {FEW_IMAGES} training images{_looked_at(training)} have: {few}."
    if unmeasured:
        of_these = f"No evaluation image{_looked_at(evaluation)} has any of these classes"
        yield f"{of_these}, and how well it finds them was not measured: {unmeasured}."


def _looked_at(found: DataStatistics) -> str:
    return "" if found.num_looked_at == found.num_images else f" of the {found.num_looked_at:,} looked at"
