"""The original's `.pkl` checkpoints -> this package's models, without detectron2.

`load_original` does all of it; the steps are `read_checkpoint` (which executes nothing in the file),
`infer_architecture`, `convert_weights` and `build_config`.
"""

from .architecture import (
    Architecture,
    DecoderArchitecture,
    Kind,
    ResNetArchitecture,
    SwinArchitecture,
    infer_architecture,
)
from .convert import build_config, convert_weights, load_original, load_weights
from .errors import CheckpointError, LayoutError, UnsafeCheckpointError
from .presets import DATASETS, PRESET_TASKS, Preset, find_preset
from .unpickle import read_checkpoint

__all__ = [
    "DATASETS",
    "PRESET_TASKS",
    "Architecture",
    "CheckpointError",
    "DecoderArchitecture",
    "Kind",
    "LayoutError",
    "Preset",
    "ResNetArchitecture",
    "SwinArchitecture",
    "UnsafeCheckpointError",
    "build_config",
    "convert_weights",
    "find_preset",
    "infer_architecture",
    "load_original",
    "load_weights",
    "read_checkpoint",
]
