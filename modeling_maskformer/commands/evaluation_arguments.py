"""EvaluationArguments: what `maskformer evaluate` measures, how, and where it writes that."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..evaluation.metrics.mask_ap import MAX_DETECTIONS
from ..evaluation.report_files import errors_folder, unused_file

DEFAULT_FILE = "evaluation.json"


@dataclass
class EvaluationArguments:
    _argument_group_name = "evaluation"

    model: str = field(metadata={"help": "Checkpoint: a folder, or a name on the Hub."})
    output_file: str | None = field(
        default=None,
        metadata={
            "help": f"JSON file for all numbers. Default: {DEFAULT_FILE}, with a number where that is there already."
        },
    )
    overwrite: bool = field(
        default=False, metadata={"help": f"Replace --output_file, or {DEFAULT_FILE}, and the errors beside it."}
    )
    panoptic_threshold: float = field(
        default=0.8, metadata={"help": "Least class probability of a panoptic segment (paper: 0.8; on ADE20K 0.7)."}
    )
    max_detections: int = field(
        default=MAX_DETECTIONS,
        metadata={
            "help": "Of instance segmentation, how many detections of an image and class count, the surest. "
            "COCO's is 100; pictures with more objects need a larger one."
        },
    )
    mask_resize: Literal["logits", "scores"] = field(
        default="logits",
        metadata={
            "help": "Semantic segmentation: resize mask logits to the image before scoring classes (the paper), or "
            "resize the scores (what transformers does)."
        },
    )
    shortest_edge: list[int] = field(
        default_factory=list,
        metadata={
            "help": "Resize images to this short edge; the bound of the long one changes in proportion. Several: "
            "measure at each, and say which is best. Default: what the checkpoint's processor says."
        },
    )
    sweep: bool = field(
        default=False, metadata={"help": "Try short edges around the checkpoint's own, and say which is best."}
    )
    num_pictures: int = field(
        default=8,
        metadata={
            "help": f"Worst images to draw, into a folder named after the file for all numbers, as "
            f"{errors_folder(Path(DEFAULT_FILE)).name}/ beside {DEFAULT_FILE}, with a confusion matrix (semantic) or "
            "the kinds of errors (instance, panoptic); 0 for none of these."
        },
    )
    batch_size: int = field(default=1, metadata={"help": "Images, or tiles, per device and step."})
    num_workers: int | None = field(
        default=None,
        metadata={
            "help": "Processes that read images; 0: none but this one. Default: on a GPU by the CPU cores there are, "
            "on a CPU 0."
        },
    )
    dtype: Literal["float32", "bfloat16", "float16"] = field(
        default="float32", metadata={"help": "Compute in this precision; those of 16 bits are mixed precision."}
    )
    compile: bool = field(default=False, metadata={"help": "Compile the model (torch.compile)."})
    use_cpu: bool = field(default=False, metadata={"help": "Do not use a GPU that is there."})
    trust_remote_code: bool = field(
        default=False, metadata={"help": "Open an exported folder of format torch, which holds pickled code."}
    )

    def __post_init__(self) -> None:
        if not 0 <= self.panoptic_threshold <= 1:
            raise ValueError(f"--panoptic_threshold must lie in [0, 1], got {self.panoptic_threshold}.")
        if self.max_detections < 1:
            raise ValueError(f"--max_detections must be at least 1, got {self.max_detections}.")
        if self.num_pictures < 0:
            raise ValueError(f"--num_pictures must be at least 0, got {self.num_pictures}.")
        if self.batch_size < 1:
            raise ValueError(f"--batch_size must be at least 1, got {self.batch_size}.")
        if self.num_workers is not None and self.num_workers < 0:
            raise ValueError(f"--num_workers must be at least 0, got {self.num_workers}.")

    def path(self) -> Path:
        """The file for all numbers."""
        path = Path(self.output_file or DEFAULT_FILE)
        return path if self.output_file or self.overwrite else unused_file(path, self.num_pictures > 0)
