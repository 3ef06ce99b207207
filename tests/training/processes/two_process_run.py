"""One step of training and one evaluation of a tiny model on four and five shapes; writes what was logged as JSON.

Run by test_two_processes.py, once alone and once as two processes.
"""

import json
import sys

import torch

from image_processing import MaskFormerImageProcessor
from modeling_maskformer import MaskFormerConfig, MaskFormerForInstanceSegmentation
from modeling_maskformer.data.shapes import ShapesDataset
from modeling_maskformer.data.views.collate import EvaluationCollator, SegmentationDataset, TrainingCollator
from modeling_maskformer.evaluation.evaluator import Evaluator
from modeling_maskformer.training.arguments.arguments import MaskFormerTrainingArguments
from modeling_maskformer.training.trainer import MaskFormerTrainer


def tiny_model(num_labels):
    torch.manual_seed(0)
    return MaskFormerForInstanceSegmentation(
        MaskFormerConfig(
            backbone_config={
                "model_type": "resnet",
                "embedding_size": 16,
                "hidden_sizes": [16, 32, 48, 64],
                "depths": [1, 1, 1, 1],
                "out_features": ["stage1", "stage2", "stage3", "stage4"],
            },
            decoder_config={
                "model_type": "detr",
                "d_model": 32,
                "decoder_layers": 2,
                "num_queries": 10,
                "decoder_attention_heads": 4,
                "decoder_ffn_dim": 32,
                "dropout": 0.0,  # so that the loss is the same however the images are spread
            },
            fpn_feature_size=64,
            mask_feature_size=64,
            num_labels=num_labels,
            mask_loss="dense",
        )
    )


def run(output_dir, batch_size):
    shapes = ShapesDataset(5, "semantic", size=64, seed=1)
    processor = MaskFormerImageProcessor(size={"height": 64, "width": 64}, label_ids_to_fuse=[5, 6, 7])
    trainer = MaskFormerTrainer(
        tiny_model(len(shapes.labels)),
        MaskFormerTrainingArguments(
            output_dir=output_dir,
            per_device_train_batch_size=batch_size,
            per_device_eval_batch_size=2,
            max_steps=1,
            logging_steps=1,
            train_sampling_strategy="sequential",
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        ),
        image_processor=processor,
        train_dataset=SegmentationDataset(ShapesDataset(4, "panoptic", size=64, max_things=3)),
        eval_dataset=SegmentationDataset(shapes),
        data_collator=TrainingCollator(),
        eval_data_collator=EvaluationCollator(processor),
        evaluator=Evaluator("semantic", processor, shapes.labels.id2label),
    )
    metrics = trainer.evaluate()
    num_images = trainer.evaluator.num_images
    trainer.train()
    logged = next(entry for entry in trainer.state.log_history if "loss" in entry)
    return {"num_images": num_images, **metrics, **logged}, trainer.is_world_process_zero()


if __name__ == "__main__":
    found, is_main = run(sys.argv[1], int(sys.argv[2]))
    if is_main:
        with open(f"{sys.argv[1]}/found.json", "w") as file:
            json.dump(found, file)
