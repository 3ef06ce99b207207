"""Tests do not change the numbers of those after them."""

import pytest
import torch


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="PyTorch before 2.9 has one setting only")
@pytest.mark.parametrize("time", ["first", "second"])
def test_tf32_is_taken_back_after_a_test_that_trains(time):
    assert torch.get_float32_matmul_precision() == "highest"
    torch.backends.fp32_precision = "tf32"  # as transformers does on a GPU
