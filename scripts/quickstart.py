"""Shows everything once, in minutes and without any download: MaskFormer learns a generated dataset from scratch.

Trains on pictures of overlapping shapes (things) over wavy regions (stuff), measures panoptic quality on pictures it
has not seen, saves the model, loads it again as anyone would, and draws what it sees.

    python scripts/quickstart.py
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import AutoImageProcessor, AutoModelForUniversalSegmentation, pipeline

import modeling_maskformer  # noqa: F401  from here on, the Auto classes and pipelines use this package
from modeling_maskformer.training.arguments.argument_parser import ScriptArgumentParser
from modeling_maskformer.training.arguments.augmentation_arguments import AugmentationArguments
from modeling_maskformer.training.arguments.data_arguments import DataArguments
from modeling_maskformer.training.arguments.model_arguments import ModelArguments
from modeling_maskformer.training.arguments.run_arguments import RunArguments
from modeling_maskformer.training.run import prepare_training, run_training
from modeling_maskformer.training.trainer import MaskFormerTrainer


@dataclass
class QuickstartArguments:
    _argument_group_name = "quickstart"

    output_dir: str = field(
        default="outputs/quickstart", metadata={"help": "Folder for the model, its results and the pictures."}
    )
    overwrite_output_dir: bool = field(default=False, metadata={"help": "Replace an earlier run in that folder."})
    max_steps: int = field(default=850, metadata={"help": "Steps of training, of 8 pictures each."})
    seed: int = field(default=0, metadata={"help": "Seed of everything random."})


def main(argv: Sequence[str] | None = None) -> None:
    start = time.perf_counter()
    parser = ScriptArgumentParser((QuickstartArguments,), description=__doc__)
    (arguments,) = parser.parse(argv)
    try:
        trainer = prepare(arguments, (parser.prog, *parser.flags))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    run_training(trainer)
    check_saved_model(trainer)
    quality = trainer.evaluator.results["pq"]
    minutes = (time.perf_counter() - start) / 60
    print(
        f"\nPQ {quality:.3f} on {trainer.evaluator.num_images} held-out pictures after {minutes:.1f} minutes. "
        f"Model: {arguments.output_dir}  Pictures: {Path(arguments.output_dir) / 'pictures'}"
    )


def prepare(arguments: QuickstartArguments, command: Sequence[str]) -> MaskFormerTrainer:
    """A small MaskFormer on an untrained backbone, and shapes to learn from."""
    return prepare_training(
        DataArguments(dataset="shapes", task="panoptic", check_samples=0),
        ModelArguments(
            backbone="resnet10t",
            backbone_weights="random",
            fpn_feature_size=64,
            mask_feature_size=64,
            hidden_dim=96,
            decoder_layers=3,
            attention_heads=4,
            ffn_dim=256,
            num_queries=20,
            num_points=1024,
            importance_sample_ratio=0.0,
        ),
        AugmentationArguments(crop_size=[128], scale_range=[1.0, 1.0], colour_jitter=False),
        RunArguments(
            output_dir=arguments.output_dir,
            overwrite_output_dir=arguments.overwrite_output_dir,
            max_steps=arguments.max_steps,
            per_device_train_batch_size=8,
            per_device_eval_batch_size=8,
            learning_rate=1e-3,
            backbone_lr_factor=1.0,
            weight_decay=0.01,
            warmup_steps=50,
            logging_steps=100,
            eval_strategy="no",
            save_strategy="no",
            seed=arguments.seed,
        ),
        command,
    )


def check_saved_model(trainer: MaskFormerTrainer) -> None:
    """Loads what was saved in the two ways of transformers, and has one held-out picture segmented."""
    folder = trainer.args.output_dir
    picture = trainer.eval_dataset.samples[0].image
    processor = AutoImageProcessor.from_pretrained(folder)
    model = AutoModelForUniversalSegmentation.from_pretrained(folder)
    inputs = processor(images=picture, return_tensors="pt")
    with torch.inference_mode():
        outputs = model(**inputs)
        expected = trainer.model.eval()(**inputs.to(trainer.model.device))
    torch.testing.assert_close(outputs.masks_queries_logits, expected.masks_queries_logits.cpu(), rtol=1e-3, atol=1e-3)
    segment = pipeline("image-segmentation", model=folder)
    print("\npipeline('image-segmentation') finds in the first held-out picture:")
    for segment_found in segment(picture, threshold=0.8):
        print(f"  {segment_found['label']:<10} score {segment_found['score']:.2f}")


if __name__ == "__main__":
    main()
