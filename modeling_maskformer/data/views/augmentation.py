"""Random views of a sample for training: scale, crop, colour, flip, with segments that stay id maps throughout."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from ...targets import Segments, void_value
from ..samples import Sample
from .color_jitter import ColorJitter

CROP_ATTEMPTS = 10  # tries to find a crop in which no class is too dominant


@dataclass(frozen=True)
class AugmentationConfig:
    """A recipe in plain numbers; the default is the reference's for semantic segmentation, at crop 512.

    An image is resized so that its short edge has a length drawn from `short_edges`, or, where those are empty, from
    `scale_range` (in steps of `scale_step`) times the short edge of `crop_size`; then cropped at random. What is
    smaller than the crop stays smaller: the image processor pads it with void.

    Args:
        crop_size: (height, width); None does not crop.
        scale_range: lowest and highest scale.
        scale_step: scales in between are so far apart; 0 draws any.
        short_edges: lengths of the short edge, instead of scales.
        max_long_edge: the long edge is never resized beyond that.
        single_category_max_area: part of the crop's labelled pixels that one class may cover; 1.0 allows all.
        early_crop_probability: DETR's recipe resizes and crops such a part of the images before all this.
        early_crop_short_edges: lengths of the short edge before the early crop.
        early_crop_range: smallest and largest side of the early crop.
        brightness, contrast, saturation, hue: see `ColorJitter`; 0 turns one off.
        horizontal_flip: probability.
    """

    crop_size: tuple[int, int] | None = (512, 512)
    scale_range: tuple[float, float] = (0.5, 2.0)
    scale_step: float = 0.1
    short_edges: tuple[int, ...] = ()
    max_long_edge: int = 2048
    single_category_max_area: float = 1.0
    early_crop_probability: float = 0.0
    early_crop_short_edges: tuple[int, ...] = (400, 500, 600)
    early_crop_range: tuple[int, int] = (384, 600)
    brightness: float = 32.0
    contrast: float = 0.5
    saturation: float = 0.5
    hue: float = 36.0
    horizontal_flip: float = 0.5

    def __post_init__(self) -> None:
        for name in ("crop_size", "scale_range", "short_edges", "early_crop_short_edges", "early_crop_range"):
            value = getattr(self, name)  # recipes in JSON and YAML have lists
            object.__setattr__(self, name, None if value is None else tuple(value))
        if self.crop_size is None and not self.short_edges:
            raise ValueError("Without crop_size, short_edges are needed: scales are relative to the crop.")
        if self.crop_size is not None and (len(self.crop_size) != 2 or min(self.crop_size) < 1):
            raise ValueError(f"crop_size must be a height and a width of at least 1, got {self.crop_size}.")
        if min(self.max_long_edge, *self.short_edges, *self.early_crop_short_edges) < 1:
            raise ValueError(
                "max_long_edge, short_edges and early_crop_short_edges must be at least 1, got "
                f"{self.max_long_edge}, {self.short_edges} and {self.early_crop_short_edges}."
            )
        if self.scale_step < 0:
            raise ValueError(f"scale_step must be at least 0, got {self.scale_step}.")
        if not 0 < self.scale_range[0] <= self.scale_range[1]:
            raise ValueError(f"scale_range must be two rising positive scales, got {self.scale_range}.")
        if not 0 < self.early_crop_range[0] <= self.early_crop_range[1]:
            raise ValueError(f"early_crop_range must be two rising positive sides, got {self.early_crop_range}.")
        for name in ("single_category_max_area", "early_crop_probability", "horizontal_flip"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}.")


@dataclass(frozen=True)
class Box:
    """A region of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


class Augmentation:
    """A sample -> a random view of it: `(3, H, W)` uint8 image and segments of that size.

    Resizing and cropping are one step: the region of the source that the crop shows is cut out first and only that is
    resized (image bilinear with antialias, ids nearest), so the cost depends on the crop. Segments without pixels in
    the view are dropped, void stays void.

    All random numbers come from `generator`, torch's default one if there is none: one seed, one view.
    """

    def __init__(self, config: AugmentationConfig) -> None:
        self.config = config
        jitter = ColorJitter(config.brightness, config.contrast, config.saturation, config.hue)
        self.color_jitter = jitter if jitter != ColorJitter(0.0, 0.0, 0.0, 0.0) else None

    def __call__(self, sample: Sample, generator: Generator | None = None) -> tuple[Tensor, Segments]:
        segments = sample.segments
        box, size = self._draw_view(segments, generator)
        region = sample.image.crop((box.left, box.top, box.left + box.width, box.top + box.height))
        image = F.resize(F.pil_to_tensor(region), list(size), InterpolationMode.BILINEAR, antialias=True)  # (3, H, W)
        ids = F.crop(segments.ids, box.top, box.left, box.height, box.width)
        ids = F.resize(ids, list(size), InterpolationMode.NEAREST_EXACT)  # (L, H, W)
        if torch.rand((), generator=generator) < self.config.horizontal_flip:
            image, ids = F.horizontal_flip(image), F.horizontal_flip(ids)
        image = image.contiguous() if self.color_jitter is None else self.color_jitter(image, generator)
        return image, Segments(ids.contiguous(), segments.class_ids, segments.is_crowd).without_empty()

    def _draw_view(self, segments: Segments, generator: Generator | None) -> tuple[Box, tuple[int, int]]:
        """A region of the source and the size to which it is resized."""
        config = self.config
        source = Box(0, 0, *segments.size)
        if torch.rand((), generator=generator) < config.early_crop_probability:
            source = self._draw_early_crop(source, generator)
        scaled = resized(source, self._draw_short_edge(generator), config.max_long_edge)
        if config.crop_size is None:
            return source, scaled
        size = min(config.crop_size[0], scaled[0]), min(config.crop_size[1], scaled[1])
        for _ in range(CROP_ATTEMPTS):
            box = draw_crop(source, scaled, size, generator)
            if config.single_category_max_area >= 1 or largest_class_share(segments, box) <= (
                config.single_category_max_area
            ):
                break
        return box, size

    def _draw_short_edge(self, generator: Generator | None) -> int:
        config = self.config
        if config.short_edges:
            return draw_from(config.short_edges, generator)
        low, high = config.scale_range
        if config.scale_step > 0:
            steps = int((high - low) / config.scale_step + 1e-6)
            scale = low + config.scale_step * draw_below(steps + 1, generator)
        else:
            scale = low + (high - low) * float(torch.rand((), generator=generator))
        return max(1, round(scale * min(config.crop_size)))

    def _draw_early_crop(self, source: Box, generator: Generator | None) -> Box:
        scaled = resized(source, draw_from(self.config.early_crop_short_edges, generator), max_long_edge=None)
        low, high = self.config.early_crop_range
        size = tuple(min(low, side) + draw_below(min(high, side) - min(low, side) + 1, generator) for side in scaled)
        return draw_crop(source, scaled, size, generator)


def draw_below(limit: int, generator: Generator | None) -> int:
    """One of 0 to limit - 1, each equally likely."""
    return int(torch.randint(limit, (), generator=generator))


def draw_from(choices: tuple[int, ...], generator: Generator | None) -> int:
    """One of the choices, each equally likely."""
    return choices[draw_below(len(choices), generator)]


def resized(box: Box, short_edge: int, max_long_edge: int | None) -> tuple[int, int]:
    """(height, width) of a region whose short edge becomes `short_edge`, its long edge at most `max_long_edge`."""
    scale = short_edge / min(box.height, box.width)
    if max_long_edge is not None:
        scale = min(scale, max_long_edge / max(box.height, box.width))
    return max(1, round(box.height * scale)), max(1, round(box.width * scale))


def draw_crop(source: Box, scaled: tuple[int, int], size: tuple[int, int], generator: Generator | None) -> Box:
    """The region of `source` that a random crop of `size` shows once `source` has been resized to `scaled`."""
    height = max(1, round(size[0] * source.height / scaled[0]))
    width = max(1, round(size[1] * source.width / scaled[1]))
    top = draw_below(source.height - height + 1, generator)
    left = draw_below(source.width - width + 1, generator)
    return Box(source.top + top, source.left + left, height, width)


def largest_class_share(segments: Segments, box: Box) -> float:
    """Share of the largest class among a region's pixels that belong to segments; 0 where there are none."""
    ids = F.crop(segments.ids, box.top, box.left, box.height, box.width).flatten()  # (L * h * w,)
    ids = ids[(ids != 0) & (ids != void_value(ids.dtype))].to(torch.int64)
    if ids.numel() == 0:
        return 0.0
    areas = torch.bincount(segments.class_ids[ids - 1])
    return float(areas.max() / areas.sum())
