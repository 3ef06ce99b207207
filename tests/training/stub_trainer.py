"""A trainer around a small stub model and pictures of squares: a run takes a moment."""

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import ModelOutput

from modeling_maskformer.evaluation.evaluator import Evaluator
from modeling_maskformer.targets import segments_from_class_map
from modeling_maskformer.training.arguments.arguments import MaskFormerTrainingArguments
from modeling_maskformer.training.trainer import MaskFormerTrainer

ID2LABEL = {0: "dark", 1: "bright"}


class ScriptedEvaluator(Evaluator):
    """Measures these scores, one after the other, whatever the predictions are."""

    def __init__(self, scores, processor):
        super().__init__("semantic", processor, ID2LABEL)
        self.scores = iter(scores)

    def compute(self):
        return super().compute() | {"mean_iou": next(self.scores)}


class StubConfig(PreTrainedConfig):
    model_type = "stub_segmenter"


class StubSegmenter(PreTrainedModel):
    """A 1x1 convolution with the inputs and outputs of MaskFormer: enough to learn "bright pixels are class 1"."""

    config_class = StubConfig
    main_input_name = "pixel_values"

    def __init__(self, config):
        super().__init__(config)
        self.classifier = nn.Conv2d(1, 2, 1)
        self.post_init()

    def forward(self, pixel_values, pixel_mask=None, segment_ids=None, class_labels=None):
        logits = self.classifier(pixel_values.to(self.dtype))  # (B, 2, H, W)
        loss = loss_dict = None
        if segment_ids is not None:
            target = torch.stack(
                [labels[ids[0].long() - 1] for ids, labels in zip(segment_ids, class_labels, strict=True)]
            )
            cross_entropy = nn.functional.cross_entropy(logits, target)
            loss_dict = {
                "loss_cross_entropy": cross_entropy,
                "loss_cross_entropy_0": 2 * cross_entropy,
                "loss_cross_entropy_1": 3 * cross_entropy,
            }
            loss = sum(loss_dict.values())
        return ModelOutput(loss=loss, loss_dict=loss_dict, masks_queries_logits=logits)


class StubProcessor(BaseImageProcessor):
    label_ids_to_fuse = None

    def post_process_semantic_segmentation(self, outputs, target_sizes, mask_resize):
        assert all(size == tuple(outputs.masks_queries_logits.shape[-2:]) for size in target_sizes)
        return list(outputs.masks_queries_logits.argmax(1))


class Squares(torch.utils.data.Dataset):
    """Pictures 4x4 with a bright top half; `noise` is drawn anew each time, as augmentation is."""

    def __init__(self, length, noise=0.0):
        self.length, self.noise = length, noise

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        class_map = torch.tensor([1, 1, 0, 0])[:, None].expand(4, 4)
        image = class_map + index / 100 + self.noise * torch.randn(4, 4)
        return image[None].float(), segments_from_class_map(class_map)


def collate(rows):
    return {
        "pixel_values": torch.stack([image for image, _ in rows]),
        "segment_ids": torch.stack([segments.ids for _, segments in rows]),
        "class_labels": [segments.class_ids for _, segments in rows],
    }


def collate_for_evaluation(rows):
    return collate(rows) | {"references": [segments for _, segments in rows], "names": ["unused"] * len(rows)}


def make_trainer(output_dir, train=8, evaluation=5, callbacks=None, noise=0.0, make_predictor=None, **arguments):
    defaults = {
        "per_device_train_batch_size": 2,
        "per_device_eval_batch_size": 2,
        "learning_rate": 0.1,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_strategy": "no",
    }
    processor = StubProcessor()
    torch.manual_seed(0)  # every trainer starts from the same weights
    return MaskFormerTrainer(
        StubSegmenter(StubConfig()),
        MaskFormerTrainingArguments(output_dir=str(output_dir), **(defaults | arguments)),
        image_processor=processor,
        train_dataset=Squares(train, noise),
        eval_dataset=Squares(evaluation),
        data_collator=collate,
        eval_data_collator=collate_for_evaluation,
        evaluator=Evaluator("semantic", processor, ID2LABEL),
        make_predictor=make_predictor,
        callbacks=callbacks,
    )
