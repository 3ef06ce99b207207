"""What a user sees of the model: outputs, initialisation, backbones, errors."""

import math

import pytest
import torch
from safetensors.torch import save_file
from tiny import BACKBONES, tiny_config, tiny_model
from torch import nn

from modeling_maskformer import MaskFormerConfig, MaskFormerForInstanceSegmentation
from modeling_maskformer.backbone import load_backbone_weights, timm_out_indices
from modeling_maskformer.layers.position_embedding import sine_position_embedding
from modeling_maskformer.layers.transformer_decoder import TransformerDecoder


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("size", [(64, 64), (97, 61), (33, 190)], ids=str)
def test_any_input_size_works(backbone, size):
    model = tiny_model(backbone).eval()
    with torch.no_grad():
        outputs = model(torch.randn(1, 3, *size))
    assert outputs.masks_queries_logits.shape == (1, 10, math.ceil(size[0] / 4), math.ceil(size[1] / 4))
    assert outputs.class_queries_logits.shape == (1, 10, 6)
    assert outputs.image_sizes.tolist() == [list(size)]


def test_a_fresh_model_starts_as_the_paper_s():
    model = tiny_model(
        "resnet",
        decoder_config={"d_model": 128, "num_queries": 100, "decoder_ffn_dim": 512, "decoder_attention_heads": 8},
    )
    transformer = model.model.transformer_module
    assert transformer.queries_embedder.weight.std().item() == pytest.approx(1.0, rel=0.05)
    for layer in transformer.decoder.layers:
        for attention in (layer.self_attn, layer.encoder_attn):
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
                bound = math.sqrt(6 / (128 + 3 * 128))  # Xavier of one (3C, C) matrix
                assert 0.98 * bound < projection.weight.abs().max() <= bound
                assert not projection.bias.any()
            bound = math.sqrt(6 / (128 + 128))
            assert 0.98 * bound < attention.out_proj.weight.abs().max() <= bound
        bound = math.sqrt(6 / (128 + 512))
        assert 0.98 * bound < layer.fc1.weight.abs().max() <= bound
        assert not layer.fc1.bias.any() and not layer.fc2.bias.any()
    decoder = model.model.pixel_level_module.decoder
    convs = [m for m in decoder.modules() if isinstance(m, nn.Conv2d)] + [transformer.input_projection]
    for conv in convs:
        bound = math.sqrt(3 / (conv.in_channels * conv.kernel_size[0] ** 2))  # Kaiming-uniform, a = 1
        assert 0.97 * bound < conv.weight.abs().max() <= bound
    biases = [conv.bias for conv in convs if conv.bias is not None]
    assert len(biases) == 2 and not any(bias.any() for bias in biases)  # other convolutions have a norm behind them
    bound = 1 / math.sqrt(128)  # PyTorch's default of Linear
    assert 0.95 * bound < model.class_predictor.weight.abs().max() <= bound
    assert 0.5 * bound < model.class_predictor.bias.abs().max() <= bound


def test_queries_of_a_fresh_model_differ():
    """With embeddings of N(0, 0.02) they are all but equal, and the model cannot learn."""
    model = tiny_model().eval()
    embeddings = model.model.transformer_module.queries_embedder.weight
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        spread = torch.pdist(model.model(pixels).transformer_decoder_last_hidden_state[0]).mean()
        embeddings.mul_(0.02)
        small = torch.pdist(model.model(pixels).transformer_decoder_last_hidden_state[0]).mean()
    assert spread > 10 * small


def test_there_is_one_auxiliary_output_per_layer_but_the_last_each_through_the_final_norm():
    model = tiny_model().eval()
    with torch.no_grad():
        outputs = model(torch.randn(2, 3, 64, 64), output_auxiliary_logits=True, output_hidden_states=True)
        assert len(outputs.auxiliary_logits) == 2
        states = outputs.transformer_decoder_hidden_states
        assert len(states) == 4 and not states[0].any()
        normed = model.model.transformer_module.decoder.layernorm(states[1])
        torch.testing.assert_close(
            outputs.auxiliary_logits[0]["class_queries_logits"], model.class_predictor(normed), atol=1e-5, rtol=0
        )


def test_loss_parts_come_by_name_and_sum_to_the_loss():
    model = tiny_model().train()
    ids = torch.randint(0, 3, (2, 1, 64, 64), dtype=torch.uint8)
    outputs = model(torch.randn(2, 3, 64, 64), segment_ids=ids, class_labels=[torch.tensor([0, 1])] * 2)
    names = {"loss_cross_entropy", "loss_mask", "loss_dice"}
    assert set(outputs.loss_dict) == names | {f"{name}_{layer}" for name in names for layer in (0, 1)}
    assert outputs.loss.item() == pytest.approx(sum(v.item() for v in outputs.loss_dict.values()), rel=1e-6)


def test_attention_weights_do_not_change_the_result():
    model = tiny_model().eval()
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        plain, eager = model(pixels), model(pixels, output_attentions=True)
    assert plain.attentions is None
    assert [weights.shape for weights in eager.attentions] == [(1, 4, 10, 10)] * 3
    torch.testing.assert_close(eager.attentions[0].sum(-1), torch.ones(1, 4, 10))
    torch.testing.assert_close(plain.masks_queries_logits, eager.masks_queries_logits, atol=1e-5, rtol=1e-4)


def test_gradient_checkpointing_changes_no_gradient():
    model = tiny_model("swin").train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    batch = {
        "pixel_values": torch.randn(1, 3, 64, 64),
        "segment_ids": torch.randint(0, 3, (1, 1, 64, 64), dtype=torch.uint8),
        "class_labels": [torch.tensor([0, 1])],
    }
    gradients = []
    for enable in (False, True):
        model.zero_grad()
        if enable:
            model.activation_checkpointing_enable()
        torch.manual_seed(1)  # stochastic depth of the backbone
        model(**batch).loss.backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    assert model.is_activation_checkpointing
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-5)


def test_plain_tuple_holds_the_same_tensors():
    model = tiny_model().eval()
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        named, plain = model(pixels), model(pixels, return_dict=False)
    torch.testing.assert_close(plain[0], named.class_queries_logits)
    torch.testing.assert_close(plain[1], named.masks_queries_logits)


def test_batch_norm_of_the_backbone_is_frozen_unless_asked():
    frozen, trained = tiny_model("timm"), tiny_model("timm", freeze_backbone_batch_norm=False)
    pixels = torch.randn(2, 3, 64, 64)
    for model, moves in ((frozen, False), (trained, True)):
        norm = next(m for m in model.get_backbone().modules() if isinstance(m, nn.BatchNorm2d))
        assert norm.weight.requires_grad is moves  # from the first, as an optimizer is built before train()
        before = norm.running_mean.clone()
        model.train()(pixels)
        assert bool((norm.running_mean != before).any()) is moves
        assert norm.weight.requires_grad is moves
    assert all(p.requires_grad for n, p in trained.named_parameters())


def test_width_equal_to_the_backbone_s_needs_no_projection():
    model = tiny_model("resnet", decoder_config={"d_model": 64})
    assert model.model.transformer_module.input_projection is None


def test_layers_can_be_built_alone():
    decoder = TransformerDecoder(channels=16, num_layers=2, num_heads=2, ffn_channels=32)
    out = decoder(torch.randn(7, 16), torch.randn(3, 20, 16), sine_position_embedding(4, 5, 16))
    assert out.outputs.shape == (2, 3, 7, 16)


def test_timm_pyramid_is_found_by_itself():
    assert tiny_config("timm").backbone_config.out_indices == [1, 2, 3, 4]
    assert timm_out_indices("swin_tiny_patch4_window7_224") == [0, 1, 2, 3]


def test_channels_last_timm_maps_are_turned():
    config = tiny_config("timm")
    config = MaskFormerConfig(
        backbone_config={"model_type": "timm_backbone", "backbone": "swin_tiny_patch4_window7_224"},
        decoder_config=config.decoder_config.to_dict(),
        fpn_feature_size=32,
        mask_feature_size=32,
        num_labels=3,
    )
    model = MaskFormerForInstanceSegmentation(config).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 224, 224)).masks_queries_logits.shape == (1, 10, 56, 56)


def test_a_wrong_backbone_name_is_answered_with_close_ones():
    with pytest.raises(ValueError, match=r"'resnet5O'.*Close names: .*resnet50"):
        timm_out_indices("resnet5O")


def test_backbone_weights_come_from_a_local_file_with_a_head(tmp_path):
    model, other = tiny_model("timm"), tiny_model("timm")
    weights = {name: tensor.clone() for name, tensor in other.get_backbone()._backbone.state_dict().items()}
    save_file({**weights, "fc.weight": torch.zeros(10, 4)}, tmp_path / "weights.safetensors")
    load_backbone_weights(model.get_backbone(), tmp_path / "weights.safetensors")
    for name, tensor in model.get_backbone()._backbone.state_dict().items():
        assert torch.equal(tensor, weights[name])


def test_backbone_weights_that_do_not_fit_are_listed(tmp_path):
    weights = {n: t.clone() for n, t in tiny_model("timm").get_backbone()._backbone.state_dict().items()}
    weights.pop("conv1.0.weight")
    weights["layer1.0.conv1.weight"] = torch.zeros(2, 2)
    save_file(weights, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"Missing: conv1\.0\.weight\. Of another shape: layer1\.0\.conv1\.weight"):
        load_backbone_weights(tiny_model("timm").get_backbone(), tmp_path / "weights.safetensors")


def test_imagenet_weights_of_the_shared_folder_fit(shared_weights):
    model = MaskFormerForInstanceSegmentation(
        MaskFormerConfig(
            backbone_config={"model_type": "timm_backbone", "backbone": "tf_efficientnet_lite0"},
            fpn_feature_size=32,
            mask_feature_size=32,
            num_labels=2,
        )
    )
    load_backbone_weights(model.get_backbone(), shared_weights / "tf_efficientnet_lite0.safetensors")
    assert model.get_backbone()._backbone.bn1.running_var.std() > 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mask_loss": "point"}, "mask_loss must be one of dense, points, got 'point'"),
        ({"fpn_feature_size": 48}, "fpn_feature_size must be a multiple of 32"),
        ({"importance_sample_ratio": 1.5}, r"importance_sample_ratio must lie in \[0, 1\], got 1.5"),
        ({"num_points": 0}, "num_points must be at least 1, got 0"),
    ],
)
def test_a_wrong_field_fails_at_construction(fields, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**fields)


def test_wrong_inputs_are_named():
    model = tiny_model()
    with pytest.raises(ValueError, match=r"pixel_values has shape \(3, 64, 64\)"):
        model(torch.zeros(3, 64, 64))
    with pytest.raises(ValueError, match=r"pixel_mask has shape \(1, 32, 64\), expected \(1, 64, 64\)"):
        model(torch.zeros(1, 3, 64, 64), pixel_mask=torch.ones(1, 32, 64))
    with pytest.raises(ValueError, match="without class_labels"):
        model(torch.zeros(1, 3, 64, 64), segment_ids=torch.zeros(1, 1, 64, 64, dtype=torch.uint8))
