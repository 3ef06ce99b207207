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

from ..data.errors import DataError, WorkerError
from ..training.arguments.argument_parser import ScriptArgumentParser
from ..training.arguments.augmentation_arguments import AugmentationArguments
from ..training.arguments.data_arguments import DataArguments
from ..training.arguments.model_arguments import ModelArguments
from ..training.arguments.run_arguments import EVERYDAY_FIELDS, RunArguments
from ..training.first_process import leave_processes
from ..training.run import prepare_training, run_training
from ..training.saving.checkpointing import NotSavedError


def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser()
    data, model, augmentation, run = parser.parse(argv)
    try:
        trainer = prepare_training(data, model, augmentation, run, (parser.prog, *parser.flags))
    except (ValueError, OSError, ImportError) as error:
        parser.error(str(error))
    try:
        run_training(trainer)
    except (DataError, WorkerError, FloatingPointError, NotSavedError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    leave_processes()


def make_parser() -> ScriptArgumentParser:
    """What reads the command line, or a file such as those in scripts/recipes/."""
    return ScriptArgumentParser(
        (DataArguments, ModelArguments, AugmentationArguments, RunArguments), EVERYDAY_FIELDS, __doc__, "train"
    )


if __name__ == "__main__":  # accelerate launch -m modeling_maskformer.commands.train
    main()
