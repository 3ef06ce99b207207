"""Tables of sizes are made once, and never of tensors that hold no numbers."""

import pytest
import torch

from image_processing.size_tables import size_table


def table_of(calls):
    @size_table(maxsize=2)
    def table(size, device):
        calls.append(size)
        return torch.arange(size, device=device).to(torch.get_default_dtype())

    return table


def test_a_table_is_made_once_for_each_device_and_default_dtype():
    calls = []
    table = table_of(calls)
    assert table(3, None) is table(3, None) and calls == [3]
    assert table(3, torch.device("meta")).device.type == "meta" and len(calls) == 2
    torch.set_default_dtype(torch.float64)
    try:
        assert table(3, None).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_only_the_last_ones_are_kept():
    calls = []
    table = table_of(calls)
    for size in (1, 2, 3, 1):
        table(size, None)
    assert calls == [1, 2, 3, 1]


def test_without_a_device_a_table_is_on_the_cpu_whatever_the_default_is():
    with torch.device("meta"):
        assert table_of([])(3, None).tolist() == [0, 1, 2]


def test_a_table_made_under_inference_mode_serves_training():
    with torch.inference_mode():
        table = table_of([])(3, None)
    (torch.ones(3, requires_grad=True) * table).sum().backward()
    assert not table.is_inference()


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_nothing_is_kept_or_used_under_fake_tensors_and_in_graphs():
    calls = []
    table = table_of(calls)
    real = table(3, None)
    with torch._subclasses.FakeTensorMode():
        assert type(table(3, None)) is not torch.Tensor and type(table(4, None)) is not torch.Tensor
    assert table(3, None) is real and type(table(4, None)) is torch.Tensor
    compiled = torch.compile(lambda x: x + table(len(x), None), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(torch.zeros(3)), real)
    traced = torch.jit.trace(lambda x: x + table(3, None), torch.zeros(3))
    torch.testing.assert_close(traced(torch.zeros(3)), real)
    assert calls.count(3) > 1 and table(3, None) is real
