"""Where dropout acts in the layers of the decoder and of the encoder: all of it drops what a branch adds."""

import pytest
import torch
from tiny import tiny_model
from torch import nn

from modeling_maskformer.layers.transformer_decoder import TransformerDecoderLayer
from modeling_maskformer.layers.transformer_pixel_decoder import TransformerEncoderLayer

C = 8


def _randomized(layer):
    """The layer in training, with norms and biases that are not 1 and 0."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter))
    return layer.train()


def _decoder_layer(**dropouts):
    dropouts = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0} | dropouts
    return _randomized(TransformerDecoderLayer(C, num_heads=2, ffn_channels=12, activation="relu", **dropouts))


def _inputs():
    hidden, positions, memory = torch.randn(2, 3, C), torch.randn(3, C), torch.randn(2, 5, C)
    return hidden, positions, memory, memory + torch.randn(5, C)


def test_dropout_of_all_leaves_the_decoder_its_norms():
    layer, inputs = _decoder_layer(dropout=1.0), _inputs()
    expected = layer.final_layer_norm(layer.encoder_attn_layer_norm(layer.self_attn_layer_norm(inputs[0])))
    torch.testing.assert_close(layer(*inputs)[0], expected)


def test_dropout_of_all_activations_leaves_the_bias_of_the_feed_forward():
    layer, inputs = _decoder_layer(activation_dropout=1.0), _inputs()
    found = layer(*inputs)[0]
    nn.init.zeros_(layer.fc2.weight)
    torch.testing.assert_close(found, layer.eval()(*inputs)[0])


@pytest.mark.parametrize("with_weights", [False, True])
def test_dropout_of_all_attention_leaves_the_biases_of_both_attentions(with_weights):
    layer, inputs = _decoder_layer(attention_dropout=1.0), _inputs()
    found = layer(*inputs, with_weights)[0]
    nn.init.zeros_(layer.self_attn.out_proj.weight)
    nn.init.zeros_(layer.encoder_attn.out_proj.weight)
    torch.testing.assert_close(found, layer.eval()(*inputs)[0])


def test_dropout_of_all_leaves_the_encoder_its_norms():
    layer = _randomized(TransformerEncoderLayer(C, num_heads=2, ffn_channels=12, dropout=1.0))
    hidden = torch.randn(2, 5, C)
    expected = layer.final_layer_norm(layer.self_attn_layer_norm(hidden))
    torch.testing.assert_close(layer(hidden, torch.randn(5, C)), expected)


def test_each_dropout_of_the_config_is_that_of_the_layers():
    dropouts = {"dropout": 0.1, "attention_dropout": 0.2, "activation_dropout": 0.3}
    model = tiny_model(decoder_config=dropouts, pixel_decoder_layers=1).model
    for layer in model.transformer_module.decoder.layers:
        assert (layer.dropout.p, layer.activation_dropout.p) == (0.1, 0.3)
        assert layer.self_attn.dropout == layer.encoder_attn.dropout == 0.2
    assert [layer.dropout.p for layer in model.pixel_level_module.decoder.encoder.layers] == [0.1]


def test_dropout_ends_with_training():
    hidden, positions, *memory = _inputs()
    dropped = _decoder_layer(dropout=0.5, attention_dropout=0.5, activation_dropout=0.5)
    kept = _decoder_layer()
    kept.load_state_dict(dropped.state_dict())
    expected = kept(hidden, positions, *memory)[0]
    torch.testing.assert_close(dropped.eval()(hidden, positions, *memory)[0], expected)
