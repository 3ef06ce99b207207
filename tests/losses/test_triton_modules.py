"""Which kernels are used on a GPU: what is found out once holds for every later call, on every device."""

from importlib import import_module

import pytest
import torch

from modeling_maskformer.losses.kernels import triton_modules
from modeling_maskformer.to_device import to_device

NAMES = ["matching", "assignment", "dense", "points"]


@pytest.fixture
def kernels(interpreted_triton, monkeypatch):
    """The modules as on a GPU of compute capability 9."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    triton_modules._working_module.cache_clear()
    yield lambda name: triton_modules._working_module(name, torch.device("cpu"))
    triton_modules._working_module.cache_clear()


@pytest.mark.parametrize("first", [torch.inference_mode, torch.no_grad, torch.enable_grad])
@pytest.mark.parametrize("name", NAMES)
def test_a_first_loss_without_gradients_turns_no_kernel_off(kernels, name, first):
    with first():
        assert kernels(name) is not None


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_starts_on_the_device_of_its_tensors(kernels, name, monkeypatch):
    """Not on the current one, which is another where a model was moved to `cuda:1` by hand."""
    on_device, started = [], []
    module = import_module(f"modeling_maskformer.losses.kernels.{name}")

    class DeviceOf(torch.cuda.device_of):
        def __enter__(self):
            on_device.append(True)

        def __exit__(self, *error):
            on_device.pop()

    monkeypatch.setattr(torch.cuda, "device_of", DeviceOf)
    for kernel in [kernel for kernel in dir(module) if kernel.endswith("_kernel")]:
        original = getattr(module, kernel)

        class Started:
            def __getitem__(self, grid, original=original):
                started.append(bool(on_device))
                return original[grid]

        monkeypatch.setattr(module, kernel, Started())
    module.try_out(torch.device("cpu"))
    assert started and all(started)


def test_matching_is_tried_out_in_both_precisions(kernels, monkeypatch):
    module = import_module("modeling_maskformer.losses.kernels.matching")
    seen = []
    mask_costs = module.mask_costs
    monkeypatch.setattr(module, "mask_costs", lambda logits, maps: seen.append(logits[0]) or mask_costs(logits, maps))
    module.try_out(torch.device("cpu"))
    assert {logits.dtype for logits in seen} == {torch.float16, torch.float32}
    assert all(logits[0, 0].numel() % 16 == 0 for logits in seen)  # for which Triton compiles a form of its own


@pytest.mark.parametrize(("kind", "waits"), [("cuda", False), ("mps", True), ("cpu", True)])
def test_only_cuda_has_read_a_source_it_does_not_wait_for(kind, waits):
    class Values:
        def to(self, device, non_blocking):
            return not non_blocking

    assert to_device(Values(), torch.device(kind)) is waits
