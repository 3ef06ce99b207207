"""A model -> an exported folder: one graph for all batch sizes and image sizes, config, image processor and card."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from image_processing.image_processing_maskformer import SegmentationImageProcessor

from ..common.batching import padded_size
from ..files.error_text import first_line
from ..inference.exported_folder import RUNTIMES, check_packages
from .card import write_export_card
from .graphs import RESULTS, LogitsGraph, PanopticGraph, SemanticGraph
from .quantization import quantizer_for


@dataclass(frozen=True)
class Format:
    """A format of exported graphs: transformers' classes for it, and the precisions it runs in."""

    exporter: str
    config: str
    dtypes: tuple[str, ...]
    has_int8: bool


FORMATS = {
    # ONNX Runtime has no bfloat16 convolution on a CPU
    "onnx": Format("OnnxExporter", "OnnxConfig", ("f32",), True),
    "openvino": Format("OpenVINOExporter", "OpenVINOConfig", ("f32", "bf16"), True),
    "torch": Format("DynamoExporter", "DynamoConfig", ("f32", "bf16"), False),
}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class ExportSettings:
    """How a model is exported.

    Attributes:
        format: a key of `FORMATS`.
        dtype: "f32" or "bf16", what the graph computes in.
        int8: convolutions and products of matrices in int8, what is left in `dtype`. Needs calibration images.
        result: "logits", or a finished result of `RESULTS` in the graph.
        size: (height, width) of all images; None: any. Of a graph that gives logits they may be smaller: who runs it
            pads them.

    Raises:
        ValueError: the format has no such precision, or a package it needs is not installed.
    """

    format: str
    dtype: str = "f32"
    int8: bool = False
    result: str = "logits"
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"There is no format {self.format!r}: choose one of {', '.join(FORMATS)}.")
        if self.result not in RESULTS:
            raise ValueError(f"A graph gives one of {', '.join(RESULTS)}, not {self.result!r}.")
        known = FORMATS[self.format]
        if self.dtype not in known.dtypes:
            raise ValueError(
                f"Graphs of format {self.format} run in {' or '.join(known.dtypes)}, not in {self.dtype}."
            )
        if self.int8 and not known.has_int8:
            quantized = ", ".join(name for name, other in FORMATS.items() if other.has_int8)
            raise ValueError(f"int8 graphs are of format {quantized}, not {self.format}.")
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"Height and width must be at least 1, got {self.size[0]} and {self.size[1]}.")
        check_packages(self.format, (*RUNTIMES.get(self.format, ()), *(("nncf",) if self.int8 else ())))

    @property
    def precision(self) -> str:
        """What the graph computes in: f32, bf16, or int8 and what is left."""
        return f"int8, the rest {self.dtype}" if self.int8 else self.dtype


def export_model(
    model: PreTrainedModel,
    image_processor: SegmentationImageProcessor,
    folder: Path,
    settings: ExportSettings,
    calibration: Sequence[Mapping[str, Tensor]] = (),
    origin: str = "a model",
) -> None:
    """Writes the graph of a model, its config, image processor and card into `folder`.

    Args:
        model: changed in place: in eval mode, and in float32, or for torch in the settings' dtype.
        image_processor: saved beside the graph, with a fixed size where the graph has one, and without `pad_size`
            where it gives a finished result.
        folder: empty, or does not exist yet.
        settings: what the graph is like.
        calibration: for int8, batches of training images, `{"pixel_values": (B, 3, H, W)}`.
        origin: what the card calls the model.

    Raises:
        ValueError: the folder is not empty, a finished result is none of the model's, or int8 without calibration.
        OSError: the folder cannot be written; nothing stays in it.
    """
    check_output(folder)
    if settings.int8 and not calibration:
        raise ValueError("An int8 graph is calibrated on training images, and got none.")
    exporters = importlib.import_module("transformers.exporters")
    known = FORMATS[settings.format]
    # OpenVINO rounds as it computes: rounded weights would only cost quality
    model.to(DTYPES[settings.dtype] if settings.format == "torch" else torch.float32)
    check_space(folder, model, settings)
    graph = build_graph(model.eval(), image_processor, settings.result)
    size = settings.size
    if size is not None and settings.result == "logits":
        size = padded_size(size)  # as the model pads it: the same is computed, and smaller images can be padded
    sample, dynamic = sample_and_axes(size)
    config = getattr(exporters, known.config)(
        dynamic=True,
        dynamic_shapes={"pixel_values": dynamic},
        **({"quantizer": quantizer_for(settings.format, calibration)} if settings.int8 else {}),
    )
    exported = getattr(exporters, known.exporter)().export(graph, {"pixel_values": sample}, config)
    for component in exported.components.values():
        component.metadata.export_config |= {
            "dtype": settings.dtype,
            "precision": settings.precision,
            "result": settings.result,
            "image_size": None if size is None else list(size),
        }
    if settings.size is not None:
        fix_size(image_processor, settings.size)
    elif settings.result != "logits":
        image_processor.pad_size = None  # a finished result does not say where the image ends and its padding begins
    with whole_folder(folder):
        exported.save_pretrained(folder)
        image_processor.save_pretrained(folder)
        write_export_card(folder, model, settings, origin)


def check_output(folder: Path) -> None:
    """Raises a ValueError unless the folder is empty or does not exist."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not an empty folder: give another one.")


def check_space(folder: Path, model: PreTrainedModel, settings: ExportSettings) -> None:
    """Raises an OSError where the disk has no room for the weights: writing them, torch would abort the process."""
    disk = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    needed = sum(weight.numel() * (1 if settings.int8 else weight.element_size()) for weight in model.parameters())
    free = shutil.disk_usage(disk).free
    if free < needed:
        raise OSError(
            f"The weights of the graph have some {needed / 1e6:.0f} MB, and the disk of {disk} has {free / 1e6:.0f} "
            "MB left: make room, or choose another folder."
        )


@contextmanager
def whole_folder(folder: Path) -> Iterator[None]:
    """Where a folder, which may not exist, is filled; if that fails, it is left as it was.

    It was empty when the export began, but that may be long ago: what somebody has put there since is not removed.

    Raises:
        OSError: a writer's error, whatever its kind, with the folder's name.
    """
    was_there = folder.exists()
    kept = set(folder.iterdir()) if was_there else set()
    try:
        yield
    except BaseException as error:
        for path in set(folder.iterdir()) - kept if folder.exists() else ():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        if not was_there and folder.exists():
            folder.rmdir()
        if isinstance(error, (OSError, RuntimeError)):  # OpenVINO raises the latter on a full disk
            raise OSError(f"{folder} cannot be written: {first_line(error)}.") from error
        raise


def fix_size(image_processor: SegmentationImageProcessor, size: tuple[int, int]) -> None:
    """Makes the image processor resize every image to (height, width)."""
    image_processor.do_resize = True
    image_processor.size = {"height": size[0], "width": size[1]}
    image_processor.size_divisor = 0
    image_processor.pad_size = None


def build_graph(model: PreTrainedModel, image_processor: SegmentationImageProcessor, result: str) -> LogitsGraph:
    """The module whose forward is exported.

    Raises:
        ValueError: a panoptic result of a per-pixel baseline, which tells no object from another.
    """
    if result == "logits":
        return LogitsGraph(model)
    if result == "semantic":
        return SemanticGraph(model)
    if not hasattr(model, "class_predictor"):
        raise ValueError("A per-pixel baseline has no panoptic result: it tells no object from another.")
    return PanopticGraph(model, getattr(image_processor, "label_ids_to_fuse", None) or ())


def sample_and_axes(size: tuple[int, int] | None) -> tuple[Tensor, dict]:
    """Example pixels, and which of their axes vary."""
    free = torch.export.Dim.DYNAMIC
    if size is None:  # the example's are multiples of nothing, so that nothing is taken for one
        return torch.randn(2, 3, 97, 61), {0: free, 2: free, 3: free}
    return torch.randn(2, 3, *size), {0: free}
