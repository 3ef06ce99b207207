"""The pixel decoder's own GroupNorm gives PyTorch's numbers, part by part."""

import pytest
import torch
from torch import nn

from modeling_maskformer.layers import pixel_decoder
from modeling_maskformer.layers.pixel_decoder import GroupNorm


@pytest.mark.parametrize("part", [1, 1000, 2500, 100_000], ids=["a group", "some groups", "uneven", "all groups"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@torch.no_grad()
def test_parts_of_groups_give_the_numbers_of_all_at_once(monkeypatch, part, layout):
    monkeypatch.setattr(pixel_decoder, "PART", part)
    ours, plain = GroupNorm(64), nn.GroupNorm(32, 64)
    for parameter in ours.parameters():
        nn.init.normal_(parameter)
    plain.load_state_dict(ours.state_dict())
    maps = (3 + 2 * torch.randn(2, 64, 7, 9)).contiguous(memory_format=layout)
    expected = plain(maps.clone())
    torch.testing.assert_close(ours(maps), expected, atol=1e-5, rtol=1e-5)


def test_gradients_need_the_maps(monkeypatch):
    monkeypatch.setattr(pixel_decoder, "PART", 1)
    maps = torch.randn(1, 64, 5, 5)
    before = maps.clone()
    GroupNorm(64)(maps).sum().backward()
    assert torch.equal(maps, before)
