"""Fixtures of all tests: no network, fixed seeds, and the optional shared data."""

import importlib.util
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is imported: its kernels then run on a CPU

from modeling_maskformer import fast_on_cpu

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)


def _take_tf32_back():
    """Transformers allows it on a GPU, for the process, once a training is prepared, and never takes it back.

    In PyTorch 2.9 and later asking for the precision of matrix products is an error then.
    """
    if hasattr(torch.backends, "fp32_precision"):
        torch.backends.fp32_precision = "none"
    else:
        torch.backends.cuda.matmul.allow_tf32 = False


@pytest.fixture(autouse=True)
def _settings_of_torch_are_given_back():
    """What a test leaves set would change the numbers of those after it, which compare to the last bit."""
    _take_tf32_back()  # of a fixture of the module

    def settings():
        return {
            "threads": torch.get_num_threads(),
            "default dtype": torch.get_default_dtype(),
            "gradients": torch.is_grad_enabled(),
            "precision of matrix products": torch.get_float32_matmul_precision(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
        }

    before = settings()
    yield
    _take_tf32_back()
    after = settings()
    torch.set_num_threads(before["threads"])
    torch.set_default_dtype(before["default dtype"])
    torch.set_grad_enabled(before["gradients"])
    assert after == before


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real datasets beside the repository."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the real datasets are not beside this repository (../shared/data)")
    return SHARED / "data"


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """The folder of pretrained backbone weights beside the repository."""
    if not (SHARED / "weights").is_dir():
        pytest.skip("the pretrained weights are not beside this repository (../shared/weights)")
    return SHARED / "weights"


@pytest.fixture
def plain_path(monkeypatch):
    """A CPU computes as every other device does: by the plain twins of what is written for it."""
    monkeypatch.setattr(fast_on_cpu, "FAST_DEVICES", ())


@pytest.fixture(params=["for a CPU", "plain"])
def both_ways(request, monkeypatch):
    """The test runs the way written for a CPU, and the plain one."""
    if request.param == "plain":
        monkeypatch.setattr(fast_on_cpu, "FAST_DEVICES", ())


@pytest.fixture
def interpreted_triton(monkeypatch):
    """Triton's kernels run on a CPU, interpreted: slow, so that cases have to be small."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    if torch.cuda.is_available():
        pytest.skip("beside a GPU, Triton's kernels are compiled: see tests/gpu")
    monkeypatch.setattr(fast_on_cpu, "FAST_DEVICES", ())


@pytest.fixture
def no_pause_after_threads(monkeypatch):
    """`datasets` waits for some seconds after each epoch of several files; here it does not."""
    import datasets

    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)
