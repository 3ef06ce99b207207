"""A model of half-precision weights takes what processors return, and everything after it reads what it puts out."""

import numpy as np
import pytest
import torch
from models import KINDS, batch_of, logits_of, tiny
from PIL import Image
from transformers import Trainer, TrainingArguments, pipeline
from transformers.utils import ModelOutput

from image_processing import MaskFormerImageProcessor, PerPixelImageProcessor
from modeling_maskformer.inference.multi_scale import MultiScalePredictor
from modeling_maskformer.inference.predictor import Predictor, post_process

HALF = [torch.bfloat16, torch.float16]


def confident(kind="maskformer", backbone="resnet", dtype=torch.bfloat16):
    """A model in eval mode whose queries differ, so that there are segments."""
    model = tiny(kind, backbone).eval()
    if kind == "maskformer":
        with torch.no_grad():
            model.model.transformer_module.queries_embedder.weight.normal_(0, 10)
            model.class_predictor.weight.normal_(0, 3)
    return model.to(dtype)


def processor_of(kind="maskformer"):
    processor_class = MaskFormerImageProcessor if kind == "maskformer" else PerPixelImageProcessor
    return processor_class(size={"height": 64, "width": 96}, label_ids_to_fuse=[0])


def pictures(count=2):
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (50, 70, 3), dtype=np.uint8)) for _ in range(count)]


def outputs_of_cast_pixels(model, processor, images, **options):
    batch = processor(images, return_tensors="pt", **options)
    with torch.no_grad():
        return model(batch["pixel_values"].to(model.dtype), pixel_mask=batch["pixel_mask"])


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(
    ("kind", "backbone", "task"),
    [
        *((kind, backbone, "semantic") for kind, backbone in KINDS),
        ("maskformer", "resnet", "instance"),
        ("maskformer", "resnet", "panoptic"),
    ],
)
def test_a_predictor_gives_what_pixels_cast_by_hand_give(kind, backbone, task, dtype):
    model, processor = confident(kind, backbone, dtype), processor_of(kind)
    outputs = outputs_of_cast_pixels(model, processor, pictures())
    assert all(value.isfinite().all() for name, value in outputs.items() if name.endswith("logits"))
    expected = post_process(task, processor, outputs, [(50, 70)] * 2, 0.1)
    found = Predictor(model, processor, task, threshold=0.1)(pictures())
    if task == "semantic":
        assert all(map(torch.equal, found, expected))
    else:
        assert [image["segments_info"] for image in found] == [image["segments_info"] for image in expected]
        assert all(image["segments_info"] for image in found)


def test_test_time_augmentation_sums_scores_in_float32():
    model, processor = confident(), processor_of()
    (image,) = pictures(1)
    size = {"height": 32, "width": 48}
    views = []
    for options in ({"size": size}, {}):
        outputs = outputs_of_cast_pixels(model, processor, [image], **options)
        (result,) = processor.post_process_semantic_segmentation(outputs, [(50, 70)], return_segmentation_scores=True)
        views.append(result.segmentation_scores.double())
    scores = MultiScalePredictor(model, processor, scales=[0.5, 1.0], flip=False).mean_scores(image)
    assert scores.dtype == torch.float32 and scores.isfinite().all()
    torch.testing.assert_close(scores.double(), torch.stack(views).mean(0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("subtask", ["semantic", "instance", "panoptic"])
def test_the_pipeline_gives_what_pixels_cast_by_hand_give(subtask):
    model, processor = confident(), processor_of()
    (image,) = pictures(1)
    options = {} if subtask == "semantic" else {"threshold": 0.1, "overlap_mask_area_threshold": 0.0}
    found = pipeline("image-segmentation", model=model, image_processor=processor)(image, subtask=subtask, **options)
    outputs = outputs_of_cast_pixels(model, processor, [image])
    post_processing = getattr(processor, f"post_process_{subtask}_segmentation")
    (expected,) = post_processing(outputs, target_sizes=[(50, 70)], **options)
    if subtask == "semantic":
        areas = [(expected == label).sum().item() for label in expected.unique().tolist()]
    else:
        assert [result["score"] for result in found] == [info["score"] for info in expected["segments_info"]]
        areas = [(expected["segmentation"] == info["id"]).sum().item() for info in expected["segments_info"]]
    assert areas and [int((np.asarray(result["mask"]) > 0).sum()) for result in found] == areas


@pytest.mark.parametrize(("kind", "backbone"), KINDS)
def test_trainer_s_bf16_full_eval_gives_what_a_model_cast_by_hand_does(kind, backbone, tmp_path):
    batch = batch_of(batch_size=2)
    arguments = TrainingArguments(
        tmp_path,
        use_cpu=True,
        report_to=[],
        bf16_full_eval=True,
        per_device_eval_batch_size=1,
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["mask_labels", "class_labels"],
    )
    model = confident(kind, backbone, torch.float32)
    found = Trainer(model, arguments, data_collator=lambda rows: rows[0], eval_dataset=[batch]).predict([batch])
    by_hand = confident(kind, backbone)
    with torch.no_grad():
        expected = by_hand(**batch | {"pixel_values": batch["pixel_values"].bfloat16()})
    assert found.metrics["test_loss"] == pytest.approx(expected.loss.item(), rel=1e-5)
    names = ["logits"] if kind != "maskformer" else ["class_queries_logits", "masks_queries_logits"]
    arrays = [torch.from_numpy(array) for array in found.predictions]
    outputs = ModelOutput(dict(zip([*names, "image_sizes"], arrays, strict=True)))
    for name in names:
        assert outputs[name].isfinite().all() and torch.equal(outputs[name], expected[name].float())
    processor = processor_of(kind)
    for some, other in zip(
        processor.post_process_semantic_segmentation(outputs),
        processor.post_process_semantic_segmentation(expected),
        strict=True,
    ):
        assert torch.equal(some, other)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(("kind", "backbone"), KINDS)
def test_a_saved_model_comes_back_in_its_precision(kind, backbone, dtype, tmp_path):
    model = confident(kind, backbone, dtype)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path, dtype="auto").eval()
    assert again.dtype == dtype
    processor = processor_of(kind)
    found, expected = (Predictor(each, processor, "semantic")(pictures()) for each in (again, model))
    assert all(map(torch.equal, found, expected))
    full = type(model).from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert full.dtype == torch.float32
    pixels = processor(pictures(), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        exact, rounded = (logits_of(each(pixels)) for each in (full, again))
    assert rounded.dtype == dtype
    error = (rounded.float() - exact).abs().mean() / exact.abs().mean()
    assert 0 < error < 0.1
