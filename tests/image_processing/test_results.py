"""Files of results are what COCO's tools and image readers expect."""

import json

import numpy as np
import pytest
import torch
from inference_cases import confident_case
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from image_processing import MaskFormerImageProcessor
from image_processing.results import (
    coco_categories,
    coco_instances,
    encode_mask,
    encode_runs,
    ids_to_rgb,
    panoptic_segments,
    rgb_to_ids,
    runs_of_mask,
    save_class_map,
    save_panoptic,
)

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def outputs():
    class_logits, mask_logits = confident_case()
    return type("Outputs", (), {"class_queries_logits": class_logits[None], "masks_queries_logits": mask_logits[None]})


def test_a_panoptic_image_holds_its_ids(tmp_path, outputs):
    result = MaskFormerImageProcessor().post_process_panoptic_segmentation(outputs, target_sizes=[(96, 120)])[0]
    entry = save_panoptic(
        result, tmp_path / "000.png", image_id=7, category_ids={label: 100 + label for label in range(12)}
    )
    assert json.loads(json.dumps(entry)) == entry
    assert entry["image_id"] == 7 and entry["file_name"] == "000.png" and len(entry["segments_info"]) > 2
    ids = rgb_to_ids(Image.open(tmp_path / "000.png"))
    np.testing.assert_array_equal(ids, result["segmentation"].numpy())
    for segment, info in zip(entry["segments_info"], result["segments_info"], strict=True):
        mask = np.asfortranarray(ids == segment["id"], dtype=np.uint8)
        assert segment["category_id"] == 100 + info["label_id"] and segment["score"] == info["score"]
        assert segment["area"] == mask.sum() and segment["bbox"] == coco_mask.toBbox(coco_mask.encode(mask)).tolist()


def test_a_panoptic_image_without_segments_is_black(tmp_path):
    result = {"segmentation": torch.zeros(5, 6, dtype=torch.int32), "segments_info": []}
    entry = save_panoptic(result, tmp_path / "none.png", image_id="none")
    assert entry["segments_info"] == [] and not np.asarray(Image.open(tmp_path / "none.png")).any()


def test_a_listed_segment_without_a_pixel_has_an_empty_box():
    info = {"id": 2, "label_id": 5, "was_fused": False, "score": 0.5}
    (segment,) = panoptic_segments({"segmentation": torch.ones(3, 4, dtype=torch.int32), "segments_info": [info]})
    assert (segment["area"], segment["bbox"]) == (0, [0, 0, 0, 0])


def test_ids_use_all_three_channels():
    ids = np.array([[0, 255, 256], [65536, 16777215, 70000]])
    assert ids_to_rgb(ids)[1, 2].tolist() == [70000 % 256, 70000 // 256 % 256, 1]
    np.testing.assert_array_equal(rgb_to_ids(ids_to_rgb(ids)), ids)
    with pytest.raises(ValueError, match="from 0 to 16777215, got -1 to 0"):
        ids_to_rgb(np.array([[-1, 0]]))


@pytest.mark.parametrize("form", ["return_coco_annotation", "return_binary_maps"])
def test_instances_load_as_coco_results(tmp_path, outputs, form):
    processor = MaskFormerImageProcessor()
    options = {"target_sizes": [(96, 120)], "threshold": 0.3}
    result = processor.post_process_instance_segmentation(outputs, **options, **{form: True})[0]
    entries = coco_instances(result, image_id=3)
    truth = {
        "info": {},
        "images": [{"id": 3, "height": 96, "width": 120}],
        "annotations": [],
        "categories": [{"id": label} for label in range(12)],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(entries))
    loaded = COCO(tmp_path / "truth.json").loadRes(str(tmp_path / "results.json"))
    masks = processor.post_process_instance_segmentation(outputs, **options, return_binary_maps=True)[0][
        "segmentation"
    ]
    assert len(loaded.anns) == len(masks) > 1
    for annotation, mask, info in zip(loaded.anns.values(), masks, result["segments_info"], strict=True):
        np.testing.assert_array_equal(loaded.annToMask(annotation), mask.numpy())
        assert annotation["score"] == info["score"] and annotation["category_id"] == info["label_id"]
    assert [entry["area"] for entry in entries] == masks.sum((1, 2)).tolist()  # COCO.loadRes computes its own
    assert all(entry["iscrowd"] == 0 for entry in entries)


def test_categories_say_which_are_things():
    names, numbers = {0: "road", 1: "car"}, {0: 7, 1: 3}
    road, car = coco_categories(names, {0}, numbers)
    assert road == {"id": 7, "name": "road", "isthing": 0} and car == {"id": 3, "name": "car", "isthing": 1}
    assert [category["id"] for category in coco_categories(names, ())] == [0, 1]


def test_instances_of_an_id_map_are_refused(outputs):
    result = MaskFormerImageProcessor().post_process_instance_segmentation(outputs, target_sizes=[(96, 120)])[0]
    with pytest.raises(ValueError, match="one mask per instance"):
        coco_instances(result, image_id=3)


@pytest.mark.parametrize("num_classes, mode", [(11, "L"), (255, "L"), (256, "I;16"), (847, "I;16")])
def test_class_maps_have_as_many_bits_as_they_need(tmp_path, num_classes, mode):
    class_map = torch.arange(12).view(3, 4) * (num_classes - 1) // 11
    save_class_map(class_map, tmp_path / "map.png", num_classes)
    image = Image.open(tmp_path / "map.png")
    assert image.mode == mode
    np.testing.assert_array_equal(np.asarray(image), class_map.numpy())


def test_a_class_map_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="from 0 to 300; an image of 11 classes"):
        save_class_map(torch.tensor([[0, 300]]), tmp_path / "map.png", 11)


@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_runs_of_parts_of_a_mask_encode_the_whole_mask(density):
    whole = torch.rand(13, 17) < density
    corners = [(0, 0, 9, 17), (6, 0, 13, 10), (4, 7, 13, 17)]  # parts that overlap and cover it
    runs = [
        runs_of_mask(whole[top:bottom, left:right].numpy(), (top, left), 13) for top, left, bottom, right in corners
    ]
    starts, stops = (np.concatenate(ends) for ends in zip(*runs, strict=True))
    assert encode_runs(starts, stops, (13, 17)) == encode_mask(whole)
