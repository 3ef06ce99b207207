"""Modules are called, never read: hooks, adapters, quantizers and offloaded weights work on each of them."""

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from models import KINDS, batch_of, logits_of, tiny
from tiny import BACKBONES
from torch import nn
from transformers import AutoModel

from modeling_maskformer import MaskFormerForInstanceSegmentation, MaskFormerModel

PIXELS = batch_of()["pixel_values"]


def leaves(model):
    """The modules with weights but no children, and their names; a loss and frozen weights in no loss aside."""
    unused = ("criterion", "encoder.model.layernorm")
    for name, module in model.named_modules():
        if not any(module.children()) and any(True for _ in module.parameters()) and not name.endswith(unused):
            yield name, module


@pytest.mark.parametrize(("kind", "backbone"), KINDS)
@torch.no_grad()
def test_hooks_on_every_layer_are_called(kind, backbone):
    model = tiny(kind, backbone).eval()
    called = set()
    for name, module in leaves(model):
        module.register_forward_hook(lambda module, inputs, output, name=name: called.add(name))
    model(PIXELS)
    assert called == {name for name, _ in leaves(model)}


@pytest.mark.parametrize(("kind", "backbone"), KINDS)
@torch.no_grad()
def test_what_a_hook_sees_is_not_written_over(kind, backbone):
    model = tiny(kind, backbone).eval()
    seen = []
    for part in (model.base_model.pixel_level_module.decoder, model.base_model):
        for module in part.modules():
            if isinstance(module, nn.GroupNorm | nn.LayerNorm | nn.Conv2d):
                module.register_forward_hook(lambda m, i, output: seen.append((output, output.clone())))
    model(PIXELS)
    in_decoder = [pair for pair in seen if pair[0].shape[-2:] == (16, 24)]
    assert in_decoder and all(torch.equal(kept, copy) for kept, copy in in_decoder)


@pytest.mark.parametrize("offload", ["cpu", "disk"])
@pytest.mark.parametrize(("kind", "backbone"), KINDS)
@torch.no_grad()
def test_weights_may_be_elsewhere(kind, backbone, offload, tmp_path):
    model = tiny(kind, backbone).eval()
    expected = logits_of(model(PIXELS))
    if offload == "cpu":
        cpu_offload(model, execution_device=torch.device("cpu"))
    else:
        disk_offload(model, tmp_path, execution_device=torch.device("cpu"))
    assert model.base_model.pixel_level_module.decoder.mask_projection.weight.device.type == "meta"
    torch.testing.assert_close(logits_of(model(PIXELS)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backbone", BACKBONES)
@torch.no_grad()
def test_parts_may_be_loaded_to_the_disk(backbone, tmp_path):
    model = tiny(backbone=backbone).eval()
    model.save_pretrained(tmp_path / "model")
    where = dict.fromkeys(("model.transformer_module", "class_predictor", "mask_embedder", "criterion"), "cpu")
    for part in ("encoder", "decoder"):
        other = {"encoder": "decoder", "decoder": "encoder"}[part]
        again = MaskFormerForInstanceSegmentation.from_pretrained(
            tmp_path / "model",
            device_map={
                **where,
                f"model.pixel_level_module.{part}": "disk",
                f"model.pixel_level_module.{other}": "cpu",
            },
            offload_folder=tmp_path / part,
        )
        torch.testing.assert_close(
            again(PIXELS).masks_queries_logits, model(PIXELS).masks_queries_logits, atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}])
@pytest.mark.parametrize(("kind", "backbone"), KINDS)
@torch.no_grad()
def test_a_device_map_changes_no_result(kind, backbone, device_map, tmp_path):
    model = tiny(kind, backbone).eval()
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path, device_map=device_map)
    assert not again.training and torch.equal(logits_of(again(PIXELS)), logits_of(model(PIXELS)))


@pytest.mark.parametrize(("kind", "backbone"), KINDS)
@torch.no_grad()
def test_auto_sends_to_the_disk_what_memory_has_no_room_for(kind, backbone, tmp_path):
    model = tiny(kind, backbone).eval()
    model.save_pretrained(tmp_path / "model")
    size = sum(weight.nbytes for weight in model.parameters())
    again = type(model).from_pretrained(
        tmp_path / "model",
        device_map="auto",
        max_memory={"cpu": size * 3 // 4, "disk": 1 << 30},
        offload_folder=tmp_path / "offload",
    )
    assert "disk" in again.hf_device_map.values()
    torch.testing.assert_close(logits_of(again(PIXELS)), logits_of(model(PIXELS)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_no_weight_is_lost_between_base_and_full_models(backbone, tmp_path):
    full = tiny(backbone=backbone).eval()
    full.save_pretrained(tmp_path / "full")
    base, info = AutoModel.from_pretrained(tmp_path / "full", output_loading_info=True)
    heads = ("class_predictor", "mask_embedder", "criterion")
    assert type(base) is MaskFormerModel and not info["missing_keys"] and not info["mismatched_keys"]
    assert all(name.startswith(heads) for name in info["unexpected_keys"])
    base.save_pretrained(tmp_path / "base")
    again, info = MaskFormerForInstanceSegmentation.from_pretrained(tmp_path / "base", output_loading_info=True)
    assert not info["unexpected_keys"] and all(name.startswith(heads) for name in info["missing_keys"])
    for name, tensor in full.model.state_dict().items():
        assert torch.equal(base.state_dict()[name], tensor) and torch.equal(again.model.state_dict()[name], tensor)


# what LoRA is put on: attention of Swin, 3x3 convolutions of the pixel decoder, attention and queries of the decoder
TARGETS = {
    "swin": ["query", "value"],
    "resnet": ["mask_projection", "block.0", "q_proj", "queries_embedder"],
    "timm": ["conv2", "proj.0", "fc1"],
}


@pytest.mark.parametrize(("kind", "backbone"), [*KINDS, ("per_pixel", "swin"), ("per_pixel_plus", "timm")])
def test_lora_trains_and_comes_back_from_its_file(kind, backbone, tmp_path):
    peft = pytest.importorskip("peft")
    model = tiny(kind, backbone)
    targets = TARGETS[backbone]
    if (kind, backbone) == ("per_pixel", "resnet"):
        targets = ["mask_projection", "block.0"]  # it has no transformer
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=targets))
    optimizer = torch.optim.AdamW([weight for weight in adapted.parameters() if weight.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        adapted(**batch_of()).loss.backward()
        optimizer.step()
    adapters = {name: weight for name, weight in adapted.named_parameters() if "lora_" in name}
    assert adapters and all(weight.grad is not None for weight in adapters.values())
    adapted.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(tiny(kind, backbone), tmp_path)
    kept = dict(again.named_parameters())
    for name, weight in adapters.items():
        assert torch.equal(kept[name], weight), name
    with torch.no_grad():
        expected = logits_of(adapted.eval()(PIXELS))
        torch.testing.assert_close(logits_of(again.eval()(PIXELS)), expected)
        assert not torch.allclose(logits_of(tiny(kind, backbone).eval()(PIXELS)), expected, atol=1e-3)


@pytest.mark.parametrize("backbone", ["resnet", "timm"])
def test_batch_norm_that_is_not_trained_keeps_its_statistics(backbone):
    """A file of adapters holds no buffers: a model that is put together again would be another one."""
    model = tiny("maskformer", backbone, freeze_backbone_batch_norm=False)

    def moved():
        before = {name: buffer.clone() for name, buffer in model.named_buffers() if "running" in name}
        model.train()(**batch_of())
        return {name for name, buffer in model.named_buffers() if name in before and not buffer.equal(before[name])}

    assert moved()
    model.requires_grad_(False)
    model.class_predictor.requires_grad_(True)
    assert not moved()


@pytest.mark.parametrize(("kind", "backbone"), KINDS)
def test_the_input_embedding_is_the_first_convolution(kind, backbone):
    model = tiny(kind, backbone)
    layer = model.get_input_embeddings()
    assert isinstance(layer, nn.Conv2d) and layer.in_channels == 3
    model.enable_input_require_grads()
    model.requires_grad_(False)
    assert logits_of(model(PIXELS)).requires_grad


@pytest.mark.parametrize(("kind", "backbone"), [("per_pixel", "swin"), *(k for k in KINDS if k[0] != "per_pixel")])
@torch.no_grad()
def test_int8_weights_of_torchao_through_from_pretrained(kind, backbone, tmp_path):
    pytest.importorskip("torchao", reason="torchao is not installed")
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    model = tiny(kind, backbone).eval()
    model.save_pretrained(tmp_path)
    quantized = type(model).from_pretrained(
        tmp_path, quantization_config=TorchAoConfig(Int8WeightOnlyConfig(), include_input_output_embeddings=True)
    )
    layers = [module for module in quantized.modules() if isinstance(module, nn.Linear)]
    assert len(layers) > 10 and all(type(layer.weight) is not nn.Parameter for layer in layers)
    expected = logits_of(model(PIXELS))
    error = (logits_of(quantized.eval()(PIXELS)) - expected).abs().max()
    assert 0 < error < 0.1 * expected.abs().max()
