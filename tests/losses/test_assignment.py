"""The assignment kernel, run by Triton's interpreter, finds assignments as cheap as SciPy's."""

import importlib.util

import numpy as np
import pytest
import torch

from modeling_maskformer.losses.assignment import assign_on_host

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)
if torch.cuda.is_available():
    pytest.skip("beside a GPU, Triton's kernels are compiled: see tests/gpu", allow_module_level=True)

from modeling_maskformer.losses.kernels.assignment import assign_on_device

LARGEST = torch.finfo(torch.float32).max


def _check(costs, num_segments):
    """Both give one-to-one assignments of each problem, and those of the kernel cost no more."""
    num_queries = costs.shape[2]
    device = [indices.numpy() for indices in assign_on_device(costs, num_segments)]
    host = assign_on_host(costs.numpy(), num_segments)
    assert device[0].shape == host[0].shape
    start = 0
    for image, count in enumerate(num_segments):
        pairs = slice(start, start := start + min(num_queries, count))
        for layer, cost in enumerate(costs[:, image].double().numpy()):
            (queries, segments), expected = ([part[pairs, layer] for part in pair] for pair in (device, host))
            assert len(set(queries)) == len(set(segments)) == len(queries)
            assert all(0 <= query < num_queries for query in queries)
            assert all(0 <= segment < count for segment in segments)
            assert np.isclose(cost[queries, segments].sum(), cost[tuple(expected)].sum(), rtol=1e-6)


@pytest.mark.parametrize("num_segments", [(3, 7, 0), (12, 9, 1), (20, 12, 2)], ids=str)
def test_random_costs(num_segments):
    """Fewer segments than queries, as many, more, and none."""
    _check(torch.randn(2, 3, 12, max(num_segments)), num_segments)


def test_costs_like_those_of_a_model():
    segments = torch.rand(2, 1, 1, 18) * 5  # some segments are hard for all queries
    _check(segments + torch.rand(2, 1, 25, 18).square() * 20, (18,))


def test_tied_costs():
    _check(torch.randint(0, 3, (2, 2, 10, 14)).float(), (14, 6))
    _check(torch.zeros(1, 2, 6, 9), (9, 4))


def test_degenerate_costs():
    """Products of a row and a column factor: every augmenting path is long."""
    row, column = torch.arange(1.0, 13)[:, None], torch.arange(1.0, 13)
    _check((row * column)[None, None], (12,))
    _check((-row * column)[None, None], (12,))


def test_replaced_costs_are_taken_only_where_no_other_is_left():
    costs = torch.rand(1, 2, 8, 6)
    costs[0, 0, :4] = LARGEST
    costs[0, 1] = LARGEST
    queries, segments = assign_on_device(costs, (4, 6))
    assert queries.shape == segments.shape == (10, 1)
    assert set(queries[:4, 0].tolist()) == {4, 5, 6, 7}
    assert len(set(queries[4:, 0].tolist())) == 6


def test_one_query_and_one_segment():
    _check(torch.randn(1, 1, 1, 1), (1,))
    _check(torch.randn(1, 1, 1, 4), (4,))
    _check(torch.randn(1, 1, 4, 1), (1,))
