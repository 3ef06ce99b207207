"""Which weight of the original becomes which of this package: one table for each part of the model.

The tables are whole lists of names, made for one architecture. So a file can be checked against them in both
directions: a name that is not in the table is unknown, one that is not in the file is missing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..backbone.swin import names_in_transformers
from .architecture import Architecture, DecoderArchitecture, Kind, ResNetArchitecture, SwinArchitecture

BACKBONE = "model.pixel_level_module.encoder"
PIXEL_DECODER = "model.pixel_level_module.decoder"
TRANSFORMER = "model.transformer_module"


class NameTable:
    """Names in the file and what becomes of them.

    Attributes:
        targets: for each name in the file the names here; several mean equal parts along the first axis.
        constants: values of the weights here that no file has.
    """

    def __init__(self) -> None:
        self.targets: dict[str, tuple[str, ...]] = {}
        self.constants: dict[str, Tensor] = {}

    def add(self, source: str, *targets: str, leaves: Sequence[str] = ("weight", "bias")) -> None:
        """The parameters `leaves` of module `source` become those of modules `targets`."""
        for leaf in leaves:
            self.targets[f"{source}.{leaf}"] = tuple(f"{target}.{leaf}" for target in targets)

    def add_attention(self, source: str, target: str) -> None:
        """`nn.MultiheadAttention`, whose queries, keys and values are projected by one matrix."""
        for leaf in ("weight", "bias"):
            self.targets[f"{source}.in_proj_{leaf}"] = tuple(f"{target}.{part}_proj.{leaf}" for part in "qkv")
        self.add(f"{source}.out_proj", f"{target}.out_proj")

    def add_transformer_layer(self, source: str, target: str, norms: Sequence[str]) -> None:
        """All of an encoder's or decoder's layer but its cross-attention; `norms` in the order of its parts."""
        self.add_attention(f"{source}.self_attn", f"{target}.self_attn")
        for number, norm in enumerate(norms, start=1):
            self.add(f"{source}.norm{number}", f"{target}.{norm}")
        for number in (1, 2):
            self.add(f"{source}.linear{number}", f"{target}.fc{number}")

    def add_conv_batch_norm(self, source: str, conv: str, norm: str) -> None:
        """detectron2's convolution, which contains its norm; that is frozen and keeps no count of batches."""
        self.add(source, conv, leaves=("weight",))
        self.add(f"{source}.norm", norm, leaves=("weight", "bias", "running_mean", "running_var"))
        self.constants[f"{norm}.num_batches_tracked"] = torch.zeros((), dtype=torch.int64)

    def add_conv_group_norm(self, source: str, target: str) -> None:
        """The same with GroupNorm and without bias; here convolution and norm follow each other in a sequence."""
        self.add(source, f"{target}.0", leaves=("weight",))
        self.add(f"{source}.norm", f"{target}.1")


def name_table(architecture: Architecture) -> NameTable:
    """The table of a whole model."""
    table = NameTable()
    if isinstance(architecture.backbone, SwinArchitecture):
        _add_swin(table, architecture.backbone)
    else:
        _add_resnet(table, architecture.backbone)
    _add_pixel_decoder(table, architecture)
    if architecture.decoder is not None:
        _add_transformer_decoder(table, architecture.decoder)
        for layer in range(3):
            table.add(f"sem_seg_head.predictor.mask_embed.layers.{layer}", f"mask_embedder.{layer}.0")
    if architecture.kind is Kind.MASKFORMER:
        table.add("sem_seg_head.predictor.class_embed", "class_predictor")
        table.add("criterion", "criterion", leaves=("empty_weight",))
    elif architecture.kind is Kind.PER_PIXEL:
        table.add("sem_seg_head.predictor", "classifier")
    return table


def _add_resnet(table: NameTable, backbone: ResNetArchitecture) -> None:
    stem, timm = "backbone.stem", f"{BACKBONE}._backbone"
    if len(backbone.stem_channels) == 1:
        table.add_conv_batch_norm(f"{stem}.conv1", f"{timm}.conv1", f"{timm}.bn1")
    else:  # timm keeps the three convolutions, two norms and two ReLUs of a deep stem in one sequence
        table.add_conv_batch_norm(f"{stem}.conv1", f"{timm}.conv1.0", f"{timm}.conv1.1")
        table.add_conv_batch_norm(f"{stem}.conv2", f"{timm}.conv1.3", f"{timm}.conv1.4")
        table.add_conv_batch_norm(f"{stem}.conv3", f"{timm}.conv1.6", f"{timm}.bn1")
    for stage, depth in enumerate(backbone.depths):
        for block in range(depth):
            source, target = f"backbone.res{stage + 2}.{block}", f"{timm}.layer{stage + 1}.{block}"
            for conv in (1, 2, 3):
                table.add_conv_batch_norm(f"{source}.conv{conv}", f"{target}.conv{conv}", f"{target}.bn{conv}")
            if block == 0:
                table.add_conv_batch_norm(f"{source}.shortcut", f"{target}.downsample.0", f"{target}.downsample.1")


def _add_swin(table: NameTable, backbone: SwinArchitecture) -> None:
    modules = {"patch_embed.proj": ("weight", "bias"), "patch_embed.norm": ("weight", "bias")}
    for stage, depth in enumerate(backbone.depths):
        for block in range(depth):
            prefix = f"layers.{stage}.blocks.{block}"
            modules |= {
                f"{prefix}.{module}": ("weight", "bias")
                for module in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
            }
            modules[f"{prefix}.attn"] = ("relative_position_bias_table", "relative_position_index")
        if stage < len(backbone.depths) - 1:
            modules[f"layers.{stage}.downsample.reduction"] = ("weight",)
            modules[f"layers.{stage}.downsample.norm"] = ("weight", "bias")
        modules[f"norm{stage}"] = ("weight", "bias")
    for name in (f"{module}.{leaf}" for module, leaves in modules.items() for leaf in leaves):
        table.targets[f"backbone.{name}"] = tuple(f"{BACKBONE}.{target}" for target in names_in_transformers(name))
    # transformers' Swin has a last norm, whose output no feature map uses
    table.constants[f"{BACKBONE}.model.layernorm.weight"] = torch.ones(backbone.last_channels)
    table.constants[f"{BACKBONE}.model.layernorm.bias"] = torch.zeros(backbone.last_channels)


def _add_pixel_decoder(table: NameTable, architecture: Architecture) -> None:
    prefix = architecture.pixel_decoder_prefix
    if architecture.num_encoder_layers:
        table.add(f"{prefix}.input_proj", f"{PIXEL_DECODER}.input_projection")
    for layer in range(architecture.num_encoder_layers):
        source, target = f"{prefix}.transformer.encoder.layers.{layer}", f"{PIXEL_DECODER}.encoder.layers.{layer}"
        table.add_transformer_layer(source, target, ("self_attn_layer_norm", "final_layer_norm"))
    # the original counts its levels from fine to coarse, here the coarsest comes first
    table.add_conv_group_norm(f"{prefix}.layer_4", f"{PIXEL_DECODER}.fpn.stem")
    for layer, level in enumerate((3, 2, 1)):
        table.add_conv_group_norm(f"{prefix}.adapter_{level}", f"{PIXEL_DECODER}.fpn.layers.{layer}.proj")
        table.add_conv_group_norm(f"{prefix}.layer_{level}", f"{PIXEL_DECODER}.fpn.layers.{layer}.block")
    table.add(f"{prefix}.mask_features", f"{PIXEL_DECODER}.mask_projection")


def _add_transformer_decoder(table: NameTable, decoder: DecoderArchitecture) -> None:
    predictor = "sem_seg_head.predictor"
    table.add(f"{predictor}.query_embed", f"{TRANSFORMER}.queries_embedder", leaves=("weight",))
    if decoder.has_input_projection:
        table.add(f"{predictor}.input_proj", f"{TRANSFORMER}.input_projection")
    for layer in range(decoder.num_layers):
        source = f"{predictor}.transformer.decoder.layers.{layer}"
        target = f"{TRANSFORMER}.decoder.layers.{layer}"
        norms = ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")
        table.add_transformer_layer(source, target, norms)
        table.add_attention(f"{source}.multihead_attn", f"{target}.encoder_attn")
    table.add(f"{predictor}.transformer.decoder.norm", f"{TRANSFORMER}.decoder.layernorm")
