"""An exported folder behind the call of a model: pixels -> the logits that post-processing reads."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput, logging
from transformers.utils.generic import can_return_tuple

from ..common.batching import SIZE_DIVISOR, pad_to, run_at_any_size
from ..common.input_checks import check_pixels
from ..configuration_per_pixel import PerPixelBaselineConfig
from ..modeling_maskformer import MaskFormerForInstanceSegmentationOutput
from ..modeling_per_pixel import PerPixelSegmentationOutput

logger = logging.get_logger(__name__)

ABSENT = ("output_auxiliary_logits", "output_hidden_states", "output_attentions")  # what a model can be asked for


class ExportedSegmentationModel(PreTrainedModel):
    """Callable like the model that was exported, on its runtime: ONNX Runtime (on CUDA where it can), OpenVINO, torch.

    Images of several sizes in a batch run apart, as in the model itself, so that none feels the others' padding. Calls
    of several threads run one after another.

    Args:
        exported: transformers' `ExportedModel` of a graph that gives logits.
        folder: that it was loaded from.

    Attributes:
        precision: what the graph computes in.
        image_size: (height, width) that all images are padded to; None: the graph takes any size.
    """

    main_input_name = "pixel_values"
    input_modalities = ("image",)

    def __init__(self, exported: Any, folder: str | os.PathLike):
        super().__init__(exported.config)
        self.exported = exported
        self.folder = Path(folder)
        self._running = Lock()  # OpenVINO refuses a call during another
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

    def to(
        self, device: torch.device | torch.dtype | str | int | None = None, dtype: torch.dtype | None = None
    ) -> ExportedSegmentationModel:
        """Moves the graph to a device where its runtime can; OpenVINO and an ONNX Runtime of CPUs stay on the CPU.

        Raises:
            ValueError: it is to compute in another dtype.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        if dtype not in (None, self.dtype):
            raise ValueError(f"The exported graph in {self.folder} computes in {self.precision}, not in {dtype}.")
        if device is None:
            return self
        device = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
        if device.type == self.device.type:
            return self
        if can_run_on(self.exported.export_format, device):
            self.exported.to(device)
        else:  # no error: pipelines and trainers take every model to a GPU that is there
            logger.warning_once(f"The graph in {self.folder} stays on the {self.device}: it cannot run on {device}.")
        return self

    def graph_files(self) -> list[Path]:
        """The files that hold the graph and its weights."""
        texts = (".json", ".md")
        return sorted(path for path in self.folder.iterdir() if path.is_file() and path.suffix not in texts)

    def save_pretrained(self, save_directory: str | os.PathLike, *_: Any, **settings: Any) -> None:
        """Writes graph and config into a folder; arguments as for transformers' `ExportedModel`."""
        self.exported.save_pretrained(save_directory, **settings)

    @can_return_tuple
    def forward(
        self, pixel_values: Tensor, pixel_mask: Tensor | None = None, **others: Any
    ) -> ModelOutput | tuple[Tensor, ...]:
        """Logits of each query or pixel, on the CPU or GPU where the graph runs.

        Args:
            pixel_values: `(B, 3, H, W)` normalised pixels, any H and W up to `image_size`.
            pixel_mask: `(B, H, W)`, 1 at pixels of the image and 0 at padding, which is right of and below the image.
            return_dict: False for a plain tuple.

        Other keywords, such as the targets in a batch, are not read: a graph gives no loss.

        Raises:
            ValueError: the pixels or their mask are of another shape, or a field is asked for that a graph has not.
        """
        asked = [name for name in ABSENT if others.get(name)]
        if asked:
            raise ValueError(
                f"The exported graph in {self.folder} has no {', '.join(asked)}: it gives logits alone. Load the "
                "checkpoint that it was made of."
            )
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
        try:
            with self._running:
                return self.output_class(**self.exported(pixel_values=pixels.contiguous()))
        except AssertionError as error:  # torch's graphs check that an axis is none that they were captured without
            height, width = pixels.shape[-2:]
            raise ValueError(
                f"The graph in {self.folder} takes no images of {height}x{width} pixels, their padding included: "
                f"{error}. Graphs of format torch take sides of more than {SIZE_DIVISOR} pixels."
            ) from error


def can_run_on(export_format: str, device: torch.device) -> bool:
    """Whether the runtime of a format runs on a device here."""
    if device.type == "cpu":
        return True
    if export_format == "onnx":
        import onnxruntime

        return device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    return export_format == "dynamo"
