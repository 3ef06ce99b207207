"""MaskFormerConfig: the fields of transformers' config and the few of ours."""

from __future__ import annotations

import difflib
import math
from dataclasses import fields
from numbers import Real
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import MaskFormerConfig as TransformersMaskFormerConfig
from transformers import PreTrainedConfig
from transformers.activations import ACT2CLS

from .backbone import complete_timm_config, needs_pyramid, runs_in_transformers

EXTENDED_MODEL_TYPE = "maskformer-extended"
DECODER_TYPE = "detr"
# in files it stands for that one: transformers' MaskFormerConfig, which warns of another model type, refuses it
EXTENDED_DECODER_TYPE = "maskformer-extended-decoder"
MASK_LOSSES = ("dense", "points")
NON_FINITE_COSTS = ("raise", "ignore")
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
    for name in ("fpn_feature_size", "mask_feature_size"):
        value = getattr(config, name)
        if not is_count(value) or value % 32:
            raise ValueError(f"{name} must be a multiple of 32 (GroupNorm has 32 groups), got {value!r}.")
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


@strict
class MaskFormerConfig(TransformersMaskFormerConfig):
    """Configuration of `MaskFormerModel` and `MaskFormerForInstanceSegmentation`.

    It has every field of `transformers.MaskFormerConfig` with the same meaning, so a config of either library loads
    in the other (but see `to_dict`), and the fields below. One default differs: deep supervision is on, as in the
    paper.

    A keyword that is no field is refused. `backbone="resnet50"`, or the Hub's `"timm/resnet50.a1_in1k"`, stands for
    the `backbone_config` of this timm model, and `num_queries=100` for that field of `decoder_config`.

    Args:
        backbone_config: config of the backbone, as a config or a dict with `model_type`: `"swin"`, `"resnet"` (of
            transformers) or `"timm_backbone"` with `backbone` = name of a timm model. For timm the feature maps at
            strides 4, 8, 16 and 32 are found by themselves unless `out_indices` says otherwise. Where they are not
            four, as those of plain ViTs, a feature pyramid makes four of them. Images may have any size (what is done
            to them where the model wants certain ones: see `AnySizeTimmBackbone`).
        last_stage_dilations: for timm's ResNets of bottleneck blocks, the dilation of the 3x3 convolution of each
            block of the last stage, whose stride stays 32. R101c is timm's `resnet101s` with 1, 2, 4.
        decoder_config: a `DetrConfig` (or dict); read are `d_model`, `num_queries`, `decoder_layers`,
            `decoder_attention_heads`, `decoder_ffn_dim`, `dropout`, `attention_dropout`, `activation_dropout`
            and `activation_function`.
        pixel_decoder_layers: transformer encoder layers on the stride-32 feature before the FPN; 0 for none. The
            original has 6 for panoptic segmentation with ResNets. Heads and feed-forward width are
            `encoder_attention_heads` and `encoder_ffn_dim` of `decoder_config`, the width is `fpn_feature_size`.
        enforce_input_projection: whether image features are projected for the transformer decoder even where they
            have its width already.
        use_auxiliary_loss: whether every decoder layer's output is supervised (paper, section 3.4). Default True.
        mask_loss: how the mask losses sum over pixels. `"dense"` visits every pixel of the target (the paper);
            `"points"` samples `num_points` points per mask (Mask2Former), several times cheaper.
        num_points: points per matched mask with `mask_loss="points"`.
        oversample_ratio: random candidates per point, from which the uncertain ones are chosen.
        importance_sample_ratio: share of the points chosen for their uncertainty, in [0, 1]; the rest is uniform.
        non_finite_cost: what matching does where a cost is not finite, as when training has diverged. `"raise"` an
            error that names the decoder layer and the image, or `"ignore"` it: such a pair is matched only if no other
            is left, as in transformers.
        freeze_backbone_batch_norm: whether the backbone's BatchNorm layers keep the weights and statistics they were
            loaded with, as the paper does. Set to False to train a backbone from scratch.
        segmentation_task: the task it was trained for, "semantic", "instance" or "panoptic"; None if it is not said.
        category_ids: for each class its id in the annotations it was trained on, such as COCO's categories, which
            files of results have too. None: those of the classes, 0 to K - 1.
    """

    model_type = "maskformer"
    # what Trainer's evaluation does not collect: all but the logits and the sizes of the images
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "auxiliary_logits",
        "encoder_last_hidden_state",
        "pixel_decoder_last_hidden_state",
        "transformer_decoder_last_hidden_state",
        "encoder_hidden_states",
        "pixel_decoder_hidden_states",
        "transformer_decoder_hidden_states",
        "hidden_states",
        "attentions",
        "loss_dict",
    ]
    backbones_supported = ("swin", "maskformer-swin", "resnet", "timm_backbone")

    last_stage_dilations: list[int] | None = None
    pixel_decoder_layers: int = 0
    enforce_input_projection: bool = False
    use_auxiliary_loss: bool = True
    mask_loss: str = "dense"
    num_points: int = 12544
    oversample_ratio: float = 3.0
    importance_sample_ratio: float = 0.75
    non_finite_cost: str = "raise"
    freeze_backbone_batch_norm: bool = True
    segmentation_task: str | None = None
    category_ids: list[int] | None = None

    def __post_init__(self, **kwargs):
        check_keywords(self, kwargs, ("deep_supervision", "num_queries"))
        check_num_labels(kwargs)
        take_extended_decoder(self)
        take_timm_backbone(self, kwargs)
        deep_supervision = kwargs.pop("deep_supervision", None)
        num_queries = kwargs.pop("num_queries", None)
        if are_of_a_file(kwargs):  # where, as in transformers, the decoder's alone counts
            num_queries = None
        super().__post_init__(**kwargs)
        # beside it use_auxiliary_loss was written as off; if it is on, transformers switched it on since
        if deep_supervision is not None:
            self.use_auxiliary_loss = deep_supervision or (are_of_a_file(kwargs) and self.use_auxiliary_loss)
        if num_queries is not None:
            self.num_queries = num_queries
        self.check()

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs):
        """As transformers', but `category_ids` go with the names that they are of: other names have none."""
        names, earlier = (
            {int(k): v for k, v in (each or {}).items()}
            for each in (kwargs.get("id2label"), config_dict.get("id2label"))
        )
        if names and names != earlier:
            config_dict = config_dict | {"category_ids": None}
        return super().from_dict(config_dict, **kwargs)

    @property
    def num_queries(self) -> int:
        """That field of `decoder_config`, so that `from_pretrained(..., num_queries=7)` changes it."""
        return self.decoder_config.num_queries

    @num_queries.setter
    def num_queries(self, value: int) -> None:
        self.decoder_config.num_queries = value

    def check(self) -> None:
        """Checks the fields, which may have been set since, as by `from_pretrained(..., mask_loss="points")`.

        Raises:
            ValueError: a field is out of range.
        """
        check_pixel_level(self)
        check_decoder(self)
        if self.mask_loss not in MASK_LOSSES:
            raise ValueError(f"mask_loss must be one of {', '.join(MASK_LOSSES)}, got {self.mask_loss!r}.")
        if self.non_finite_cost not in NON_FINITE_COSTS:
            raise ValueError(
                f"non_finite_cost must be one of {', '.join(NON_FINITE_COSTS)}, got {self.non_finite_cost!r}."
            )
        if not is_count(self.num_points):
            raise ValueError(f"num_points must be at least 1, got {self.num_points}.")
        if not isinstance(self.oversample_ratio, Real) or not 1 <= self.oversample_ratio < math.inf:
            raise ValueError(f"oversample_ratio must be at least 1, got {self.oversample_ratio!r}.")
        if not isinstance(self.importance_sample_ratio, Real) or not 0 <= self.importance_sample_ratio <= 1:
            raise ValueError(f"importance_sample_ratio must lie in [0, 1], got {self.importance_sample_ratio!r}.")

    def to_dict(self) -> dict:
        """The fields as plain values, in a form that plain transformers can run.

        With `use_auxiliary_loss` on, transformers' model fails in every plain forward. So it is written as off there,
        and as `deep_supervision` for this class, which reads it back. Where the model has parts that
        transformers' lacks, or a timm backbone that needs what `AnySizeTimmBackbone` does even for images in multiples
        of 32, the model types of it and of its decoder say so, so that the Auto classes and the classes there refuse
        it, instead of loading it without them.
        """
        fields = super().to_dict()
        if (
            self.pixel_decoder_layers
            or self.enforce_input_projection
            or self.last_stage_dilations is not None
            or needs_pyramid(self.backbone_config)
            or not runs_in_transformers(self.backbone_config)
        ):
            fields["model_type"] = EXTENDED_MODEL_TYPE
            refuse_elsewhere(fields)
        fields["deep_supervision"] = fields["use_auxiliary_loss"]
        fields["use_auxiliary_loss"] = False
        return fields

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs) -> tuple[dict, dict]:
        fields, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        if fields.get("model_type") == EXTENDED_MODEL_TYPE:
            fields["model_type"] = cls.model_type  # the fields themselves say which parts there are
        return fields, kwargs


def own_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """The config, as this package's where it is transformers' own MaskFormerConfig, whose fields mean the same."""
    if not isinstance(config, TransformersMaskFormerConfig) or isinstance(config, MaskFormerConfig):
        return config
    own = MaskFormerConfig.from_dict(config.to_dict())
    own._attn_implementation = config._attn_implementation  # which stands in no dictionary
    return own


@strict
class MaskFormerExtendedConfig(MaskFormerConfig):
    """What AutoConfig finds under the model type of such checkpoints: a door to MaskFormerConfig."""

    model_type = EXTENDED_MODEL_TYPE

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs) -> MaskFormerConfig:
        return MaskFormerConfig.from_dict(config_dict | {"model_type": MaskFormerConfig.model_type}, **kwargs)
