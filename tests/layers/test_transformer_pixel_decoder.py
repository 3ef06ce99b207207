"""The pixel decoder with transformer encoder layers: computed, saved and refused as it should be."""

import json

import pytest
import torch
import transformers
from tiny import tiny_config, tiny_model, untrained
from torch import nn

from modeling_maskformer import MaskFormerConfig, MaskFormerForInstanceSegmentation
from modeling_maskformer.layers.position_embedding import sine_position_embedding
from modeling_maskformer.layers.transformer_pixel_decoder import TransformerEncoder, TransformerPixelDecoder


def _torch_layer(layer, channels, heads):
    """PyTorch's own encoder layer with the same weights; positions are added outside."""
    attention = nn.MultiheadAttention(channels, heads, batch_first=True)
    ours = layer.self_attn
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.cat([p.weight for p in (ours.q_proj, ours.k_proj, ours.v_proj)]))
        attention.in_proj_bias.copy_(torch.cat([p.bias for p in (ours.q_proj, ours.k_proj, ours.v_proj)]))
        attention.out_proj.weight.copy_(ours.out_proj.weight)
        attention.out_proj.bias.copy_(ours.out_proj.bias)
    return attention


def test_the_encoder_is_detr_s():
    encoder = TransformerEncoder(channels=32, num_layers=2, num_heads=4, ffn_channels=48, dropout=0.1).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        feature = torch.randn(2, 32, 3, 5)
        hidden = feature.flatten(2).transpose(1, 2)
        positions = sine_position_embedding(3, 5, 32)
        for layer in encoder.layers:
            attention = _torch_layer(layer, 32, 4)
            attended, _ = attention(hidden + positions, hidden + positions, hidden)
            hidden = layer.self_attn_layer_norm(hidden + attended)
            hidden = layer.final_layer_norm(hidden + layer.fc2(torch.relu(layer.fc1(hidden))))
        expected = hidden.transpose(1, 2).reshape(2, 32, 3, 5)
        torch.testing.assert_close(encoder(feature), expected, atol=1e-5, rtol=1e-5)


def test_the_encoded_feature_feeds_both_the_fpn_and_the_transformer_decoder():
    decoder = TransformerPixelDecoder([8, 16, 32, 64], 32, 32, num_layers=1, num_heads=4, ffn_channels=32).eval()
    features = [torch.randn(1, c, s, s) for c, s in zip([8, 16, 32, 64], [16, 8, 4, 2], strict=True)]
    with torch.no_grad():
        memory, maps, _ = decoder(features)
        assert memory.shape == (1, 32, 2, 2)
        again = decoder.fpn([*features[:-1], memory])
    for mine, other in zip(maps, again, strict=True):
        assert torch.equal(mine, other)


def test_the_model_trains_every_weight_of_it():
    model = tiny_model(pixel_decoder_layers=2).train()
    assert model.model.transformer_module.input_projection is None  # the encoder's width is the decoder's
    ids = torch.randint(0, 3, (1, 1, 64, 64), dtype=torch.uint8)
    model(torch.randn(1, 3, 64, 64), segment_ids=ids, class_labels=[torch.tensor([0, 1])]).loss.backward()
    assert untrained(model) == []


@pytest.mark.parametrize("fields", [{"pixel_decoder_layers": 1}, {"enforce_input_projection": True}], ids=str)
def test_a_checkpoint_that_transformers_cannot_represent_has_a_model_type_of_its_own(fields, tmp_path):
    decoder = {"d_model": 64} if "enforce_input_projection" in fields else {}
    model = tiny_model("resnet", decoder_config=decoder, **fields).eval()
    model.save_pretrained(tmp_path)
    # without the import of this package, no class of transformers answers this model type
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "maskformer-extended"
    assert "maskformer-extended" not in transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES
    pixels = torch.randn(1, 3, 64, 64)
    for load in (
        MaskFormerForInstanceSegmentation.from_pretrained,
        transformers.AutoModelForUniversalSegmentation.from_pretrained,
    ):
        again, info = load(tmp_path, output_loading_info=True)
        assert type(again) is MaskFormerForInstanceSegmentation and not any(info.values())
        with torch.no_grad():
            torch.testing.assert_close(again.eval()(pixels).masks_queries_logits, model(pixels).masks_queries_logits)


def test_the_paper_s_fpn_keeps_the_model_type_of_transformers():
    assert tiny_config().to_dict()["model_type"] == "maskformer"
    assert MaskFormerConfig.from_dict(tiny_config(pixel_decoder_layers=3).to_dict()).pixel_decoder_layers == 3


def test_a_negative_number_of_layers_is_refused():
    with pytest.raises(ValueError, match="pixel_decoder_layers must not be negative, got -1"):
        tiny_config(pixel_decoder_layers=-1)
