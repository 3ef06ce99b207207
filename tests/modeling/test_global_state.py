"""Nothing that one forward leaves behind changes another; the process's defaults stay as they are."""

import pytest
import torch
from models import ARCHITECTURES, logits_of, tiny
from torch._subclasses.fake_tensor import FakeTensorMode

from modeling_maskformer.backbone.timm_models import _meta_model, timm_out_indices, timm_size_rule


@pytest.mark.parametrize("kind", ARCHITECTURES)
@torch.no_grad()
def test_a_forward_of_fake_tensors_leaves_none_behind(kind):
    model = tiny(kind).eval()
    pixels = torch.randn(1, 3, 64, 96)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = logits_of(model(mode.from_tensor(pixels)))
    assert fake.shape[-2:] == (16, 24)
    assert type(logits_of(model(pixels))) is torch.Tensor and logits_of(model(pixels)).isfinite().all()


@pytest.mark.parametrize("kind", ARCHITECTURES)
@torch.no_grad()
def test_a_default_device_of_another_kind_changes_no_result(kind):
    model = tiny(kind).eval()
    pixels = torch.randn(1, 3, 64, 96)
    expected = logits_of(model(pixels))
    with torch.device("meta"):
        found = logits_of(model(pixels))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(logits_of(model(pixels)), expected)


@pytest.mark.parametrize("name", ["resnet10t", "test_vit", "test_convnext"])
def test_what_timm_s_models_are_like_does_not_depend_on_when_they_are_asked(name):
    def ask():
        _meta_model.cache_clear()
        timm_size_rule.cache_clear()
        return timm_out_indices(name), timm_size_rule(name)

    expected, dtype = ask(), torch.get_default_dtype()
    for surroundings in (FakeTensorMode(), torch.device("meta"), torch.inference_mode()):
        with surroundings:
            assert ask() == expected
        assert timm_size_rule(name) == expected[1]
    torch.set_default_dtype(torch.bfloat16)  # as while a model is loaded in half precision
    try:
        assert ask() == expected
        assert torch.get_default_dtype() == torch.bfloat16
    finally:
        torch.set_default_dtype(dtype)
