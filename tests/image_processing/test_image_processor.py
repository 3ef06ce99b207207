"""MaskFormerImageProcessor makes the batches that transformers' makes, loads its files, and says what is wrong."""

import json

import numpy as np
import pytest
import torch
from models import ARCHITECTURES, logits_of, tiny
from PIL import Image
from transformers.image_utils import SizeDict
from transformers.models.maskformer.image_processing_maskformer import MaskFormerImageProcessor as TheirProcessor

from image_processing import MaskFormerImageProcessor, PerPixelImageProcessor
from image_processing.inputs.images import logger
from image_processing.inputs.sizes import resized_size

SMALL = {"shortest_edge": 48, "longest_edge": 80}


def picture(height, width, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def label_map(height, width, labels=6, seed=0):
    return (
        np.random.default_rng(seed)
        .integers(0, labels, (height // 4 + 1, width // 4 + 1), dtype=np.uint8)
        .repeat(4, 0)
        .repeat(4, 1)[:height, :width]
    )


PICTURES = [picture(50, 70), picture(61, 40, 1), picture(33, 97, 2)]
MAPS = [label_map(50, 70), label_map(61, 40, seed=1), label_map(33, 97, seed=2)]


@pytest.mark.parametrize(
    "options",
    [
        {"size": SMALL},
        {"size": SMALL, "size_divisor": 0},
        {"size": {"height": 40, "width": 56}, "size_divisor": 8},
        {"size": {"max_height": 60, "max_width": 60}, "resample": 3},
        {"size": SMALL, "pad_size": {"height": 128, "width": 160}},
        {"size": 48, "max_size": 80, "do_normalize": False},
        {"do_resize": False, "do_rescale": False, "image_mean": [1.0, 2.0, 3.0], "image_std": [4.0, 5.0, 6.0]},
        {"max_size": 1000, "size_divisor": 32, "image_mean": 0.5, "image_std": 0.5},
    ],
)
def test_pixel_values_equal_transformers(options):
    ours = MaskFormerImageProcessor(**options)(PICTURES[:2], return_tensors="pt")
    theirs = TheirProcessor(**options)(PICTURES[:2], return_tensors="pt")
    torch.testing.assert_close(ours["pixel_values"], theirs["pixel_values"], atol=1e-5, rtol=0)
    assert torch.equal(ours["pixel_mask"], theirs["pixel_mask"]) and ours["pixel_mask"].dtype == torch.int64


def test_arrays_tensors_and_single_images_are_taken():
    processor = MaskFormerImageProcessor(size=SMALL)
    array = np.array(PICTURES[0])
    expected = processor(PICTURES[0], return_tensors="pt")["pixel_values"]
    for image in (array, torch.from_numpy(array).permute(2, 0, 1), [array]):
        assert torch.equal(processor(image, return_tensors="pt")["pixel_values"], expected)


def test_other_modes_become_rgb():
    gray = PICTURES[0].convert("L")
    processor = MaskFormerImageProcessor(size=SMALL)
    expected = processor(gray.convert("RGB"), return_tensors="pt")["pixel_values"]
    assert torch.equal(processor(gray, return_tensors="pt")["pixel_values"], expected)


def test_transparency_is_left_out_of_pictures_and_arrays_as_where_files_are_opened(tmp_path):
    transparent = PICTURES[0].convert("RGBA")
    transparent.putalpha(Image.fromarray(np.arange(50 * 70).reshape(50, 70).astype(np.uint8)))
    transparent.save(tmp_path / "transparent.png")
    array = np.array(transparent)
    processor = MaskFormerImageProcessor(do_resize=False)
    expected = processor(PICTURES[0], return_tensors="pt")["pixel_values"]
    gray = processor(PICTURES[0].convert("L"), return_tensors="pt")["pixel_values"]
    for image in (
        transparent,
        str(tmp_path / "transparent.png"),
        array,
        array.transpose(2, 0, 1),
        torch.from_numpy(array).float(),
    ):
        torch.testing.assert_close(processor(image, return_tensors="pt")["pixel_values"], expected)
    assert torch.equal(processor(PICTURES[0].convert("LA"), return_tensors="pt")["pixel_values"], gray)


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_images_of_a_model_for_other_channels_stay_as_they_are(channels):
    """As transformers leaves them, whose files do not say `do_convert_rgb`."""
    processor = MaskFormerImageProcessor(size=SMALL, image_mean=[0.5] * channels, image_std=[0.25] * channels)
    array = np.random.default_rng(0).integers(0, 256, (channels, 50, 70), dtype=np.uint8)
    batch = processor(array, return_tensors="pt", input_data_format="channels_first", do_resize=False)
    expected = (torch.from_numpy(array) / 255 - 0.5) / 0.25
    torch.testing.assert_close(batch["pixel_values"][0], expected)
    modes = {1: "L", 2: "LA", 4: "RGBA"}
    if channels in modes:
        assert (
            processor(PICTURES[0].convert(modes[channels]), return_tensors="pt")["pixel_values"].shape[1] == channels
        )


@pytest.mark.parametrize(
    "options",
    [
        {"ignore_index": None},
        {"ignore_index": 255},
        {"ignore_index": 255, "do_reduce_labels": True},
        {"ignore_index": 3, "do_resize": False},
    ],
)
def test_masks_and_classes_equal_transformers(options):
    options = {"size": SMALL, **options}
    ours = MaskFormerImageProcessor(**options)(PICTURES, MAPS, return_tensors="pt")
    theirs = TheirProcessor(**options)(PICTURES, MAPS, return_tensors="pt")
    for index in range(3):
        inside = theirs["pixel_mask"][index].bool()
        assert torch.equal(ours["mask_labels"][index][:, inside], theirs["mask_labels"][index][:, inside])
        assert ours["mask_labels"][index].shape == theirs["mask_labels"][index].shape
        assert torch.equal(ours["class_labels"][index], theirs["class_labels"][index])
        # transformers fills the padding of the masks with `ignore_index`; a mask has nothing there.
        assert not ours["mask_labels"][index][:, ~inside].any()


@pytest.mark.parametrize("reduce", [False, True])
@pytest.mark.parametrize("per_image", [False, True])
def test_instances_get_their_classes_as_in_transformers(reduce, per_image):
    mapping = {number: 1 + number % 3 for number in range(6)}
    mappings = [mapping, {number: 2 for number in range(6)}, mapping] if per_image else mapping
    options = {"size": SMALL, "ignore_index": 255, "do_reduce_labels": reduce}
    ours = MaskFormerImageProcessor(**options)(PICTURES, MAPS, mappings)
    theirs = TheirProcessor(**options)(PICTURES, MAPS, mappings)
    for index in range(3):
        assert torch.equal(ours["class_labels"][index], theirs["class_labels"][index])
        assert ours["class_labels"][index].dtype == torch.int64


def test_annotations_may_be_images_of_16_bits_and_palettes():
    processor = MaskFormerImageProcessor(do_resize=False)
    expected = processor(PICTURES[0], MAPS[0])["mask_labels"][0]
    palette = Image.fromarray(MAPS[0]).convert("P")
    palette.putdata(MAPS[0].flatten().tolist())
    for annotation in (Image.fromarray(MAPS[0].astype(np.uint16)), palette, torch.from_numpy(MAPS[0])[None]):
        assert torch.equal(processor([PICTURES[0]], [annotation])["mask_labels"][0], expected)


def test_an_annotation_without_segments_gives_no_masks():
    processor = MaskFormerImageProcessor(do_resize=False, ignore_index=np.int64(0))
    batch = processor(PICTURES[0], np.zeros((50, 70), np.uint8))
    assert batch["mask_labels"][0].shape == (0, 50, 70) and batch["class_labels"][0].shape == (0,)


def test_compact_targets_are_resized_as_masks_are_and_padded_with_void():
    processor = MaskFormerImageProcessor(size=SMALL)
    masks = processor(PICTURES, MAPS)["mask_labels"]
    ids = [torch.from_numpy(label_map.astype(np.int16) + 1) for label_map in MAPS]
    classes = [torch.arange(6) for _ in ids]
    batch = processor(PICTURES, segment_ids=[layer[None] for layer in ids], class_labels=classes, return_tensors="pt")
    assert batch["segment_ids"].shape == (3, 1, *batch["pixel_values"].shape[-2:])
    assert batch["segment_ids"].dtype == torch.int16
    for index in range(3):
        inside = batch["pixel_mask"][index].bool()
        assert (batch["segment_ids"][index, 0][~inside] == -1).all()
        for segment in range(6):
            assert torch.equal(batch["segment_ids"][index, 0] == segment + 1, masks[index][segment].bool())
        assert torch.equal(batch["class_labels"][index], classes[index])


def test_compact_targets_of_unlike_layers_and_dtypes_share_a_batch():
    processor = MaskFormerImageProcessor(do_resize=False)
    first = torch.zeros(2, 50, 70, dtype=torch.uint8)
    first[0, 0, 0], first[1, 1, 1] = 255, 2
    second = torch.full((1, 61, 40), 300, dtype=torch.int16)
    batch = processor(PICTURES[:2], segment_ids=[first, second], class_labels=[torch.zeros(2), torch.zeros(300)])
    ids = batch["segment_ids"]
    assert ids.shape == (2, 2, 61, 70) and ids.dtype == torch.int16
    assert ids[0, 0, 0, 0] == -1 and ids[0, 1, 1, 1] == 2 and ids[0, :, 0, 1].tolist() == [0, 0]
    assert ids[0, 0, 60, 0] == -1 and ids[0, 1, 60, 0] == 0  # void is marked in the first layer
    assert (ids[1, 0, :, :40] == 300).all() and (ids[1, 0, :, 40:] == -1).all() and not ids[1, 1].any()


def test_void_of_uint8_ids_is_255():
    processor = MaskFormerImageProcessor(do_resize=False, pad_size={"height": 64, "width": 70})
    ids = torch.ones(1, 50, 70, dtype=torch.uint8)
    batch = processor(PICTURES[0], segment_ids=[ids], class_labels=[torch.tensor([4])])
    assert batch["segment_ids"].dtype == torch.uint8 and (batch["segment_ids"][0, 0, 50:] == 255).all()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda p: p(PICTURES, MAPS[:2]), "2 segmentation maps for 3 images"),
        (
            lambda p: p(PICTURES, [MAPS[0], MAPS[1][:-1], MAPS[2]]),
            "map 1 of the batch is 60 pixels high and 40 wide, but",
        ),
        (
            lambda p: p(PICTURES[:2], [MAPS[0], MAPS[1] + 0.5]),
            "map 1 of the batch must hold integers.*float64",
        ),
        (lambda p: p(PICTURES[:1], [torch.full((50, 70), 0.1)]), "map 0 of the batch must hold integers.*float32"),
        (lambda p: p(PICTURES[:1], [np.full((50, 70), np.inf)]), "map 0 of the batch must hold integers.*float64"),
        (lambda p: p([]), "`images` is empty"),
        (lambda p: p(Image.new("RGB", (0, 0))), "Image 0 of the batch is 0x0 .* has no pixels"),
        (lambda p: p(torch.zeros(3, 50, 0, dtype=torch.uint8)), "Image 0 of the batch is 50x0 .* has no pixels"),
        (lambda p: p([PICTURES[0], np.zeros((0, 70, 3), np.uint8)]), "Image 1 of the batch is 0x70 .* has no pixels"),
        (lambda p: p([PICTURES[0], np.zeros((0, 70, 3), int)]), "Image 1 of the batch is 0x70 .* has no pixels"),
        (lambda p: p(np.full((50, 70, 3), 256)), "image of int64 has values from 256 to 256; expected 0 to 255"),
        (lambda p: p(torch.full((3, 50, 70), 256)), "image of torch.int64 has values from 256 to 256"),
        (lambda p: p(PICTURES[0].convert("I")), "mode 'I' does not say which value is white"),
        (lambda p: p(PICTURES[:1], [np.zeros((50, 70, 3), int)]), r"map 0 of the batch .*\(50, 70, 3\)"),
        (lambda p: p(PICTURES, MAPS, {0: 1, 2: 1, 3: 0, 4: 0}), "map 0 of the batch has the ids 1, 5, which"),
        (lambda p: p(PICTURES, MAPS, [{}]), "1 `instance_id_to_semantic_id` for 3 images"),
        (lambda p: p(PICTURES, MAPS, do_reduce_labels=True), "`ignore_index` is needed"),
        (lambda p: p(PICTURES[:1], segment_ids=[torch.ones(50, 70).int()]), "`segment_ids` need `class_labels`"),
        (lambda p: p(PICTURES[:1], class_labels=[torch.zeros(1)]), "`segment_ids`, which are missing"),
        (
            lambda p: p(PICTURES[:2], segment_ids=[torch.ones(1, 50, 70).int()], class_labels=[torch.zeros(1)]),
            "1 `segment_ids` and 1 `class_labels` for 2 images",
        ),
        (
            lambda p: p(PICTURES[:1], segment_ids=[torch.full((1, 50, 70), 7).int()], class_labels=[torch.zeros(6)]),
            "`segment_ids` 0 of the batch has ids from 7 to 7, but 6 class labels",
        ),
        (
            lambda p: p(PICTURES[:1], segment_ids=[torch.full((1, 50, 70), 7.0)], class_labels=[torch.zeros(6)]),
            "`segment_ids` 0 of the batch must be .* got .* torch.float32",
        ),
        (
            lambda p: p(PICTURES[:1], segment_ids=[torch.ones(1, 50, 71).int()], class_labels=[torch.zeros(6)]),
            "`segment_ids` 0 of the batch is 50 pixels high and 71 wide",
        ),
        (
            lambda p: p(
                PICTURES[:1], MAPS[:1], segment_ids=[torch.ones(1, 50, 70).int()], class_labels=[torch.zeros(6)]
            ),
            "either `segmentation_maps` or `segment_ids`",
        ),
        (lambda p: p(PICTURES, pad_size={"height": 96, "width": 32}), "Image 0 of the batch .* does not fit"),
        (
            lambda p: p(PICTURES, pad_size={"shortest_edge": 128}),
            r"`pad_size` must be \{\"height\", \"width\"\} of the batch, got \{'shortest_edge': 128\}",
        ),
        (lambda p: p(PICTURES, size={"longest_edge": 50}), "Expected a `size` of"),
        (lambda p: p(PICTURES, size_divisor=-1), "`size_divisor` must be a whole number, at least 0, got -1"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(MaskFormerImageProcessor(size=SMALL))


def test_a_strip_whose_longest_edge_is_not_bounded_is_refused_where_it_grows_too_large():
    size = SizeDict(shortest_edge=480)
    assert resized_size((700, 1), size, 0) == (336_000, 480)
    with pytest.raises(ValueError, match=r"of 1000x1 .* would be resized to 480000x480, more than 200000000 pixels"):
        resized_size((1000, 1), size, 0)


def test_gray_arrays_are_gray_images():
    gray = np.array(PICTURES[0].convert("L"))
    processor = MaskFormerImageProcessor(size=SMALL)
    expected = processor(PICTURES[0].convert("L"), return_tensors="pt")["pixel_values"]
    for image in (gray, torch.from_numpy(gray), [gray], gray[..., None], torch.from_numpy(gray)[None]):
        assert torch.equal(processor(image, return_tensors="pt")["pixel_values"], expected)


def test_images_of_16_bits_are_scaled():
    gray = np.array(PICTURES[0].convert("L"))
    processor = MaskFormerImageProcessor(size=SMALL)
    expected = processor(gray, return_tensors="pt")["pixel_values"]
    wide = gray.astype(np.uint16) * 257
    for image in (wide, Image.fromarray(wide), torch.from_numpy(wide)):
        actual = processor(image, return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(actual, expected, atol=0.02, rtol=0)  # resized uint8 is rounded


def test_values_of_8_and_12_bits_in_uint16_are_warned_of_once(monkeypatch):
    warnings = []
    monkeypatch.setattr(logger, "warning_once", warnings.append)
    processor = MaskFormerImageProcessor(do_resize=False)
    for highest in (0, 4096, 65535):
        processor(np.full((8, 9, 3), highest, np.uint16))
    assert warnings == []
    narrow = np.full((8, 9), 200, np.uint16)
    for image in (narrow, torch.from_numpy(narrow), Image.fromarray(narrow), narrow + 3895):
        processor(image)
    assert len(warnings) == 4 and len(set(warnings)) == 1  # equal ones are shown once
    assert "no value above 4095" in warnings[0] and "pass it as uint8" in warnings[0]


@pytest.mark.parametrize("height", [1, 4])
def test_rows_of_a_low_rgb_array_are_no_channels(height):
    array = np.array(picture(height, 70))
    processor = MaskFormerImageProcessor(do_resize=False)
    expected = processor(Image.fromarray(array), return_tensors="pt")["pixel_values"]
    assert expected.shape == (1, 3, height, 70)
    for image in (array, [array], array[None]):
        assert torch.equal(processor(image, return_tensors="pt")["pixel_values"], expected)
    last = processor(array, input_data_format="channels_last", return_tensors="pt")["pixel_values"]
    assert torch.equal(last, expected)
    first = processor(array, input_data_format="channels_first", return_tensors="pt")["pixel_values"]
    assert first.shape == (1, 3, 70, 3)
    square = np.array(picture(70, 3)).transpose(2, 0, 1)  # (3, 70, 3): channels first, as in transformers
    assert processor(square, return_tensors="pt")["pixel_values"].shape == (1, 3, 70, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e308, -1e31])
@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor], ids=["array", "tensor"])
def test_pixels_that_are_no_numbers_or_beyond_float32_are_refused(make, value):
    image = np.full((8, 9, 3), 128.0)
    image[3, 4, 1] = value
    with pytest.raises(ValueError, match="pixels that are NaN, infinite or beyond 1e"):
        MaskFormerImageProcessor()(make(image), return_tensors="pt")


def test_images_may_come_from_a_generator_and_be_extreme_strips():
    processor = MaskFormerImageProcessor(size=SMALL)
    images = (Image.new("RGB", size) for size in ((4000, 1), (3, 4000)))
    assert processor(images, return_tensors="pt")["pixel_mask"].sum((1, 2)).tolist() == [32 * 96, 96 * 32]
    assert processor(Image.new("RGB", (4000, 1)), size_divisor=0)["pixel_values"][0].shape == (3, 1, 80)


def test_ids_of_json_and_ids_stored_as_floats_are_ids():
    processor = MaskFormerImageProcessor(size=SMALL)
    mapping = {number: 1 + number % 3 for number in range(6)}
    expected = processor(PICTURES, MAPS, mapping)
    actual = processor(PICTURES, [label_map.astype(np.float32) for label_map in MAPS], json.loads(json.dumps(mapping)))
    for name in ("class_labels", "mask_labels"):
        assert all(map(torch.equal, actual[name], expected[name]))


def test_maps_may_have_an_axis_of_one_channel():
    processor = MaskFormerImageProcessor(size=SMALL)
    expected = processor(PICTURES[0], MAPS[0])
    column = np.array(MAPS[0])[..., None]
    for label_map in (column, [column], column[None], torch.from_numpy(column), column[..., 0][None]):
        actual = processor(PICTURES[0], label_map)
        for name in ("class_labels", "mask_labels"):
            assert all(map(torch.equal, actual[name], expected[name]))
    actual = processor([PICTURES[0]] * 2, np.stack([column] * 2))
    assert all(torch.equal(masks, expected["mask_labels"][0]) for masks in actual["mask_labels"])


def test_maps_may_be_nested_as_images_are_and_of_unsigned_integers():
    processor = MaskFormerImageProcessor(size=SMALL)
    expected = processor(PICTURES, MAPS)
    nested = [[Image.fromarray(MAPS[0].astype(np.uint8)), MAPS[1]], [torch.from_numpy(MAPS[2])]]
    forms = [nested, [label_map.tolist() for label_map in MAPS]]
    for dtype in (np.uint16, np.uint32, np.uint64):
        arrays = [label_map.astype(dtype) for label_map in MAPS]
        forms += [arrays, [torch.from_numpy(label_map) for label_map in arrays]]
    for maps in forms:
        actual = processor([PICTURES[:2], PICTURES[2:]], maps)
        for name in ("class_labels", "mask_labels"):
            assert all(map(torch.equal, actual[name], expected[name]))


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_what_comes_without_return_tensors_goes_into_the_model(kind):
    processor_class = MaskFormerImageProcessor if kind == "maskformer" else PerPixelImageProcessor
    processor, model = processor_class(size=SMALL), tiny(kind).eval()
    maps = [label_map % 5 for label_map in MAPS]
    batch = processor(PICTURES, maps)
    with torch.no_grad():
        found, expected = model(**batch), model(**processor(PICTURES, maps, return_tensors="pt"))
    assert torch.equal(logits_of(found), logits_of(expected)) and torch.equal(found.loss, expected.loss)


def test_classes_of_compact_targets_may_be_lists_or_arrays():
    processor = MaskFormerImageProcessor(do_resize=False)
    ids = [np.ones(image.size[::-1], np.int32) for image in PICTURES]
    batch = processor(PICTURES, segment_ids=ids, class_labels=[[3], np.array([4], np.int32), torch.tensor([5])])
    assert all(classes.dtype == torch.int64 for classes in batch["class_labels"])
    assert torch.cat(batch["class_labels"]).tolist() == [3, 4, 5]


def test_a_processor_is_made_of_its_own_dictionary_and_of_an_old_file():
    processor = MaskFormerImageProcessor(size=SMALL, label_ids_to_fuse=[2], ignore_index=255)
    assert MaskFormerImageProcessor(**processor.to_dict()).to_dict() == processor.to_dict()
    as_json = json.loads(processor.to_json_string())
    assert as_json["image_processor_type"] == "MaskFormerImageProcessor"
    assert MaskFormerImageProcessor(**as_json).to_dict() == processor.to_dict()
    old = MaskFormerImageProcessor(size=48, _max_size=80, reduce_labels=True, ignore_index=255, processor_class="x")
    assert dict(old.size) == SMALL and old.do_reduce_labels is True
    assert MaskFormerImageProcessor(size_divisor=8, size_divisibility=16).size_divisor == 8  # the present name holds


def test_arguments_for_loading_may_have_their_old_names(tmp_path):
    MaskFormerImageProcessor(size=SMALL).save_pretrained(tmp_path)
    loaded = MaskFormerImageProcessor.from_pretrained(tmp_path, reduce_labels=True, ignore_index=255)
    assert loaded.do_reduce_labels is True and loaded.ignore_index == 255 and dict(loaded.size) == SMALL


@pytest.mark.parametrize("saved", [{"size": SMALL}, {"size": 48, "max_size": 80}, {}], ids=str)
@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ({"size": 40, "max_size": 60}, {"shortest_edge": 40, "longest_edge": 60}),
        ({"size": {"shortest_edge": 40}, "max_size": 60}, {"shortest_edge": 40, "longest_edge": 60}),
        ({"size": {"shortest_edge": 40}}, {"shortest_edge": 40}),
        ({"size": {"height": 40, "width": 60}}, {"height": 40, "width": 60}),
        ({"max_size": 60}, {"longest_edge": 60}),
    ],
    ids=str,
)
def test_the_longest_edge_asked_for_on_loading_holds(saved, arguments, size, tmp_path):
    """It was lost: the images kept the length of the checkpoint, or none."""
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(saved))
    if "size" not in arguments:
        size = {"shortest_edge": 48 if saved else 800} | size
    assert dict(MaskFormerImageProcessor.from_pretrained(tmp_path, **arguments).size) == size
    if "size" in arguments:
        assert dict(MaskFormerImageProcessor(**arguments).size) == size


def test_a_misspelt_argument_is_refused():
    with pytest.raises(TypeError, match=r"no argument size_divisr; it has: .*size_divisor"):
        MaskFormerImageProcessor(size_divisr=32)
    with pytest.raises(TypeError, match="do_rezise"):
        MaskFormerImageProcessor()(PICTURES[0], do_rezise=False)


def test_a_saved_processor_comes_back(tmp_path):
    options = {
        "size": SMALL,
        "size_divisor": 16,
        "ignore_index": 255,
        "do_reduce_labels": True,
        "label_ids_to_fuse": {5, 2},
        "image_mean": [0.5, 0.5, 0.5],
        "pad_size": {"height": 96, "width": 96},
        "num_labels": 7,
    }
    processor = MaskFormerImageProcessor(**options)
    processor.save_pretrained(tmp_path)
    loaded = MaskFormerImageProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == processor.to_dict()
    assert loaded.label_ids_to_fuse == [2, 5]
    assert MaskFormerImageProcessor.from_pretrained(tmp_path, label_ids_to_fuse=[1]).label_ids_to_fuse == [1]


def test_processors_of_both_libraries_load_each_others_files(tmp_path):
    options = {"size": SMALL, "size_divisor": 16, "ignore_index": 255, "do_reduce_labels": True, "num_labels": 150}
    for writer, reader in (
        (TheirProcessor, MaskFormerImageProcessor),
        (MaskFormerImageProcessor, TheirProcessor),
    ):
        written = writer(**options)
        written.save_pretrained(tmp_path / writer.__module__)
        read = reader.from_pretrained(tmp_path / writer.__module__)
        for name in ("size", "size_divisor", "ignore_index", "do_reduce_labels", "num_labels", "resample"):
            assert getattr(read, name) == getattr(written, name), name
        expected = written(PICTURES, MAPS, return_tensors="pt")
        actual = read(PICTURES, MAPS, return_tensors="pt")
        torch.testing.assert_close(actual["pixel_values"], expected["pixel_values"], atol=1e-5, rtol=0)
        assert all(map(torch.equal, actual["class_labels"], expected["class_labels"]))


def test_a_file_of_an_old_version_loads(tmp_path, caplog):
    old = {
        "_max_size": 80,
        "feature_extractor_type": "MaskFormerFeatureExtractor",
        "image_processor_type": "MaskFormerFeatureExtractor",
        "processor_class": "MaskFormerProcessor",
        "do_normalize": True,
        "do_resize": True,
        "ignore_index": 255,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "num_labels": 150,
        "reduce_labels": True,
        "resample": 2,
        "size": 48,
        "size_divisibility": 16,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    processor = MaskFormerImageProcessor.from_pretrained(tmp_path)
    assert dict(processor.size) == {"shortest_edge": 48, "longest_edge": 80}
    assert processor.do_reduce_labels is True and processor.size_divisor == 16 and processor.num_labels == 150
    assert processor(PICTURES, return_tensors="pt")["pixel_values"].shape == (3, 3, 80, 80)
    processor.save_pretrained(tmp_path / "again")
    saved = json.loads((tmp_path / "again" / "preprocessor_config.json").read_text())
    assert not {"_max_size", "max_size", "reduce_labels", "size_divisibility", "feature_extractor_type"} & set(saved)


def test_an_unknown_key_of_a_file_is_ignored_with_a_warning(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": SMALL, "of_the_future": 1}))
    processor = MaskFormerImageProcessor.from_pretrained(tmp_path)
    assert not hasattr(processor, "of_the_future") and dict(processor.size) == SMALL


@pytest.mark.parametrize("odd", [np.int8(3), torch.tensor(3.0), [[1, 2], [3, 4]]], ids=["number", "tensor", "list"])
def test_what_is_no_image_in_a_batch_is_named(odd):
    with pytest.raises(ValueError, match=r"Image 1 of the batch is a (single number|list): a picture"):
        MaskFormerImageProcessor()([np.zeros((8, 8), np.uint8), odd], return_tensors="pt")
