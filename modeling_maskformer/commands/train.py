r"""Trains MaskFormer on your own data: semantic, instance or panoptic segmentation.

For example, from a backbone with weights in a local file:

    maskformer train --dataset data/street --task semantic --backbone tf_efficientnet_lite0 \
        --backbone_weights tf_efficientnet_lite0.safetensors --output_dir outputs/street --num_train_epochs 24

or from a checkpoint, whose classes are replaced by those of the dataset:

    maskformer train --dataset data/cells --task instance --model facebook/maskformer-swin-tiny-coco \
        --output_dir outputs/cells

or with the settings in a file, which flags override:

    maskformer train run.yaml --seed 1

The paper's own settings are such files, in the repository's scripts/recipes/.
Several devices: accelerate launch -m modeling_maskformer.commands.train ...
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..data.errors import DataError, WorkerError
from ..training.arguments.argument_parser import ScriptArgumentParser
from ..training.arguments.augmentation_arguments import AugmentationArguments
from ..training.arguments.data_arguments import DataArguments
from ..training.arguments.model_arguments import ModelArguments
from ..training.arguments.run_arguments import EVERYDAY_FIELDS, RunArguments
from ..training.first_process import leave_processes
from ..training.run import GO_ON, prepare_training, run_training
from ..training.saving.checkpoint_folders import last_checkpoint
from ..training.saving.checkpointing import NotSavedError
from ..training.saving.only_run import FolderInUseError
from ..training.trainer import MaskFormerTrainer
from .broken_off import saying_when_broken_off


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser()
    data, model, augmentation, run = parser.parse(argv)
    try:
        with saying_when_broken_off(lambda: f"{parser.prog}: The run was broken off before its training began."):
            trainer = prepare_training(data, model, augmentation, run, (parser.prog, *parser.flags))
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))
    try:
        with saying_when_broken_off(lambda: f"{parser.prog}: {broken_off(trainer)}"):
            run_training(trainer)
    except (DataError, WorkerError, FolderInUseError, FloatingPointError, NotSavedError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    leave_processes()


def broken_off(trainer: MaskFormerTrainer) -> str:
    """After which step a run was ended by hand, and how to go on."""
    checkpoint = last_checkpoint(Path(trainer.args.output_dir))
    kept = "there is no checkpoint yet" if checkpoint is None else f"{GO_ON}, from {checkpoint.name}"
    return f"The run was broken off after step {trainer.state.global_step}: {kept}."


def make_parser() -> ScriptArgumentParser:
    """What reads the command line, or a file such as those in scripts/recipes/."""
    return ScriptArgumentParser(
        (DataArguments, ModelArguments, AugmentationArguments, RunArguments), EVERYDAY_FIELDS, __doc__, "train"
    )


if __name__ == "__main__":  # accelerate launch -m modeling_maskformer.commands.train
    main()
