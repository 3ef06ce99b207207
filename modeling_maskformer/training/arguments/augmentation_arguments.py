"""AugmentationArguments: how training images vary, and the size of images in evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...data.views.augmentation import AugmentationConfig
from ...evaluation.image_size import LONGEST_EDGE_FACTOR, evaluation_shortest_edge
from .data_defaults import default_crop_side


@dataclass
class AugmentationArguments:
    """How training images vary, and the size of evaluation images; the defaults are the paper's at crop 512.

    The crop follows from the images where `choose_for` is called, as a run does.
    """

    _argument_group_name = "augmentation and image size"

    crop_size: list[int] | None = field(
        default=None,
        metadata={
            "help": "Height and width (or one number for both) of the random crops that training sees. Default: the "
            "short edge of the image in the middle, from 128 to 512."
        },
    )
    crop: bool = field(
        default=True, metadata={"help": "Crop at all; false: whole images at --short_edges, as for COCO panoptic."}
    )
    scale_range: list[float] = field(
        default_factory=lambda: [0.5, 2.0],
        metadata={
            "help": "Lowest and highest scale: the short edge of an image becomes the crop's short side times a scale."
        },
    )
    scale_step: float = field(default=0.1, metadata={"help": "Scales are so far apart; 0 for any between."})
    short_edges: list[int] = field(
        default_factory=list,
        metadata={
            "help": "Instead of --scale_range: lengths, one of which an image's short edge gets. Default: none."
        },
    )
    max_long_edge: int = field(
        default=2048, metadata={"help": "The long edge is never resized beyond that before the crop."}
    )
    early_crop_probability: float = field(
        default=0.0,
        metadata={
            "help": "This part of the images is resized and cropped before all that, as in DETR's recipe (0.5)."
        },
    )
    early_crop_short_edges: list[int] = field(
        default_factory=lambda: [400, 500, 600],
        metadata={"help": "Lengths, one of which the short edge gets before the early crop."},
    )
    early_crop_range: list[int] = field(
        default_factory=lambda: [384, 600],
        metadata={"help": "Smallest and largest height and width of the early crop."},
    )
    max_class_share: float = field(
        default=1.0, metadata={"help": "Crops in which one class covers more than this part are drawn again."}
    )
    copy_paste_probability: float | None = field(
        default=None,
        metadata={
            "help": "Onto this part of the training images, things of another one are pasted, after it was augmented "
            "as all are; 0 for none. Default: 0.5 for instance and panoptic, but of a stream none."
        },
    )
    colour_jitter: bool = field(default=True, metadata={"help": "Vary brightness, contrast, saturation and hue."})
    flip: bool = field(default=True, metadata={"help": "Mirror every second image."})
    shortest_edge: int | None = field(
        default=None,
        metadata={
            "help": "Short edge of images in evaluation and prediction, which keep their shape. "
            "Default: the mean of the sizes of training before the crop; without crop the largest of --short_edges."
        },
    )
    longest_edge: int | None = field(
        default=None,
        metadata={"help": "Bound of the long edge in evaluation and prediction. Default: four times the short edge."},
    )

    def __post_init__(self) -> None:
        self._open = {name for name in ("crop_size", "shortest_edge", "longest_edge") if getattr(self, name) is None}
        if self.crop_size is None:
            self.crop_size = [512]
        if len(self.crop_size) == 1:
            self.crop_size = self.crop_size * 2
        for name in ("scale_range", "early_crop_range"):
            if len(getattr(self, name)) != 2:
                raise ValueError(f"--{name} takes two numbers, got {getattr(self, name)}.")
        if self.copy_paste_probability is not None and not 0 <= self.copy_paste_probability <= 1:
            raise ValueError(f"--copy_paste_probability must lie in [0, 1], got {self.copy_paste_probability}.")
        self.config()
        self._settle_edges()

    def choose_for(self, short_edge: int | None) -> None:
        """Decides what was left open for images whose short edge has this many pixels in the middle, if known."""
        if "crop_size" in self._open and self.crop and not self.short_edges and short_edge is not None:
            self.crop_size = [default_crop_side(short_edge)] * 2
            for name in self._open - {"crop_size"}:
                setattr(self, name, None)
            self._settle_edges()

    def _settle_edges(self) -> None:
        if self.shortest_edge is None:
            crop_size = self.crop_size if self.crop else None
            self.shortest_edge = evaluation_shortest_edge(crop_size, self.scale_range, self.short_edges)
        if self.longest_edge is None:
            self.longest_edge = LONGEST_EDGE_FACTOR * self.shortest_edge
        if not 1 <= self.shortest_edge <= self.longest_edge:
            raise ValueError(
                "--shortest_edge must lie between 1 and --longest_edge, "
                f"got {self.shortest_edge} and {self.longest_edge}."
            )

    def config(self) -> AugmentationConfig:
        """The recipe in the terms of `Augmentation`."""
        colours = {} if self.colour_jitter else {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
        return AugmentationConfig(
            crop_size=tuple(self.crop_size) if self.crop else None,
            scale_range=tuple(self.scale_range),
            scale_step=self.scale_step,
            short_edges=tuple(self.short_edges),
            max_long_edge=self.max_long_edge,
            early_crop_probability=self.early_crop_probability,
            early_crop_short_edges=tuple(self.early_crop_short_edges),
            early_crop_range=tuple(self.early_crop_range),
            single_category_max_area=self.max_class_share,
            horizontal_flip=0.5 if self.flip else 0.0,
            **colours,
        )
