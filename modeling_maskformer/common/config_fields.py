"""What the configs of all architectures have in common: how their fields are taken, checked and written."""

from __future__ import annotations

import difflib
from dataclasses import fields
from typing import Any

from transformers import PreTrainedConfig
from transformers.activations import ACT2CLS

from ..backbone import complete_timm_config

DECODER_TYPE = "detr"
# in files it stands for that one: transformers' MaskFormerConfig, which warns of another model type, refuses it
EXTENDED_DECODER_TYPE = "maskformer-extended-decoder"
MAX_LABELS = 1_000_000

# keywords that transformers' configs take beside their fields
OTHER_KEYWORDS = (
    "attn_implementation",
    "backbone",
    "backbone_kwargs",
    "experts_implementation",
    "name_or_path",
    "num_labels",
    "output_attentions",
    "torch_dtype",
    "use_pretrained_backbone",
    "use_timm_backbone",
)


def check_keywords(config: PreTrainedConfig, keywords: dict[str, Any], own: tuple[str, ...] = ()) -> None:
    """Refuses keywords that a config does not know, and names the nearest that it does.

    What a `config.json` holds beyond them, of another version or another library, is kept as transformers keeps it:
    there the model type stands beside it.

    Raises:
        TypeError: there is such a keyword.
    """
    if are_of_a_file(keywords):
        return
    known = [field.name for field in fields(config)] + [*config.attribute_map, *OTHER_KEYWORDS, *own]
    for name in keywords:
        if name not in known and not name.startswith("_"):
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else f" Its fields: {', '.join(sorted(known))}."
            raise TypeError(f"{type(config).__name__} has no field {name!r}.{hint}")


def are_of_a_file(keywords: dict[str, Any]) -> bool:
    """Whether these keywords are what a `config.json` or `to_dict` has beyond the fields, not somebody's arguments."""
    return "model_type" in keywords or "transformers_version" in keywords


def refuse_elsewhere(fields: dict[str, Any]) -> None:
    """Makes transformers' MaskFormerConfig refuse the fields of a config, in place, by the decoder's model type."""
    fields["decoder_config"]["model_type"] = EXTENDED_DECODER_TYPE


def take_extended_decoder(config: PreTrainedConfig) -> None:
    """Gives a decoder's fields their own model type where `refuse_elsewhere` wrote another."""
    decoder = config.decoder_config
    if isinstance(decoder, dict) and decoder.get("model_type") == EXTENDED_DECODER_TYPE:
        config.decoder_config = decoder | {"model_type": DECODER_TYPE}


def take_timm_backbone(config: PreTrainedConfig, keywords: dict[str, Any]) -> None:
    """Makes `backbone` and `backbone_kwargs` the config's backbone, where it is a name of timm (of no other owner)."""
    name = keywords.get("backbone")
    if config.backbone_config is None and name is not None and "/" not in name.removeprefix("timm/"):
        fields = {"model_type": "timm_backbone", "backbone": keywords.pop("backbone")}
        config.backbone_config = fields | (keywords.pop("backbone_kwargs", None) or {})


def check_pixel_level(config: PreTrainedConfig) -> None:
    """Completes and checks the fields that backbone and pixel decoder are built from, in any architecture.

    Raises:
        ValueError: a field is out of range, or the timm backbone does not have these feature maps.
    """
    complete_timm_config(config.backbone_config)
    dilations = config.last_stage_dilations
    if dilations is not None and not (isinstance(dilations, (list, tuple)) and all(map(is_count, dilations))):
        raise ValueError(f"last_stage_dilations must be whole numbers, at least 1 each, got {dilations!r}.")
    if not is_count(config.pixel_decoder_layers, least=0):
        raise ValueError(f"pixel_decoder_layers must not be negative, got {config.pixel_decoder_layers!r}.")
    if not is_count(config.fpn_feature_size) or config.fpn_feature_size % 32:
        raise ValueError(
            f"fpn_feature_size must be a multiple of 32 (GroupNorm has 32 groups), got {config.fpn_feature_size!r}."
        )
    if not is_count(config.mask_feature_size):
        raise ValueError(f"mask_feature_size must be at least 1, got {config.mask_feature_size!r}.")
    check_layers(config, "encoder", config.fpn_feature_size if config.pixel_decoder_layers else None)


def check_decoder(config: PreTrainedConfig) -> None:
    """Checks the fields that the transformer decoder is built from.

    Raises:
        ValueError: a field is out of range.
    """
    for name in ("num_queries", "decoder_layers", "d_model"):
        value = getattr(config.decoder_config, name)
        if not is_count(value):
            raise ValueError(f"{name} must be at least 1, got {value!r}.")
    if config.decoder_config.d_model % 4:
        raise ValueError(
            "d_model must be a multiple of 4 (sines and cosines of rows and of columns say where a pixel is), got "
            f"{config.decoder_config.d_model}."
        )
    check_layers(config, "decoder", config.decoder_config.d_model)


def check_layers(config: PreTrainedConfig, part: str, channels: int | None) -> None:
    """Raises a ValueError unless this part's transformer layers can be built; channels None: there are none."""
    if channels is None:
        return
    for name in ("dropout", "attention_dropout", "activation_dropout"):
        value = getattr(config.decoder_config, name)
        if not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {value!r}.")
    activation = config.decoder_config.activation_function
    if activation not in ACT2CLS:
        known = ", ".join(sorted(ACT2CLS))
        raise ValueError(f"activation_function must be one of {known}, got {activation!r}.")
    names = {name: getattr(config.decoder_config, f"{part}_{name}") for name in ("attention_heads", "ffn_dim")}
    for name, value in names.items():
        if not is_count(value):
            raise ValueError(f"{part}_{name} must be at least 1, got {value!r}.")
    if channels % names["attention_heads"]:
        raise ValueError(
            f"{part}_attention_heads must divide the {channels} channels of its layers, got "
            f"{names['attention_heads']}."
        )


def is_count(value: Any, least: int = 1) -> bool:
    """Whether a value is a whole number, and large enough."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def check_num_labels(keywords: dict[str, Any]) -> None:
    """Raises a ValueError where `num_labels` is given and is no number of classes, each of which gets a name."""
    if "num_labels" in keywords and not (is_count(keywords["num_labels"]) and keywords["num_labels"] <= MAX_LABELS):
        raise ValueError(f"num_labels must be a whole number, 1 to {MAX_LABELS:,}, got {keywords['num_labels']!r}.")


class AttentionsOnRequest:
    """For configs: `output_attentions` may be switched on when the model is built, as in transformers' MaskFormer."""

    @property
    def output_attentions(self) -> bool | None:
        """Whether the model returns attention weights."""
        return self._output_attentions

    @output_attentions.setter
    def output_attentions(self, value: bool | None) -> None:
        if value:  # transformers refuses it beside another name, which our layers do not look at
            self._attn_implementation = "eager"
        self._output_attentions = value
