"""Predictor.from_pretrained: pictures in, predictions and drawings out, as the parts of it give them."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_model

from image_processing import MaskFormerImageProcessor, draw_instances, draw_semantic
from image_processing.drawing.colors import class_color
from modeling_maskformer import Predictor
from modeling_maskformer.inference.draw_prediction import draw_prediction

ID2LABEL = {0: "sky", 1: "road", 2: "car"}


@pytest.fixture(scope="module", params=["semantic", "instance", "panoptic"])
def checkpoint(request, tmp_path_factory):
    """The folder of a model that was made for a task, and the task."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    tiny_model(num_labels=3, id2label=ID2LABEL, segmentation_task=request.param).save_pretrained(folder)
    MaskFormerImageProcessor(size={"shortest_edge": 32, "longest_edge": 64}).save_pretrained(folder)
    return folder, request.param


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8))


def test_task_and_threshold_come_from_the_checkpoint(checkpoint):
    predictor = Predictor.from_pretrained(*checkpoint[:1], device="cpu")
    assert predictor.task == checkpoint[1] and not predictor.model.training
    assert predictor.threshold == {"semantic": 0.0, "instance": 0.5, "panoptic": 0.8}[checkpoint[1]]
    assert Predictor(predictor.model, predictor.image_processor, predictor.task).threshold == predictor.threshold


def test_each_picture_gets_a_prediction_and_a_drawing_of_it(checkpoint, image):
    predictor = Predictor.from_pretrained(checkpoint[0], threshold=0.0, device="cpu")
    wide = image.resize((64, 20))
    predictions = predictor([image, wide])
    for picture, prediction in zip([image, wide], predictions, strict=True):
        drawn = predictor.draw(picture, prediction)
        if predictor.task == "semantic":
            assert prediction.shape == (picture.height, picture.width)
            expected = draw_semantic(picture, prediction, ID2LABEL)
        else:
            expected = draw_instances(picture, prediction, ID2LABEL)
        assert np.array_equal(drawn, expected)
    assert not np.array_equal(predictor.draw(image, predictions[0]), image.resize(drawn.size))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_every_class_of_many_is_drawn_and_named(dtype):
    classes = torch.full((400, 500), 254, dtype=dtype)
    classes[:, 250:] = 255
    white, names = Image.new("RGB", (500, 400), "white"), {label: str(label) for label in range(847)}
    drawn = draw_prediction("semantic", white, classes, names)
    for column, label in ((10, 254), (490, 255)):
        expected = 0.45 * 255 + 0.55 * np.array(class_color(label))
        assert np.abs(drawn.getpixel((column, 10)) - expected).max() <= 1
    unnamed = draw_prediction("semantic", white, classes, names | {255: ""})
    assert (np.asarray(drawn) != np.asarray(unnamed))[:, 250:].any()


def test_another_task_is_chosen_by_name(checkpoint, image):
    predictor = Predictor.from_pretrained(checkpoint[0], task="semantic", device="cpu")
    inputs = predictor.image_processor(images=[image], return_tensors="pt")
    with torch.inference_mode():
        outputs = predictor.model(**inputs)
    (expected,) = predictor.image_processor.post_process_semantic_segmentation(outputs, target_sizes=[(30, 40)])
    assert torch.equal(predictor([image])[0], expected)


def test_grey_pictures_and_those_with_a_palette_or_alpha_are_taken_as_rgb(checkpoint, image):
    predictor = Predictor.from_pretrained(checkpoint[0], task="semantic", device="cpu")
    for mode in ("L", "P", "RGBA"):
        picture = image.convert(mode)
        assert torch.equal(predictor([picture])[0], predictor([picture.convert("RGB")])[0])


def test_what_cannot_be_predicted_is_a_sentence(checkpoint, image, tmp_path):
    predictor = Predictor.from_pretrained(checkpoint[0], device="cpu")
    with pytest.raises(ValueError, match=r"more than 8 bits a channel \(mode I;16\)"):
        predictor([Image.fromarray(np.zeros((4, 4), np.uint16))])
    with pytest.raises(ValueError, match="There is no checkpoint folder"):
        Predictor.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"cannot be loaded: .*\. There is no such folder here, so it was"):
        Predictor.from_pretrained("outputs/nowhere")
    tiny_model(num_labels=3, id2label=ID2LABEL).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="does not say what it was trained for"):
        Predictor.from_pretrained(tmp_path)
