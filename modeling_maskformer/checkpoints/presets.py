"""How the original's models are fed and read: image sizes and annotations of each dataset of its model zoo.

The numbers are those of the original's public configurations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .architecture import Architecture, Kind, SwinArchitecture
from .errors import CheckpointError

# every configuration: RGB, the statistics of ImageNet in units of 0 to 255
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)

# which of ADE20K's 150 classes are stuff in its panoptic form
ADE20K_STUFF = (
    *(0, 1, 2, 3, 4, 5, 6, 9, 11, 13, 16, 17, 21, 25, 26, 28, 29, 34, 40, 46, 48, 51, 52, 54, 59, 60),
    *(61, 63, 68, 77, 79, 84, 91, 94, 96, 99, 100, 101, 105, 106, 109, 113, 114, 117, 122, 128, 131, 140, 141, 145),
)
COCO_STUFF = tuple(range(80, 133))  # the 80 classes of things come first


@dataclass(frozen=True)
class Preset:
    """A dataset of the model zoo.

    Attributes:
        dataset: its name.
        task: "semantic" or "panoptic".
        num_labels: its classes.
        shortest_edge: images are resized to this shorter side...
        longest_edge: ...unless the longer side exceeds this.
        ignore_index: value of unlabelled pixels in annotations.
        reduce_labels: whether 0 in the annotations means unlabelled and class k is annotated as k + 1.
        label_ids_to_fuse: classes of stuff; None where the task is not panoptic.
    """

    dataset: str
    task: str
    num_labels: int
    shortest_edge: int
    longest_edge: int
    ignore_index: int = 255
    reduce_labels: bool = False
    label_ids_to_fuse: tuple[int, ...] | None = None


PRESETS = (
    Preset("ade20k", "semantic", 150, 512, 2048, reduce_labels=True),
    Preset("ade20k", "panoptic", 150, 640, 2560, ignore_index=0, label_ids_to_fuse=ADE20K_STUFF),
    Preset("ade20k_full", "semantic", 847, 512, 2048, ignore_index=65535),
    Preset("cityscapes", "semantic", 19, 1024, 2048),
    Preset("coco", "panoptic", 133, 800, 1333, ignore_index=0, label_ids_to_fuse=COCO_STUFF),
    Preset("coco_stuff_10k", "semantic", 171, 640, 2560),
    Preset("mapillary_vistas", "semantic", 65, 2048, 2048, ignore_index=65),
)
DATASETS = tuple(dict.fromkeys(preset.dataset for preset in PRESETS))
PRESET_TASKS = tuple(dict.fromkeys(preset.task for preset in PRESETS))


def find_preset(architecture: Architecture, dataset: str | None = None, task: str | None = None) -> Preset:
    """The preset of the dataset that a model was trained on.

    Args:
        architecture: the model; its number of classes tells the dataset where that is not given. Of ADE20K's models
            those with encoder layers in the pixel decoder are panoptic.
        dataset: one of `DATASETS`.
        task: "semantic" or "panoptic".

    Raises:
        CheckpointError: no dataset of the model zoo fits, the one given has another number of classes, or the task is
            panoptic for a per-pixel baseline.
    """
    if architecture.kind is not Kind.MASKFORMER:
        if task == "panoptic":
            raise CheckpointError(f"The checkpoint is a {architecture.kind.value}, made for semantic segmentation.")
        task = "semantic"
    found = [
        preset
        for preset in PRESETS
        if dataset in (None, preset.dataset)
        and task in (None, preset.task)
        and (dataset is not None or preset.num_labels == architecture.num_labels)
    ]
    if len(found) > 1:
        panoptic = architecture.num_encoder_layers > 0
        found = [preset for preset in found if (preset.task == "panoptic") == panoptic]
    if not found:
        raise CheckpointError(
            f"The checkpoint has {architecture.num_labels} classes, dataset {dataset or 'not given'}, task "
            f"{task or 'not given'}: the original's model zoo has "
            + ", ".join(f"{known.dataset} ({known.task}, {known.num_labels} classes)" for known in PRESETS)
            + "."
        )
    preset = found[0]
    if preset.num_labels != architecture.num_labels:
        raise CheckpointError(
            f"The checkpoint has {architecture.num_labels} classes, but {preset.dataset} has {preset.num_labels}."
        )
    backbone = architecture.backbone
    if preset.dataset == "ade20k" and isinstance(backbone, SwinArchitecture) and backbone.window_size == 12:
        preset = replace(preset, shortest_edge=640, longest_edge=2560)  # Swin-B and -L saw larger crops
    return preset
