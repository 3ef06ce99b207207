"""Pairwise costs and the assignment against mask stacks in float64 and transformers' matcher, both ways."""

import pytest
import torch
import transformers
from id_maps import target_maps, with_void

from modeling_maskformer import MaskFormerConfig
from modeling_maskformer.losses import matching, scratch
from modeling_maskformer.losses.assignment import assign
from modeling_maskformer.losses.matching import HungarianMatcher, mask_costs
from modeling_maskformer.losses.targets import Targets, checked_targets
from modeling_maskformer.targets import segments_from_masks

Q, K, H, W = 7, 3, 6, 5

pytestmark = pytest.mark.usefixtures("both_ways")


def _maps(num_segments=4, overlap=False, void=True, size=(H, W), seed=0):
    """Masks (S, H, W), void (H, W) and their maps, a batch of one."""
    torch.manual_seed(seed)
    owners = torch.randint(0, num_segments + 1, size)
    masks = torch.stack([owners == number for number in range(1, num_segments + 1)])
    if overlap:
        masks = torch.rand(num_segments, *size) > 0.5
    empty = (torch.rand(size) > 0.6) & ~masks.any(0) if void else torch.zeros(size, dtype=torch.bool)
    segments = with_void(segments_from_masks(masks, [0] * num_segments, size=size), empty)
    return masks, empty, target_maps(segments.ids[None], [num_segments])


def _plain_costs(logits, masks, void):
    """(Q, S) focal and dice cost, pair by pair over the pixels that are not void."""
    probability = logits.double().sigmoid()[:, None, ~void]  # (Q, 1, P)
    target = masks[None, :, ~void].double()  # (1, S, P)
    right = torch.where(target > 0, probability, 1 - probability)
    focal = -((0.75 - 0.5 * target) * (1 - right) ** 2 * right.log()).mean(-1)
    sums = probability.sum(-1) + target.sum(-1)
    return focal, 1 - (2 * (probability * target).sum(-1) + 1) / (sums + 1)


@pytest.mark.parametrize("block", [1, 70, 1 << 18], ids=["a query at a time", "some", "all"])
@pytest.mark.parametrize("overlap", [False, True], ids=["one layer", "overlapping"])
@pytest.mark.parametrize("void", [False, True], ids=["labelled", "void"])
def test_costs_are_those_of_every_pair(void, overlap, block, monkeypatch):
    monkeypatch.setattr(scratch, "CPU_BLOCK", block)
    masks, empty, maps = _maps(overlap=overlap, void=void)
    logits = torch.randn(Q, H, W) * 4
    ours = mask_costs(logits[None, None], maps)
    for cost, expected in zip(ours, _plain_costs(logits, masks, empty), strict=True):
        torch.testing.assert_close(cost[0, 0].double(), expected, rtol=1e-5, atol=1e-6)


def test_the_cost_is_the_weighted_sum_of_its_three_parts():
    masks, empty, maps = _maps()
    classes, logits = torch.randn(Q, K + 1), torch.randn(Q, H, W) * 4
    targets = Targets(maps, torch.tensor([[2, 0, 1, 2]]), [4])
    focal, dice = _plain_costs(logits, masks, empty)
    expected = 3 * focal + 5 * dice - classes.double().softmax(-1)[:, [2, 0, 1, 2]]
    cost = HungarianMatcher(mask_weight=3.0, dice_weight=5.0).costs(classes[None, None], logits[None, None], targets)
    torch.testing.assert_close(cost[0, 0].double(), expected, rtol=1e-5, atol=1e-5)


def test_what_the_model_says_at_void_costs_nothing():
    _, void, maps = _maps()
    logits = torch.randn(1, 1, Q, H, W)
    moved = logits.masked_fill(void, 50.0)
    for first, second in zip(*(mask_costs(x, maps) for x in (logits, moved)), strict=True):
        torch.testing.assert_close(first, second)


@pytest.mark.parametrize("size", [(H * 4, W * 4), (H * 3 + 1, W * 2 + 1)], ids=str)
def test_every_layer_and_image_is_matched_as_transformers_matches_it(size):
    torch.manual_seed(1)
    classes, logits = torch.randn(3, 2, Q, K + 1) * 2, torch.randn(3, 2, Q, H, W) * 3
    masks = [(torch.rand(count, *size) > 0.6) for count in (4, 6)]
    labels = [torch.randint(0, K, (len(m),)) for m in masks]
    segments = [segments_from_masks(m, c).ids for m, c in zip(masks, labels, strict=True)]
    ids = torch.zeros(2, max(len(s) for s in segments), *size, dtype=torch.uint8)
    for target, image in zip(ids, segments, strict=True):
        target[: len(image)] = image
    targets = checked_targets(labels, ids, None, K, ids.device)
    ours = HungarianMatcher()(classes, logits, targets)
    theirs = transformers.models.maskformer.modeling_maskformer.MaskFormerHungarianMatcher(1.0, 20.0, 1.0)
    for layer in range(3):
        expected = theirs(logits[layer], classes[layer], [m.float() for m in masks], labels)
        for image, other in enumerate(expected):
            mine = _pairs(ours, layer, image)
            assert mine == dict(zip(*map(torch.Tensor.tolist, other), strict=True))


def _pairs(matches, layer=0, image=0):
    """The segment of each matched query."""
    some = matches.images == image
    return dict(zip(matches.queries[some, layer].tolist(), matches.segments[some, layer].tolist(), strict=True))


def _targets(maps, num_segments):
    """Targets of one image, whose segments are all of class 0."""
    return Targets(maps, torch.zeros(1, num_segments, dtype=torch.int64), [num_segments])


def test_more_segments_than_queries_warns_and_matches_all_queries(monkeypatch):
    warnings = []
    monkeypatch.setattr(matching.logger, "warning_once", warnings.append)
    _, _, maps = _maps(num_segments=9)
    matches = HungarianMatcher()(torch.randn(1, 1, Q, K + 1), torch.randn(1, 1, Q, H, W), _targets(maps, 9))
    pairs = _pairs(matches)
    assert sorted(pairs) == list(range(Q))
    assert len(set(pairs.values())) == Q
    assert "9 segments but the model only 7 queries" in warnings[0]


def test_an_image_without_segments_has_no_match():
    maps = target_maps(torch.zeros(1, 1, H, W, dtype=torch.uint8), [0])
    targets = Targets(maps, torch.zeros(1, 1, dtype=torch.int64), [0])
    matches = HungarianMatcher()(torch.randn(2, 1, Q, K + 1), torch.randn(2, 1, Q, H, W), targets)
    assert matches.queries.shape == matches.segments.shape == (0, 2)
    assert matches.num_pairs == [0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_non_finite_cost_names_layer_and_image(value):
    _, _, maps = _maps(void=False)
    logits = torch.randn(2, 1, Q, H, W)
    logits[1, 0, 2] = value
    with pytest.raises(FloatingPointError, match="decoder layer 1, image 0"):
        HungarianMatcher()(torch.randn(2, 1, Q, K + 1), logits, _targets(maps, 4))


def test_a_non_finite_cost_can_be_ignored_as_transformers_does():
    _, _, maps = _maps()
    classes, logits = torch.randn(1, 1, Q, K + 1), torch.randn(1, 1, Q, H, W)
    targets = _targets(maps, 4)
    logits[0, 0, :3] = float("nan")
    ignoring = HungarianMatcher(non_finite_cost="ignore")
    alone = _pairs(HungarianMatcher()(classes[:, :, 3:], logits[:, :, 3:], targets))
    assert _pairs(ignoring(classes, logits, targets)) == {query + 3: segment for query, segment in alone.items()}
    logits[:] = float("nan")
    assert len(_pairs(ignoring(classes, logits, targets))) == 4


def test_what_to_do_with_a_non_finite_cost_is_one_of_two():
    with pytest.raises(ValueError, match="non_finite_cost must be one of raise, ignore, got 'skip'"):
        HungarianMatcher(non_finite_cost="skip")
    with pytest.raises(ValueError, match="non_finite_cost must be one of raise, ignore, got 'skip'"):
        MaskFormerConfig(non_finite_cost="skip")


def test_costs_in_bfloat16_are_those_of_float32():
    _, _, maps = _maps()
    logits = torch.randn(2, 1, Q, H, W).bfloat16()
    for half, full in zip(*(mask_costs(x, maps) for x in (logits, logits.float())), strict=True):
        assert half.dtype == torch.float32
        assert torch.equal(half, full)


def test_no_image_is_matched_with_the_padding_of_another():
    """Of a batch with 5 and 1 segments, the costs of the second have four columns that belong to no segment."""
    costs = torch.randn(2, 2, Q, 5)
    costs[:, 1, :, 1:] = -100.0
    matches = assign(costs, [5, 1])
    assert matches.images.tolist() == [0] * 5 + [1]
    assert matches.segments[5].tolist() == [0, 0]
    assert matches.queries[5].tolist() == costs[:, 1, :, 0].argmin(1).tolist()
    assert matches.rows(Q)[5].tolist() == (Q + matches.queries[5]).tolist()
