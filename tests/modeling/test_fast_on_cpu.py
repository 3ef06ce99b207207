"""Where the way written for a CPU runs, and where its plain twin does."""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from modeling_maskformer.fast_on_cpu import use_cpu_path


class Choice(torch.nn.Module):
    """Adds 1 where the CPU's way would run."""

    def forward(self, x):
        return x + 1 if use_cpu_path(x) else x + 0


def test_only_tensors_of_a_cpu_take_its_way():
    assert use_cpu_path(torch.zeros(1)) and use_cpu_path(torch.nn.Parameter(torch.zeros(1)))
    assert use_cpu_path(torch.device("cpu"))
    assert not use_cpu_path(torch.zeros(1, device="meta"))
    assert not use_cpu_path(torch.device("cuda"))


def test_fake_tensors_take_the_plain_way():
    with FakeTensorMode():
        assert not use_cpu_path(torch.zeros(1))


def test_captured_graphs_hold_the_plain_way():
    x = torch.zeros(1)
    assert Choice()(x).item() == 1
    assert torch.jit.trace(Choice(), (x,), check_trace=False)(x).item() == 0
    assert torch.export.export(Choice(), (x,)).module()(x).item() == 0
    assert torch.compile(Choice(), backend="eager", fullgraph=True)(x).item() == 0


def test_a_test_can_send_a_cpu_the_plain_way(plain_path):
    assert not use_cpu_path(torch.zeros(1)) and not use_cpu_path(torch.device("cpu"))
