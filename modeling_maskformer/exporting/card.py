"""The card of an exported folder: what it is of, what it computes in, and how to run it."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from transformers import PreTrainedModel

from ..training.cards.card_text import CARD_NAME, render_card, sign
from ..training.hardware import versions

TEMPLATE = Path(__file__).with_name("export_card.md.jinja")
RUNTIMES = ("onnx", "onnxruntime", "openvino", "nncf")


def write_export_card(folder: Path, model: PreTrainedModel, settings: Any, origin: str) -> None:
    """Writes README.md into the folder; `settings` are `ExportSettings`."""
    found = versions()
    for name in RUNTIMES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    text = render_card(
        TEMPLATE.read_text(encoding="utf-8"),
        ModelCardData(pipeline_tag="image-segmentation", tags=["maskformer", settings.format]),
        origin=origin,
        architecture=type(model).__name__,
        num_labels=model.config.num_labels,
        settings=settings,
        versions=found,
    )
    (folder / CARD_NAME).write_text(sign(text), encoding="utf-8")
