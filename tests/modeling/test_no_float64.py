"""Apple's GPUs have no float64: on the way that every device but a CPU goes there is none, from pixels to results."""

import numpy as np
import pytest
import torch
from models import KINDS, batch_of, tiny
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from image_processing import MaskFormerImageProcessor, PerPixelImageProcessor, tiling
from modeling_maskformer.data.views import collate
from modeling_maskformer.data.views.collate import EvaluationCollator, TrainingCollator
from modeling_maskformer.evaluation.evaluator import Evaluator
from modeling_maskformer.inference.multi_scale import MultiScalePredictor
from modeling_maskformer.inference.predictor import Predictor
from modeling_maskformer.losses import assignment, point_sampling
from modeling_maskformer.targets import segments_from_class_map, segments_from_masks
from modeling_maskformer.training.arguments.arguments import MaskFormerTrainingArguments
from modeling_maskformer.training.trainer import MaskFormerTrainer

pytestmark = pytest.mark.usefixtures("plain_path")
SIZE = (50, 70)


class NoFloat64(TorchDispatchMode):
    """Raises where an operation takes or gives a float64 tensor, unless it is on the host by design."""

    on_the_host = False

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        result = operation(*arguments, **(keywords or {}))
        for value in torch.utils._pytree.tree_leaves((arguments, keywords, result)):
            if isinstance(value, torch.Tensor) and value.dtype == torch.float64 and not self.on_the_host:
                raise AssertionError(f"{operation} has a float64 tensor of shape {tuple(value.shape)}")
        return result

    def allow_in(self, function):
        """The function, which computes on the host whatever the device of the model is."""

        def run(*arguments, **options):
            self.on_the_host = True
            try:
                return function(*arguments, **options)
            finally:
                self.on_the_host = False

        return run


@pytest.fixture
def no_float64(monkeypatch):
    """The mode. Float64 may be in what the host works out in NumPy or once, to send it as int64 or float32."""
    mode = NoFloat64()
    monkeypatch.setattr(tiling, "use_tiles", lambda maps: False)
    for owner, name in (
        (assignment, "assign_on_host"),
        (point_sampling, "uniform_points"),
        (collate.PixelNormalization, "__init__"),
    ):
        monkeypatch.setattr(owner, name, mode.allow_in(getattr(owner, name)))
    return mode


def targets_of(form):
    batch = batch_of()
    if form == "masks":
        return batch
    segments = [
        segments_from_masks(masks, labels, size=tuple(masks.shape[-2:]))
        for masks, labels in zip(batch.pop("mask_labels"), batch["class_labels"], strict=True)
    ]
    layers = max(len(found.ids) for found in segments)
    ids = torch.zeros(len(segments), layers, *segments[0].size, dtype=segments[0].ids.dtype)
    for target, found in zip(ids, segments, strict=True):
        target[: len(found.ids)] = found.ids
    return batch | {"segment_ids": ids}


def confident(kind, backbone):
    """A model in eval mode whose queries differ, so that there are segments, and its processor."""
    model = tiny(kind, backbone).eval()
    if kind == "maskformer":
        with torch.no_grad():
            model.model.transformer_module.queries_embedder.weight.normal_(0, 10)
            model.class_predictor.weight.normal_(0, 3)
    processor_class = MaskFormerImageProcessor if kind == "maskformer" else PerPixelImageProcessor
    return model, processor_class(size={"height": 64, "width": 96}, label_ids_to_fuse=[0])


def pictures(count=2):
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (*SIZE, 3), dtype=np.uint8)) for _ in range(count)]


def test_the_mode_sees_a_float64():
    with pytest.raises(AssertionError, match="float64 tensor of shape"), NoFloat64():
        torch.ones(2) * torch.ones(2, dtype=torch.float64)


@pytest.mark.parametrize("form", ["masks", "ids"])
@pytest.mark.parametrize(
    ("kind", "backbone", "mask_loss"),
    [
        (kind, backbone, mask_loss)
        for kind, backbone in KINDS
        for mask_loss in (("dense", "points") if kind == "maskformer" else (None,))
    ],
)
def test_a_training_step_has_none(kind, backbone, mask_loss, form, no_float64):
    fields = {"mask_loss": mask_loss, "num_points": 200} if mask_loss else {}
    model, batch = tiny(kind, backbone, **fields), targets_of(form)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-3)
    batch["pixel_mask"] = torch.ones(2, 64, 96, dtype=torch.int64)
    batch["pixel_mask"][1, 48:] = 0
    with no_float64:
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        optimizer.step()
    assert loss.isfinite()


@pytest.mark.parametrize(("kind", "backbone"), KINDS)
def test_mixed_precision_has_none(kind, backbone, no_float64):
    model, batch = tiny(kind, backbone), batch_of()
    with no_float64, torch.autocast("cpu", torch.bfloat16):
        loss = model(**batch).loss
        loss.backward()
    assert loss.isfinite()


@pytest.mark.parametrize(("kind", "backbone"), KINDS)
def test_prediction_has_none(kind, backbone, no_float64):
    model, processor = confident(kind, backbone)
    tasks = ("semantic", "instance", "panoptic") if kind == "maskformer" else ("semantic",)
    with no_float64:
        for task in tasks:
            found = Predictor(model, processor, task, threshold=0.1)(pictures())
            assert task != "instance" or all(image["segments_info"] for image in found)
        batch = processor(pictures(), return_tensors="pt")
        with torch.no_grad():
            outputs = model(**batch)
        for mask_resize in ("logits", "scores"):
            for result in processor.post_process_semantic_segmentation(
                outputs, [SIZE] * 2, return_segmentation_scores=True, mask_resize=mask_resize
            ):
                assert result.segmentation_scores.dtype == torch.float32
        for task in tasks[1:]:
            post_process = getattr(processor, f"post_process_{task}_segmentation")
            for form in ({}, {"return_binary_maps": True}, {"return_coco_annotation": True}):
                post_process(outputs, target_sizes=[SIZE] * 2, threshold=0.1, **form)


@pytest.mark.parametrize(("kind", "backbone"), [("maskformer", "resnet"), ("per_pixel", "resnet")])
def test_test_time_augmentation_has_none(kind, backbone, no_float64):
    model, processor = confident(kind, backbone)
    predictor = MultiScalePredictor(model, processor, scales=[0.5, 1.0])
    with no_float64:
        assert predictor(pictures(1))[0].shape == SIZE


@pytest.mark.parametrize("kind", ["maskformer", "per_pixel"])
def test_a_trainer_s_steps_and_evaluation_have_none(kind, no_float64, tmp_path):
    model, processor = confident(kind, "resnet")
    class_map = torch.arange(SIZE[1]).div(14, rounding_mode="floor").expand(SIZE)
    rows = [
        {
            "image": torch.from_numpy(np.array(image)).permute(2, 0, 1),
            "segments": segments_from_class_map(class_map),
            "name": str(number),
            "image_id": number,
        }
        for number, image in enumerate(pictures(3))
    ]
    trainer = MaskFormerTrainer(
        model,
        MaskFormerTrainingArguments(
            output_dir=str(tmp_path),
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
            per_device_train_batch_size=2,
            per_device_eval_batch_size=2,
            max_steps=2,
            logging_steps=1,
            eval_loss=True,
        ),
        image_processor=processor,
        train_dataset=rows,
        eval_dataset=rows,
        data_collator=TrainingCollator(),
        eval_data_collator=EvaluationCollator(processor),
        evaluator=Evaluator("semantic", processor, {label: str(label) for label in range(5)}),
    )
    with no_float64:
        trainer.train()
        metrics = trainer.evaluate()
    assert trainer.state.global_step == 2 and np.isfinite(metrics["eval_loss"])
