"""Each kind of error on cases made by hand: a strip of 24 pixels, letters are segments, as drawn in the tests."""

import numpy as np
import pytest
import torch
from id_maps import with_void
from pycocotools import mask as mask_utils

from modeling_maskformer.evaluation.metrics import base
from modeling_maskformer.evaluation.metrics.error_kinds import INVENTED, KINDS, ErrorKinds
from modeling_maskformer.evaluation.metrics.panoptic_quality import PanopticQuality
from modeling_maskformer.targets import segments_from_masks

ID2LABEL = {0: "cat", 1: "dog"}


def masks_of(strip):
    """The masks of each letter of a strip, (1, W) bool, in order; "." is nothing, "?" void."""
    letters = sorted(set(strip) - set(".?"))
    return [np.array([[letter == char for char in strip]]) for letter in letters], letters


def classes_of(letters):
    return [0 if letter.isupper() else 1 for letter in letters]  # cats are large


def reference_of(strip, crowd=""):
    masks, letters = masks_of(strip)
    void = np.array([[char == "?" for char in strip]])
    is_crowd = [letter in crowd for letter in letters]
    return with_void(segments_from_masks(masks, classes_of(letters), is_crowd, size=(1, len(strip))), void)


def panoptic(strip):
    masks, letters = masks_of(strip)
    segmentation = torch.zeros(1, len(strip), dtype=torch.int32)
    for number, mask in enumerate(masks, start=1):
        segmentation[torch.from_numpy(mask)] = number
    classes = classes_of(letters)
    infos = [{"id": number, "label_id": label, "score": 1.0} for number, label in enumerate(classes, start=1)]
    return {"segmentation": segmentation, "segments_info": infos}


def instances(*strips, scores=None):
    """Detections that may overlap, one a strip."""
    rles, infos = [], []
    for number, strip in enumerate(strips):
        (mask,), letters = masks_of(strip)
        rles.append(mask_utils.encode(np.asfortranarray(mask, dtype=np.uint8)))
        score = 0.9 if scores is None else scores[number]
        infos.append({"id": number, "label_id": classes_of(letters)[0], "score": score})
    return {"segmentation": rles, "segments_info": infos}


def counted(reference, prediction, threshold=0.0, crowd=""):
    metric = ErrorKinds(ID2LABEL, threshold)
    metric.update(prediction, reference_of(reference, crowd))
    per_class = metric.compute()["per_class"]
    return {(label, kind): count for label, row in per_class.items() for kind, count in row.items() if count}


CASES = {
    "found": ("AAAA..bbbb..", "AAA...bbbb..", {("cat", "found"): 1, ("dog", "found"): 1}),
    "of another class": ("AAAA........", "aaa.........", {("cat", "wrong class"): 1}),
    "of another class, hardly there": ("AAAA........", "aa..........", {("cat", "missed"): 1, ("dog", INVENTED): 1}),
    "merged, neither found": ("AAABBB......", "CCCCCC......", {("cat", "merged"): 2}),
    "merged, the larger one is found": ("AAAAAABB....", "CCCCCCCC....", {("cat", "found"): 1, ("cat", "merged"): 1}),
    "one cannot merge two classes": ("AAAbbb......", "CCCCCC......", {("cat", "inexact"): 1, ("dog", "missed"): 1}),
    "split in two": ("AAAAAAAA....", "BBB.CCC.....", {("cat", "split"): 1}),
    "split with the larger half found": (
        "AAAAAAAA....",
        "BBBBBCCC....",
        {("cat", "found"): 1, ("cat", INVENTED): 1},
    ),
    "two crumbs are no split": ("AAAAAAAA....", "B......C....", {("cat", "inexact"): 1, ("cat", INVENTED): 0}),
    "pieces of no more than half are no split": ("AAAAAAAA....", "BB..CC......", {("cat", "inexact"): 1}),
    "another outline": ("AAAA........", "..BBBB......", {("cat", "inexact"): 1}),
    "not seen": ("AAAA........", "............", {("cat", "missed"): 1}),
    "touched only": ("AAAA........", "...BBBBBBBB.", {("cat", "missed"): 1, ("cat", INVENTED): 1}),
    "out of nothing": ("............", "..BB..cc....", {("cat", INVENTED): 1, ("dog", INVENTED): 1}),
    "on void": ("AAAA..??????", "AAAA.BBBBBBB", {("cat", "found"): 1}),
    "void is in no area": ("AAAA????????", "AAAAAAAAAAAA", {("cat", "found"): 1}),
}


@pytest.mark.parametrize("name", CASES)
def test_each_kind_is_what_its_definition_says(name):
    reference, prediction, expected = CASES[name]
    expected = {key: count for key, count in expected.items() if count}
    assert counted(reference, panoptic(prediction)) == expected


def test_crowd_is_neither_found_nor_lost_nor_invented_upon():
    assert counted("AAAA..CCCCCC", panoptic("AAAA..BBB..."), crowd="C") == {("cat", "found"): 1}
    assert counted("AAAA..CCCCCC", panoptic("AAAA..bbb..."), crowd="C") == {("cat", "found"): 1, ("dog", INVENTED): 1}


def test_instances_may_overlap_the_surest_finds_and_the_unsure_do_not_count():
    both = instances("AAAA........", "AAA.........", scores=[0.6, 0.9])
    assert counted("AAAA........", both) == {("cat", "found"): 1, ("cat", INVENTED): 1}
    assert counted("AAAA........", both, threshold=0.7) == {("cat", "found"): 1}
    assert counted("AAAA........", both, threshold=0.95) == {("cat", "missed"): 1}
    halves = instances("AA..........", "..AAA.......", "....AAAA....", scores=[0.9, 0.8, 0.7])
    assert counted("AAAAAAAA....", halves) == {("cat", "split"): 1}


@pytest.mark.parametrize(("other", "kind"), [("cat", "merged"), ("dog", "missed")])
def test_what_found_one_of_two_overlapping_objects_is_not_the_other_one_in_a_wrong_class(other, kind):
    classes = [0, {"cat": 0, "dog": 1}[other]]
    reference = segments_from_masks(
        [mask for strip in ("AAAAAA......", ".AAAAAA.....") for mask in masks_of(strip)[0]], classes
    )
    metric = ErrorKinds(ID2LABEL)
    metric.update(instances("AAAAAA......"), reference)
    per_class = metric.compute()["per_class"]
    assert per_class["cat"]["found"] == 1 and per_class[other][kind] == 1
    assert sum(sum(row.values()) for row in per_class.values()) == 2


def test_every_reference_segment_is_of_one_kind_and_the_quality_is_that_of_one_class_for_all():
    rng = np.random.default_rng(0)
    for _ in range(30):
        reference, prediction = ("".join(rng.choice(list("AABBC..?"), 24)) for _ in range(2))
        prediction = prediction.replace("?", ".")
        kinds, quality = ErrorKinds(ID2LABEL), PanopticQuality(ID2LABEL)
        for metric in (kinds, quality):
            metric.update(panoptic(prediction), reference_of(reference))
        row = kinds.compute()["per_class"]["cat"]
        segments = set(reference) - set(".?")
        assert sum(row[kind] for kind in KINDS) == len(segments)
        assert kinds.compute()["quality"] == pytest.approx(quality.compute()["pq"], nan_ok=True)


def scene(seed, overlapping):
    """A reference with void and crowd, and eight predicted ellipses: as RLEs, or where none overlaps as an id map."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:40, :60]

    def ellipses(count):
        centers, radii = rng.uniform(0, [40, 60], (count, 2)), rng.uniform(1, 15, (count, 2))
        return [
            ((rows - y) / height) ** 2 + ((columns - x) / width) ** 2 < 1
            for (y, x), (height, width) in zip(centers, radii, strict=True)
        ]

    masks = [*ellipses(7), np.zeros((40, 60), dtype=bool)]
    segments = segments_from_masks(masks, rng.integers(0, 2, 8), [True, *[False] * 7])
    reference = with_void(segments, ellipses(1)[0])
    masks, scores = ellipses(8), rng.permutation(8) / 8
    infos = [{"id": 3 * number, "label_id": number % 2, "score": scores[number]} for number in range(8)]
    if overlapping:
        segmentation = [mask_utils.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks]
    else:
        segmentation = np.full((40, 60), -1)
        for number, mask in enumerate(masks):
            segmentation[mask] = 3 * number
        masks = [segmentation == 3 * number for number in range(8)]
    by_score = [masks[number] for number in np.argsort(-scores) if scores[number] >= 0.25 and masks[number].any()]
    return reference, {"segmentation": segmentation, "segments_info": infos}, by_score


@pytest.mark.parametrize("overlapping", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_pixels_are_those_of_the_decoded_masks(overlapping, seed, monkeypatch):
    monkeypatch.setattr(base, "PIXELS_AT_ONCE", 500)  # strips of eight rows
    reference, prediction, masks = scene(seed, overlapping)
    assert len(reference.ids) > 1 and reference.void.any()
    classes, overlaps = ErrorKinds(ID2LABEL, threshold=0.25)._overlaps(prediction, reference)
    assert len(classes) == len(masks) > 4
    void, expected = reference.void.numpy(), reference.masks().numpy() & ~reference.void.numpy()
    assert overlaps.areas.tolist() == [mask.sum() for mask in expected]
    assert overlaps.predicted_areas.tolist() == [(mask & ~void).sum() for mask in masks]
    assert overlaps.on_void.tolist() == [(mask & void).sum() for mask in masks]
    assert overlaps.shared.tolist() == [[(mask & other).sum() for other in masks] for mask in expected]


def test_images_add_up_in_any_order():
    together, parts = ErrorKinds(ID2LABEL), [ErrorKinds(ID2LABEL) for _ in range(2)]
    for number, (reference, prediction, _) in enumerate(CASES.values()):
        for metric in (together, parts[number % 2]):
            metric.update(panoptic(prediction), reference_of(reference))
    parts[1].merge(parts[0].state())
    assert parts[1].compute() == together.compute()
