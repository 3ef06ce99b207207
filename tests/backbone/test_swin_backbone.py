"""Swin in pieces gives transformers' features, whatever the size of the image."""

import pytest
import torch
from transformers.models.maskformer.configuration_maskformer_swin import MaskFormerSwinConfig
from transformers.models.maskformer.modeling_maskformer_swin import MaskFormerSwinBackbone

from modeling_maskformer.backbone import swin_windows
from modeling_maskformer.backbone.swin import Swin
from modeling_maskformer.backbone.swin_backbone import SwinBackbone
from modeling_maskformer.backbone.swin_windows import pieces_of

WINDOW = 4


def backbones():
    """transformers' and this package's, with the same weights, biases and position biases among them."""
    config = MaskFormerSwinConfig.from_dict(Swin(16, (2, 2, 2, 1), (1, 2, 4, 8), WINDOW, 64, "").config())
    theirs, ours = MaskFormerSwinBackbone(config).eval(), SwinBackbone(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("piece", [1, 40, 10_000], ids=["one window", "few windows", "all windows"])
@pytest.mark.parametrize("size", [(64, 64), (96, 160), (75, 109), (30, 201), (5, 9)])
@torch.no_grad()
def test_features_are_those_of_transformers(monkeypatch, size, piece):
    monkeypatch.setattr(swin_windows, "PIECE", piece)
    theirs, ours = backbones()
    pixels = torch.randn(2, 3, *size)
    for found, expected in zip(ours(pixels).feature_maps, theirs(pixels).feature_maps, strict=True):
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("autocast", [False, True], ids=["bfloat16 weights", "autocast"])
@torch.no_grad()
def test_half_precision_is_as_exact_as_that_of_transformers(autocast):
    theirs, ours = backbones()
    pixels = torch.randn(1, 3, 75, 109)
    exact = theirs(pixels).feature_maps
    if not autocast:
        theirs, ours, pixels = theirs.bfloat16(), ours.bfloat16(), pixels.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        maps = zip(ours(pixels).feature_maps, theirs(pixels).feature_maps, exact, strict=True)
        for found, expected, right in maps:
            assert found.dtype == expected.dtype
            assert (found - right).abs().mean() < 1.2 * (expected - right).abs().mean()


def test_gradients_flow_outside_training():
    theirs, ours = backbones()
    pixels = torch.randn(1, 3, 75, 109)
    gradients = []
    for backbone in (theirs, ours):
        sum(feature.square().sum() for feature in backbone(pixels).feature_maps).backward()
        gradients.append({name: p.grad for name, p in backbone.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, atol=1e-3, rtol=1e-3, msg=name)


def test_training_and_other_outputs_are_transformers():
    theirs, ours = backbones()
    pixels = torch.randn(1, 3, 64, 96)
    expected, found = (backbone(pixels, output_hidden_states=True) for backbone in (theirs, ours))
    assert found.hidden_states is not None
    assert all(torch.equal(*maps) for maps in zip(found.feature_maps, expected.feature_maps, strict=True))
    torch.manual_seed(0)
    expected = theirs.train()(pixels).feature_maps
    torch.manual_seed(0)
    found = ours.train()(pixels).feature_maps
    assert all(torch.equal(*maps) for maps in zip(found, expected, strict=True))


@pytest.mark.parametrize("piece", [1, 40, 10_000])
@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("size", [(8, 12), (7, 10), (3, 3), (4, 1), (9, 6), (1, 5)])
def test_every_pixel_has_one_place(monkeypatch, size, shift, piece):
    monkeypatch.setattr(swin_windows, "PIECE", piece)
    maps = torch.arange(3 * size[0] * size[1]).view(3, *size, 1)
    again = torch.full_like(maps, -1)
    for part in pieces_of(maps, WINDOW, shift):
        pixels = part.take(maps)
        padded = torch.cat((pixels, torch.tensor([[-1]])))[:, 0]
        in_windows = padded[part.windows.pixels]  # (n, w * w)
        assert (in_windows >= 0).sum() == len(pixels)
        part.put(in_windows.flatten()[part.windows.places][:, None], again)
        if shift == 0:
            assert part.windows.mask is None
    assert torch.equal(again, maps)


def test_pieces_alike_share_their_windows(monkeypatch):
    monkeypatch.setattr(swin_windows, "PIECE", 1)
    pieces = list(pieces_of(torch.zeros(1, 18, 9, 1), WINDOW, 2))
    assert len(pieces) == 5 and len({id(piece.windows) for piece in pieces}) == 2
