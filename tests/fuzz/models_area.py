"""Configurations of odd values, and calls of the models with pixels, masks and targets of odd kinds."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st

from modeling_maskformer import (
    MaskFormerConfig,
    MaskFormerForInstanceSegmentation,
    PerPixelBaselineConfig,
    PerPixelBaselineForSemanticSegmentation,
    PerPixelBaselinePlusConfig,
    PerPixelBaselinePlusForSemanticSegmentation,
)

from .values import odd_values

BACKBONE = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 8, 8, 8],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
DECODER = {
    "model_type": "detr",
    "d_model": 16,
    "decoder_layers": 2,
    "num_queries": 4,
    "decoder_attention_heads": 2,
    "encoder_attention_heads": 2,
    "decoder_ffn_dim": 16,
    "encoder_ffn_dim": 16,
}
FIELDS = {"fpn_feature_size": 32, "mask_feature_size": 32, "num_labels": 3}
KINDS = {
    "maskformer": (MaskFormerConfig, MaskFormerForInstanceSegmentation),
    "per_pixel": (PerPixelBaselineConfig, PerPixelBaselineForSemanticSegmentation),
    "per_pixel_plus": (PerPixelBaselinePlusConfig, PerPixelBaselinePlusForSemanticSegmentation),
}
WEIGHTS = ["no_object_weight", "mask_weight", "dice_weight", "cross_entropy_weight"]
POINTS = ["mask_loss", "num_points", "oversample_ratio", "importance_sample_ratio"]
OTHER_FIELDS = {
    "maskformer": [*POINTS, *WEIGHTS, "non_finite_cost", "use_auxiliary_loss"],
    "per_pixel": [],
    "per_pixel_plus": ["use_auxiliary_loss", "output_auxiliary_logits"],
}
SHARED_FIELDS = ["pixel_decoder_layers", "last_stage_dilations", "freeze_backbone_batch_norm", "segmentation_task"]
READ_OF_DECODER = [name for name in DECODER if name != "model_type"] + ["dropout", "activation_function"]
small_values = st.one_of(
    st.sampled_from([0, 1, -1, 2, 0.5, None, "4", True, [], [2], "none", "dense", "points"]), odd_values
)


@st.composite
def configurations(draw: Any) -> dict[str, Any]:
    kind = draw(st.sampled_from(sorted(KINDS)))
    names = draw(st.lists(st.sampled_from([*FIELDS, *OTHER_FIELDS[kind], *SHARED_FIELDS]), max_size=2, unique=True))
    decoder = draw(st.lists(st.sampled_from(READ_OF_DECODER), max_size=2, unique=True))
    return {
        "kind": kind,
        "fields": {name: draw(small_values) for name in names},
        "decoder": {name: draw(small_values) for name in decoder},
        "call": draw(calls()),
    }


VALUES = ["random", "random", "random", "zeros", "nan", "inf", "huge"]
lengths = st.sampled_from([0, 1, 1, 2, 31, 32, 33, 65])


@st.composite
def calls(draw: Any) -> dict[str, Any]:
    batch, height, width = draw(st.sampled_from([0, 1, 2, 2])), draw(lengths), draw(lengths)
    odd = st.integers(0, 9).map(lambda number: number == 0)
    shape = (
        draw(st.lists(lengths, max_size=5))
        if draw(odd)
        else [batch, draw(st.sampled_from([3] * 6 + [1, 4])), height, width]
    )
    return {
        "shape": shape,
        "values": draw(st.sampled_from(VALUES)),
        "dtype": draw(
            st.sampled_from(["float32"] * 6 + ["float64", "float16", "bfloat16", "uint8", "bool", "complex64"])
        ),
        "mask": draw(st.sampled_from([None, "ones", "half", "zeros", "other shape", "one image zeros", "float"])),
        "targets": draw(st.sampled_from([None, None, "masks", "masks", "ids", "ids", "no segments", "no classes"])),
        "labels": draw(st.lists(st.integers(-1, 4), max_size=3)),
        "labels_dtype": draw(st.sampled_from(["int64"] * 4 + ["int32", "float32", "bool"])),
        "target_size": draw(st.one_of(st.just("same"), st.just("same"), st.tuples(lengths, lengths))),
        "train": draw(st.booleans()),
    }


cases = st.one_of(configurations(), calls().map(lambda call: {"call": call}))
_models: dict[str, Any] = {}


def run(case: dict[str, Any]) -> None:
    if "kind" not in case:
        for kind in KINDS:
            if kind not in _models:
                _models[kind] = build(kind, {}, {})
            call_model(_models[kind], case["call"])
        return
    call_model(build(case["kind"], case["fields"], case["decoder"]), case["call"])


def build(kind: str, fields: dict[str, Any], decoder: dict[str, Any]) -> Any:
    config_class, model_class = KINDS[kind]
    torch.manual_seed(0)
    large = {"num_labels", "fpn_feature_size", "mask_feature_size", "d_model", "decoder_layers", "num_queries"}
    large |= {"decoder_ffn_dim", "encoder_ffn_dim", "pixel_decoder_layers", "num_points", "oversample_ratio"}
    for given in (fields, decoder):  # a model of a million layers is what was asked for
        for name in large & given.keys():
            if isinstance(given[name], (int, float)) and given[name] > 400:
                given = {**given, name: 3}
        if any(isinstance(given.get(name), (int, float)) and given[name] > 400 for name in large):
            return build(kind, *({k: v for k, v in g.items() if k not in large} for g in (fields, decoder)))
    config = config_class(backbone_config=dict(BACKBONE), decoder_config=DECODER | decoder, **FIELDS | fields)
    return model_class(config)


def call_model(model: Any, call: dict[str, Any]) -> None:
    shape, targets = call["shape"], {}
    pixels = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if call["values"] != "random":
        pixels.fill_({"zeros": 0.0, "nan": float("nan"), "inf": float("inf"), "huge": 1e30}[call["values"]])
    pixels = pixels.to(getattr(torch, call["dtype"]))
    size = list(shape[-2:]) if call["target_size"] == "same" else list(call["target_size"])
    count, labels = (shape[0] if shape else 1), call["labels"]
    dtype = getattr(torch, call["labels_dtype"])
    if call["targets"] in ("masks", "no classes"):
        targets["mask_labels"] = [torch.ones(len(labels), *size) for _ in range(count)]
    if call["targets"] == "ids":
        targets["segment_ids"] = torch.ones(count, 1, *size, dtype=torch.uint8) * min(1, len(labels))
    if call["targets"] == "no segments":
        labels, targets["mask_labels"] = [], [torch.zeros(0, *size) for _ in range(count)]
    if call["targets"] not in (None, "no classes"):
        targets["class_labels"] = [torch.tensor(labels, dtype=dtype) for _ in range(count)]
    mask = None
    if call["mask"] is not None and shape:
        mask = torch.ones([*shape[:1], *shape[-2:]], dtype=torch.int64)
        if call["mask"] == "half" and mask.ndim:
            mask[..., mask.shape[-1] // 2 :] = 0
        elif call["mask"] == "zeros":
            mask.zero_()
        elif call["mask"] == "one image zeros":
            mask[-1:] = 0
        elif call["mask"] == "float":
            mask = mask.float()
        elif call["mask"] == "other shape":
            mask = torch.ones([*shape[:1], 7, 7])
    model.train(call["train"])
    outputs = model(pixels, pixel_mask=mask, **targets)
    if targets:
        outputs.loss.backward()
        model.zero_grad()
