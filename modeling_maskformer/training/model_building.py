"""The model that ModelArguments ask for: new on a backbone with pretrained weights, or from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import timm
from huggingface_hub.errors import LocalEntryNotFoundError
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from transformers import PreTrainedModel

from ..architectures import ARCHITECTURES
from ..backbone import load_backbone_weights, pretrained_timm_model, put_weights
from ..backbone.swin import SWINS, Swin, timm_name_of
from ..inference.exported_folder import check_not_exported
from ..inference.loading import check_task, load_model
from .arguments.model_arguments import LOSS_WEIGHTS, MASK_LOSS, ModelArguments


def build_model(
    arguments: ModelArguments, id2label: Mapping[int, str], task: str, category_ids: Sequence[int] | None = None
) -> PreTrainedModel:
    """A model for these classes, new on a backbone or from a checkpoint; its config remembers the task.

    Args:
        arguments: of the model.
        id2label: its classes.
        task: "semantic", "instance" or "panoptic".
        category_ids: the ids of the classes in the dataset's annotations, for files of results.

    Raises:
        ValueError, OSError: the backbone, its weights or the checkpoint cannot be used, or not for the task; in a
            sentence.
    """
    architecture = arguments.find_architecture()
    config_class = ARCHITECTURES[architecture].config_class
    check_task(config_class, task)
    settings = {
        "id2label": dict(id2label),
        "label2id": {label: class_id for class_id, label in id2label.items()},
        "freeze_backbone_batch_norm": not arguments.train_batch_norm,
    }
    if architecture == "maskformer":
        given = {name: getattr(arguments, name) for name in (*MASK_LOSS, *LOSS_WEIGHTS)}
        is_plain = category_ids is None or list(category_ids) == list(range(len(id2label)))
        settings["category_ids"] = None if is_plain else list(category_ids)
        defaults = MASK_LOSS if arguments.model is not None else MASK_LOSS | LOSS_WEIGHTS
        settings |= defaults | {name: value for name, value in given.items() if value is not None}
    if architecture != "per_pixel":
        settings["use_auxiliary_loss"] = True
    if arguments.model is not None:
        check_not_exported(arguments.model, "trained")
        model = load_model(arguments.model, ignore_mismatched_sizes=True, **settings)
        model.config.segmentation_task = task
        return model
    if arguments.backbone in SWINS:
        backbone_config = SWINS[arguments.backbone].config(arguments.drop_path)
    else:
        backbone_config = {"model_type": "timm_backbone", "backbone": arguments.backbone}
    decoder = {
        "d_model": arguments.hidden_dim,
        "num_queries": arguments.num_queries,
        "decoder_layers": arguments.decoder_layers,
        "decoder_attention_heads": arguments.attention_heads,
        "decoder_ffn_dim": arguments.ffn_dim,
        "encoder_attention_heads": arguments.attention_heads,
        "encoder_ffn_dim": arguments.ffn_dim,
        "dropout": arguments.dropout,
    }
    config = config_class(
        backbone_config=backbone_config,
        # what an architecture lacks is None in its arguments
        decoder_config={"model_type": "detr"} | {name: value for name, value in decoder.items() if value is not None},
        last_stage_dilations=arguments.last_stage_dilations,
        pixel_decoder_layers=arguments.encoder_layers,
        fpn_feature_size=arguments.fpn_feature_size,
        mask_feature_size=arguments.mask_feature_size,
        segmentation_task=task,
        **settings,
    )
    model = ARCHITECTURES[architecture].model_class(config)
    if arguments.backbone_weights == "pretrained":
        load_timm_weights(model, SWINS.get(arguments.backbone))
    elif arguments.backbone_weights != "random":
        load_backbone_weights(model.get_backbone(), arguments.backbone_weights)
    return model


def load_timm_weights(model: PreTrainedModel, swin: Swin | None = None) -> None:
    """Puts timm's pretrained weights, downloaded from the Hub or cached, into the backbone.

    Args:
        model: on a timm backbone; or, with `swin`, on that Swin of transformers.
        swin: whose weights.

    Raises:
        OSError: they cannot be had.
    """
    config = model.config.backbone_config
    name = config.backbone if swin is None else swin.timm_name
    backbone = next((key for key, value in SWINS.items() if value is swin), name)
    try:
        pretrained = pretrained_timm_model(config) if swin is None else timm.create_model(name, pretrained=True)
    except Exception as error:  # timm passes on whatever the Hub, the network or the file system raises
        if isinstance(error, LocalEntryNotFoundError):
            reason = "they are not in the cache, and the Hub cannot be reached"
        else:
            reason = str(error).rstrip(".")
        raise OSError(
            f"timm's pretrained weights of {name} could not be loaded: {reason}. Without the Hub, pass --backbone "
            f"{backbone} with --backbone_weights and the path of a .safetensors file that "
            "holds them, or --backbone_weights random, which takes many more images to become good."
        ) from error
    put_weights(model.get_backbone(), pretrained.state_dict(), f"What timm has of {name}")


def normalization_of(backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the pixels (in [0, 1]) that timm's weights of `backbone` were trained on."""
    settings = timm.get_pretrained_cfg(timm_name_of(backbone))
    if settings is None:
        return IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    return settings.mean, settings.std
