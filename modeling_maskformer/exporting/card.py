"""The card of an exported folder: what it is of, what it computes in, and how to run it."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from transformers import PreTrainedModel
from transformers.utils import logging

from ..files.whole_file import whole_file
from ..training.cards.card_text import CARD_NAME, is_signed, render_card, sign, table_cell, unsigned
from ..training.hardware import versions

logger = logging.get_logger(__name__)

TEMPLATE = Path(__file__).with_name("export_card.md.jinja")
QUALITY_ROW = "Quality of this folder"
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
        quality_row=QUALITY_ROW,
        trust=" --trust_remote_code" if settings.format == "torch" else "",
    )
    (folder / CARD_NAME).write_text(sign(text), encoding="utf-8")


def record_quality(folder: Path, quality: str) -> None:
    """Writes what was measured of an exported folder into its card, unless somebody has edited that.

    Where the card cannot be written, as in a folder that is only to be read, a warning says so: it is no part of what
    was measured.
    """
    path = folder / CARD_NAME
    try:
        if not is_signed(path):
            return
        rows = unsigned(path.read_text(encoding="utf-8")).split("\n")
        start = f"| {QUALITY_ROW} |"
        rows = [f"{start} {table_cell(quality)} |" if row.startswith(start) else row for row in rows]
        with whole_file(path) as file:
            file.write_text(sign("\n".join(rows)), encoding="utf-8")
    except OSError as error:
        logger.warning(f"The card {path} does not say what was measured, since it cannot be written: {error}.")
