"""Who chooses half precision on a CPU that has no instructions for it is told so, before the time is spent."""

import platform

import pytest
import torch
from tiny import tiny_model

from modeling_maskformer import half_precision
from modeling_maskformer.half_precision import cpu_computes, slow_precision_text
from modeling_maskformer.inference.predictor import prepare_model

CPU = torch.device("cpu")


@pytest.fixture
def float32_only(monkeypatch):
    """A CPU as most are: without instructions for either of the half precisions."""
    monkeypatch.setattr(half_precision, "cpu_computes", lambda dtype: dtype == torch.float32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_sentence_names_the_precision(float32_only, dtype):
    text = slow_precision_text(CPU, dtype)
    assert str(dtype).removeprefix("torch.") in text and text.endswith("choose float32")


def test_nothing_is_said_of_float32_nor_of_other_devices(float32_only):
    assert slow_precision_text(CPU, torch.float32) is None
    assert slow_precision_text(torch.device("cuda", 0), torch.bfloat16) is None


@pytest.mark.skipif(platform.machine() != "x86_64", reason="what follows from AVX holds for x86_64")
def test_a_cpu_with_avx512_computes_with_bfloat16_and_one_with_avx2_alone_does_not_with_float16():
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        assert cpu_computes(torch.bfloat16)
    if torch.backends.cpu.get_cpu_capability() == "AVX2":
        assert not cpu_computes(torch.float16)


def test_a_cpu_computes_with_float32_and_float64():
    assert cpu_computes(torch.float32) and cpu_computes(torch.float64)


def test_a_pytorch_that_cannot_tell_says_nothing(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert cpu_computes(torch.bfloat16) and slow_precision_text(CPU, torch.bfloat16) is None


@pytest.mark.parametrize(("dtype", "said"), [("bfloat16", 1), ("float16", 1), ("float32", 0)])
def test_a_predictor_says_it(float32_only, caplog, dtype, said):
    prepare_model(tiny_model(num_labels=3), "cpu", dtype)
    assert caplog.text.count(f"no instructions for {dtype}") == said
