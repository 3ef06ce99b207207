"""What is in a dataset, in numbers and in words: sizes of images, segments an image, pixels of each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean, median

from .samples import Sample

MAX_NAMED = 12  # classes that the text names one by one


@dataclass
class DataStatistics:
    """Numbers of the images of a split that were looked at.

    Attributes:
        num_images: images of the split.
        sizes: (height, width) of each image looked at.
        num_segments: segments of each image looked at.
        images, segments, pixels: label -> how many of them.
        crowds: segments that are crowd regions, of which nothing is learnt.
        void_pixels: unlabelled pixels.
        other_pixels: pixels that are neither unlabelled nor in a segment.
    """

    num_images: int
    sizes: list[tuple[int, int]] = field(default_factory=list)
    num_segments: list[int] = field(default_factory=list)
    images: Counter[int] = field(default_factory=Counter)
    segments: Counter[int] = field(default_factory=Counter)
    pixels: Counter[int] = field(default_factory=Counter)
    crowds: int = 0
    void_pixels: int = 0
    other_pixels: int = 0

    def add(self, sample: Sample) -> None:
        """Takes in one image."""
        segments = sample.segments
        classes = segments.class_ids.tolist()
        height, width = segments.size
        self.sizes.append((height, width))
        self.num_segments.append(len(classes))
        self.segments.update(classes)
        self.images.update(set(classes))
        self.crowds += int(segments.is_crowd.sum())
        for label, area in zip(classes, segments.areas().tolist(), strict=True):
            self.pixels[label] += area
        void = segments.void
        self.void_pixels += int(void.sum())
        self.other_pixels += int(((segments.ids == 0).all(0) & ~void).sum())

    @property
    def num_looked_at(self) -> int:
        return len(self.sizes)

    @property
    def short_edge(self) -> int | None:
        """The median of the shorter sides, in pixels; None where no image was looked at."""
        return round(median(min(size) for size in self.sizes)) if self.sizes else None

    def shares(self) -> dict[int, float]:
        """Label -> its part of the pixels that are not void. Where segments overlap, the parts exceed 1 together."""
        labelled = sum(height * width for height, width in self.sizes) - self.void_pixels
        return {label: pixels / max(labelled, 1) for label, pixels in self.pixels.items()}

    @property
    def void_share(self) -> float:
        return self.void_pixels / max(sum(height * width for height, width in self.sizes), 1)


def found_text(found: DataStatistics, names: Sequence[str]) -> str:
    """One paragraph on the training images: their sizes, classes with their parts of the pixels, segments an image.

    Args:
        found: its numbers.
        names: of the classes, by label.
    """
    if not found.sizes:
        images = count_text(found.num_images, "training images")
        return f"Found: {images}, none of which was looked at; {len(names)} classes."
    sentences = [images_text(found, "training images"), _classes_text(found, names), segments_text(found.num_segments)]
    return "Found: " + ". ".join(sentences) + "."


def images_text(found: DataStatistics, what: str) -> str:
    """How many images there are, of which sizes: "400 training images, all of 360x480 pixels (height x width)"."""
    looked_at = "" if found.num_looked_at == found.num_images else f" (numbers are of {found.num_looked_at:,} of them)"
    return f"{count_text(found.num_images, what)}{looked_at}, {_sizes_text(found.sizes)}"


def count_text(count: int, what: str) -> str:
    """ "1 training image", "1,200 training images"."""
    return f"{count:,} {what.removesuffix('s') if count == 1 else what}"


def percent(share: float) -> str:
    """The share as percent, with as many digits as it takes to see that it is not 0."""
    if share == 0:
        return "0 %"
    return (
        "under 0.01 %"
        if share < 1e-4
        else f"{100 * share:.{0 if share >= 0.0995 else 1 if share >= 0.00995 else 2}f} %"
    )


def _sizes_text(sizes: Sequence[tuple[int, int]]) -> str:
    heights, widths = zip(*sizes, strict=True)
    if len(set(sizes)) == 1:
        return f"all of {heights[0]}x{widths[0]} pixels (height x width)"
    low, high = f"{min(heights)}x{min(widths)}", f"{max(heights)}x{max(widths)}"
    return (
        f"of {low} to {high} pixels (height x width), {round(median(heights))}x{round(median(widths))} in the middle"
    )


def _classes_text(found: DataStatistics, names: Sequence[str]) -> str:
    shares = found.shares()
    seen = sorted(shares, key=lambda label: -shares[label])
    parts = [f"{names[label]} {percent(shares[label])}" for label in seen]
    if len(parts) > MAX_NAMED:
        parts = [*parts[: MAX_NAMED - 3], f"{len(parts) - MAX_NAMED} more", *parts[-3:]]
    text = f"{len(names)} classes, by their" if len(names) != 1 else "1 class, by its"
    text += " part of the pixels: "
    text += ", ".join(parts)
    unseen = [name for label, name in enumerate(names) if label not in shares]
    if unseen:
        shown = ", ".join(unseen[:5]) + (", ..." if len(unseen) > 5 else "")
        text += f"; never seen: {shown}" + (f" ({len(unseen)} classes)" if len(unseen) > 5 else "")
    if found.other_pixels:
        area = sum(height * width for height, width in found.sizes) - found.void_pixels
        text += f"; in no segment: {percent(found.other_pixels / max(area, 1))}"
    if found.void_pixels:
        text += f"; besides, {percent(found.void_share)} of all pixels are unlabelled"
    return text


def segments_text(counts: Sequence[int]) -> str:
    """How many segments images have: "2 to 9 segments an image, 5.6 on average"."""
    if len(set(counts)) == 1:
        return "1 segment in each image" if counts[0] == 1 else f"{counts[0]} segments in each image"
    empty = sum(count == 0 for count in counts)
    none = f"; {count_text(empty, 'images')} without any" if empty else ""
    return f"{min(counts)} to {max(counts)} segments an image, {mean(counts):.1f} on average{none}"
