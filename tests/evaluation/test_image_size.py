"""The size of evaluation: how it follows from training, and how others are tried."""

import pytest

from image_processing import MaskFormerImageProcessor
from modeling_maskformer.evaluation.image_size import (
    evaluation_shortest_edge,
    resize_to_shortest_edge,
    sizes_to_try,
)


def test_the_size_of_evaluation_follows_from_what_training_saw():
    assert evaluation_shortest_edge((400, 640), (0.5, 2.0), []) == 500
    assert evaluation_shortest_edge((400, 640), (0.5, 2.0), [300, 350]) == 325
    assert evaluation_shortest_edge(None, (0.5, 2.0), [480, 800, 640]) == 800


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ({"shortest_edge": 512, "longest_edge": 2048}, {"shortest_edge": 300, "longest_edge": 1200}),
        ({"shortest_edge": 800, "longest_edge": 1333}, {"shortest_edge": 300, "longest_edge": 500}),
        ({"height": 384, "width": 384}, {"shortest_edge": 300, "longest_edge": 1200}),
    ],
)
def test_another_short_edge_keeps_the_bound_of_the_long_one_in_proportion(size, expected):
    processor = MaskFormerImageProcessor(size=size, do_resize=False)
    resize_to_shortest_edge(processor, 300)
    assert dict(processor.size) == expected and processor.do_resize
    with pytest.raises(ValueError, match="at least 1 pixel, got 0"):
        resize_to_shortest_edge(processor, 0)


def test_sizes_to_try_lie_around_the_processors_own():
    sizes = sizes_to_try(MaskFormerImageProcessor(size={"shortest_edge": 400, "longest_edge": 1600}))
    assert 400 in sizes and sizes == sorted(set(sizes)) and sizes[0] < 400 < sizes[-1]
    with pytest.raises(ValueError, match="resizes to no short edge"):
        sizes_to_try(MaskFormerImageProcessor(size={"height": 384, "width": 384}))
