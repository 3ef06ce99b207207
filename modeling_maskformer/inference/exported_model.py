"""An exported folder behind the call of a model: pixels -> the logits that post-processing reads."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ..batching import pad_to, run_at_any_size
from ..configuration_per_pixel import PerPixelBaselineConfig
from ..modeling_maskformer import MaskFormerForInstanceSegmentationOutput, check_pixels
from ..modeling_per_pixel import PerPixelSegmentationOutput

MANIFEST = "export.json"  # transformers' exporters write it


def is_exported(folder: str | os.PathLike) -> bool:
    """Whether a local folder holds an exported graph."""
    return (Path(folder) / MANIFEST).is_file()


class ExportedSegmentationModel(PreTrainedModel):
    """Callable like the model that was exported, on its runtime: ONNX Runtime (on CUDA where it can), OpenVINO, torch.

    Images of several sizes in a batch run apart, as in the model itself, so that none feels the others' padding.

    Args:
        exported: transformers' `ExportedModel` of a graph that gives logits.

    Attributes:
        precision: what the graph computes in.
        image_size: (height, width) that all images are padded to; None: the graph takes any size.
    """

    main_input_name = "pixel_values"
    input_modalities = ("image",)

    def __init__(self, exported: Any):
        super().__init__(exported.config)
        self.exported = exported
        (component,) = exported.components.values()
        made = component.metadata.export_config
        self.precision = made.get("precision", component.metadata.export_dtype)
        self.image_size = None if made.get("image_size") is None else tuple(made["image_size"])
        is_per_pixel = isinstance(exported.config, PerPixelBaselineConfig)
        self.output_class = PerPixelSegmentationOutput if is_per_pixel else MaskFormerForInstanceSegmentationOutput
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the graph runs."""
        return self.exported.device

    @property
    def dtype(self) -> torch.dtype:
        """Of what goes in and comes out; see `precision` for what is in between."""
        return torch.float32

    def to(self, device: torch.device | str | int | None = None, *_: Any, **__: Any) -> ExportedSegmentationModel:
        """Moves the graph to a device where its runtime can; OpenVINO and an ONNX Runtime of CPUs stay on the CPU."""
        if isinstance(device, int):
            device = torch.device("cuda", device)
        if device is None or isinstance(device, torch.dtype) or torch.device(device).type == self.device.type:
            return self
        if can_run_on(self.exported.export_format, torch.device(device)):
            self.exported.to(device)
        return self

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor | None = None) -> ModelOutput:
        """Logits of each query or pixel, on the CPU or GPU where the graph runs.

        Args:
            pixel_values: `(B, 3, H, W)` normalised pixels, any H and W up to `image_size`.
            pixel_mask: `(B, H, W)`, 1 at pixels of the image and 0 at padding, which is right of and below the image.
        """
        check_pixels(pixel_values, pixel_mask)
        pixels = pixel_values.to(self.device, torch.float32)
        return run_at_any_size(self._run, pixels, None if pixel_mask is None else pixel_mask.to(self.device))

    def _run(self, pixels: Tensor) -> ModelOutput:
        if self.image_size is not None:
            if any(length > most for length, most in zip(pixels.shape[-2:], self.image_size, strict=True)):
                raise ValueError(
                    f"pixel_values has images of {tuple(pixels.shape[-2:])} with their padding, and this graph was "
                    f"exported for images of at most {self.image_size}."
                )
            pixels = pad_to(pixels, self.image_size)
        return self.output_class(**self.exported(pixel_values=pixels.contiguous()))


def load_exported_model(folder: str | os.PathLike, trust_remote_code: bool = False) -> ExportedSegmentationModel:
    """The model of an exported folder, on its runtime.

    Args:
        folder: what `maskformer export` wrote.
        trust_remote_code: folders of format torch hold pickled code: whether to open them.

    Raises:
        ValueError: the graph gives a finished result, which no post-processing reads; its runtime is not installed; or
            it is of format torch and not trusted.
    """
    from transformers.exporters import ExportedModel  # since 5.24, and slow to import

    settings: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    manifest = json.loads((Path(folder) / MANIFEST).read_text(encoding="utf-8"))
    if manifest["export_format"] == "openvino":
        # untold, OpenVINO chooses the device, and computes in bfloat16 on a CPU that can, whatever the graph says
        (entry,) = manifest["components"].values()
        dtype = entry["metadata"]["export_config"].get("dtype", "f32")
        settings |= {"device": "cpu", "config": {"INFERENCE_PRECISION_HINT": dtype}}
    try:
        exported = ExportedModel.from_pretrained(folder, **settings)
    except ImportError as error:
        raise ValueError(
            f"{folder} needs what is not installed, pip install modeling-maskformer[export]: {error}"
        ) from error
    (component,) = exported.components.values()
    result = component.metadata.export_config.get("result", "logits")
    if result != "logits":
        raise ValueError(
            f"The graph in {folder} gives the finished {result} result: run it by "
            "transformers.exporters.ExportedModel.from_pretrained(folder)(pixel_values=...), or export without --with."
        )
    return ExportedSegmentationModel(exported)


def can_run_on(export_format: str, device: torch.device) -> bool:
    """Whether the runtime of a format runs on a device here."""
    if device.type == "cpu":
        return True
    if export_format == "onnx":
        import onnxruntime

        return device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    return export_format == "dynamo"
