"""The kernels of a GPU, interpreted on a CPU: they decide as the plain way does, and as the reference inference."""

import pytest
import torch
from inference_cases import all_cases, confident_case, random_case
from reference_inference import semantic_scores as reference_scores

from image_processing import fused, instance_segmentation, panoptic_segmentation, semantic_segmentation
from image_processing.instance import instance_segmentations
from image_processing.panoptic import panoptic_segmentations
from image_processing.resampling import identity_taps, logits_taps
from image_processing.semantic import semantic_segmentations

pytestmark = [
    pytest.mark.usefixtures("plain", "interpreted"),
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),  # of exp, where a GPU goes on silently
]
CASES = {
    **{
        name: all_cases()[name]
        for name in (
            "random",
            "random at the logits' resolution",
            "padded image",
            "much smaller target",
            "one pixel",
            "one logit",
            "one query",
            "one class",
            "all queries no object",
            "no query no object",
        )
    },
    "trained, padded": (*confident_case(height=13, width=11), (50, 41), (57, 47)),
    "150 x 100": (*random_case(queries=5, classes=3, height=38, width=25), (150, 100), (150, 100)),
    "many queries, many classes": (*confident_case(37, 40, 15, height=11, width=13), (43, 50), (43, 50)),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture
def interpreted(monkeypatch, interpreted_triton):
    """Runs the kernels in Triton's interpreter, which takes as long for a few pixels as for many."""
    from image_processing.fused import instance_kernels, panoptic_kernels, semantic_kernels

    for module, names in (
        (semantic_kernels, ("PIXELS",)),
        (panoptic_kernels, ("PIXELS", "RELABELLED")),
        (instance_kernels, ("PIXELS", "DRAWN")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, 8192)
    monkeypatch.setattr(semantic_kernels, "QUERIES", 16)
    monkeypatch.setattr(semantic_kernels, "MOST_CLASSES", 16)
    monkeypatch.setattr(panoptic_kernels, "QUERIES", 4)
    monkeypatch.setattr(panoptic_kernels, "CLASSES", 4)
    monkeypatch.setattr(fused, "use_kernels", lambda maps: True)


def plainly(monkeypatch, function, *arguments, **options):
    with monkeypatch.context() as context:
        context.setattr(fused, "use_kernels", lambda maps: False)
        return function(*arguments, **options)


def assert_same_entries(found, expected):
    assert len(found) == len(expected)
    for entry, other in zip(found, expected, strict=True):
        assert entry["score"] == pytest.approx(other["score"], abs=3e-6)
        assert {**entry, "score": None} == {**other, "score": None}


def assert_same_instances(found, expected):
    assert_same_entries(found.segments_info, expected.segments_info)
    for result, other in ((found.id_map(), expected.id_map()), (found.masks(), expected.masks())):
        assert result.dtype == other.dtype and torch.equal(result, other)


@each_case
def test_each_pixel_gets_a_class_of_the_best_score(case):
    expected = reference_scores(*case)
    classes = semantic_segmentation(*case)
    assert classes.dtype == torch.int64 and classes.shape == expected.shape[1:]
    assert (expected.gather(0, classes[None])[0] >= expected.amax(0) * (1 - 1e-5)).all()


@pytest.mark.parametrize(("num_classes", "blocks"), [(40, (32, 16)), (60, (64, 0)), (150, (128, 32)), (300, (256, 0))])
def test_classes_are_scored_in_blocks_of_powers_of_two(monkeypatch, num_classes, blocks):
    from image_processing.fused import semantic_kernels

    monkeypatch.setattr(semantic_kernels, "MOST_CLASSES", 256)
    monkeypatch.setattr(semantic_kernels, "PIXELS", 512)
    assert semantic_kernels.class_blocks(num_classes) == blocks
    generator = torch.Generator().manual_seed(num_classes)
    class_logits = 3 * torch.randn(20, num_classes + 1, generator=generator)
    mask_logits = 4 * torch.randn(20, 5, 6, generator=generator)
    case = (class_logits, mask_logits, (20, 24), (20, 24))
    expected = reference_scores(*case)
    classes = semantic_segmentation(*case)
    assert (expected.gather(0, classes[None])[0] >= expected.amax(0) * (1 - 1e-5)).all()


@pytest.mark.parametrize("threshold, mask_threshold", [(0.3, 0.5), (0.0, 0.0)])
@each_case
def test_panoptic_segments_are_those_of_the_plain_way(monkeypatch, case, threshold, mask_threshold):
    options = {"threshold": threshold, "mask_threshold": mask_threshold, "label_ids_to_fuse": {0, 2}}
    ids, entries = panoptic_segmentation(*case, **options)
    plain_ids, plain_entries = plainly(monkeypatch, panoptic_segmentation, *case, **options)
    assert_same_entries(entries, plain_entries)
    assert ids.dtype == plain_ids.dtype and torch.equal(ids, plain_ids)


@pytest.mark.parametrize("threshold, mask_threshold", [(0.2, 0.6), (0.0, 0.0)])
@each_case
def test_instances_are_those_of_the_plain_way(monkeypatch, case, threshold, mask_threshold):
    options = {"threshold": threshold, "mask_threshold": mask_threshold}
    found = instance_segmentation(*case, **options)
    assert_same_instances(found, plainly(monkeypatch, instance_segmentation, *case, **options))


def test_one_query_can_be_two_instances():
    class_logits, mask_logits = torch.tensor([[4.1, 4.0, -4.0], [-4.0, -4.0, 4.0]]), torch.full((2, 3, 5), 5.0)
    found = instance_segmentation(class_logits, mask_logits, None, (9, 11), threshold=0.3)
    assert [entry["label_id"] for entry in found.segments_info] == [0, 1]
    assert found.mask_of.tolist() == [0, 0] and found.masks().all() and (found.id_map() == 0).all()


def test_images_of_a_batch_are_decided_each_for_itself():
    cases = [confident_case(live=live, height=13, width=11, seed=live) for live in (8, 0, 3)]
    batch = [torch.stack(logits) for logits in zip(*cases, strict=True)]
    sizes = (50, 41), (60, 47)
    classes = semantic_segmentations(*batch, *sizes)
    panoptic = panoptic_segmentations(*batch, *sizes)
    instances = instance_segmentations(*batch, *sizes)
    assert len(panoptic[0][1]) > len(panoptic[2][1]) > 0 == len(panoptic[1][1]) == len(instances[1])
    for image, case in enumerate(cases):
        assert torch.equal(classes[image], semantic_segmentation(*case, *sizes))
        ids, entries = panoptic_segmentation(*case, *sizes)
        assert torch.equal(panoptic[image][0], ids) and panoptic[image][1] == entries
        assert_same_instances(instances[image], instance_segmentation(*case, *sizes))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    half = [logits.to(dtype) for logits in confident_case(height=13, width=11)]
    single, sizes = [logits.float() for logits in half], ((50, 41), (60, 47))
    assert torch.equal(semantic_segmentation(*half, *sizes), semantic_segmentation(*single, *sizes))
    for result, other in zip(
        panoptic_segmentation(*half, *sizes), panoptic_segmentation(*single, *sizes), strict=True
    ):
        assert torch.equal(result, other) if isinstance(result, torch.Tensor) else result == other
    assert_same_instances(instance_segmentation(*half, *sizes), instance_segmentation(*single, *sizes))


def test_a_mask_may_be_nowhere_by_minus_infinity(monkeypatch):
    class_logits, mask_logits = confident_case(height=13, width=11)
    mask_logits[::3] = -float("inf")
    mask_logits[:, :, :4] = -float("inf")
    sizes = (50, 41), (60, 47)
    case, low = (class_logits, mask_logits, *sizes), (class_logits, mask_logits.clamp(min=-1e4), *sizes)
    ids, entries = panoptic_segmentation(*case)
    for in_kernels in (True, False):
        monkeypatch.setattr(fused, "use_kernels", lambda maps, in_kernels=in_kernels: in_kernels)
        assert torch.equal(semantic_segmentation(*case), semantic_segmentation(*low))
        for found in (panoptic_segmentation(*case), panoptic_segmentation(*low)):
            assert torch.equal(found[0], ids)
            assert_same_entries(found[1], entries)
        assert_same_instances(instance_segmentation(*case), instance_segmentation(*low))
    assert len(entries) > 0


def test_maps_may_lie_in_memory_in_any_order():
    class_logits, mask_logits = confident_case(height=13, width=11)
    for strange in (mask_logits.permute(2, 1, 0).contiguous().permute(2, 1, 0), mask_logits.repeat(1, 1, 2)[..., :11]):
        assert not strange.is_contiguous()
        for function in (semantic_segmentation, lambda *logits: instance_segmentation(*logits).id_map()):
            assert torch.equal(function(class_logits, strange), function(class_logits, mask_logits))


@pytest.mark.parametrize("shift", [-80.0, -30.0, 0.0], ids=str)
def test_scores_too_small_for_float16_still_decide(shift):
    """Masks of 1e-34 everywhere; and no query sees an object with more than 1e-13."""
    class_logits, mask_logits = random_case(queries=20, classes=6, height=5, width=7)
    for case in (
        (class_logits, mask_logits + shift),
        (class_logits + 30 * torch.eye(7)[-1], mask_logits + shift / 2),
    ):
        expected = reference_scores(*case, None, (20, 28))
        chosen = expected.gather(0, semantic_segmentation(*case, None, (20, 28))[None])[0]
        assert (chosen >= expected.amax(0) * (1 - 1e-5)).all()


def test_taps_without_weight_are_left_out():
    from image_processing.fused.resizing import _tap_table

    device = torch.device("cpu")
    for taps, count in ((identity_taps(7), 1), (logits_taps(7, 26, 26), 2), (logits_taps(7, 26, 40), 3)):
        samples, weights = _tap_table(taps, device)
        assert samples.shape == weights.shape == (count, len(taps))
        matrix = torch.zeros(len(taps), 7).scatter_add(1, samples.T.long(), weights.T)
        torch.testing.assert_close(matrix, taps.matrix(), atol=0, rtol=0)


def test_a_cpu_and_graphs_go_other_ways(monkeypatch):
    monkeypatch.undo()
    assert not fused.use_kernels(torch.zeros(1, 1, 4, 4))
    with torch._subclasses.FakeTensorMode():
        assert not fused.use_kernels(torch.zeros(1, 1, 4, 4, device="cuda"))
