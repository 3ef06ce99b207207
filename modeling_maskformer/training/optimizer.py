"""Parameter groups and learning-rate schedules of the paper's recipes (its appendix and published configurations)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.lr_scheduler import LambdaLR

BACKBONE = "pixel_level_module.encoder"  # how the path of its module ends, whatever the model is wrapped in

# Parts of names in timm and transformers: of tables that are added to features or attention scores, of layers that
# compute such tables, of factors of attention scores, and of learned tokens.
_UNDECAYED = (
    *("pos_embed", "position_embedding", "position_bias", "attention_biases", "rel_pos", "cpb_mlp"),
    *("logit_scale", "cls_token", "reg_token"),
)


def _is_norm(module: nn.Module) -> bool:
    """True for every normalisation layer, also those that backbone libraries define for themselves."""
    if isinstance(module, (nn.LayerNorm, nn.GroupNorm, _NormBase, nn.RMSNorm)):
        return True
    is_leaf = next(module.children(), None) is None
    return is_leaf and "norm" in type(module).__name__.lower()


def _named_by_timm(model: nn.Module) -> set[nn.Parameter]:
    """What the modules of timm in a model say is not to be decayed."""
    found = set()
    for module in model.modules():
        if hasattr(module, "no_weight_decay"):
            parameters = dict(module.named_parameters())
            found |= {parameters[name] for name in module.no_weight_decay() if name in parameters}
    return found


def parameter_groups(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float,
    backbone_lr_factor: float = 1.0,
    decay_norms_and_embeddings: bool = False,
) -> list[dict]:
    """Optimizer groups of all trainable parameters: at most four, backbone or not x decayed or not.

    Args:
        model: the whole segmentation model, maybe wrapped (peft, `torch.compile`).
        learning_rate: of everything but the backbone.
        weight_decay: of all weights and biases of linear layers and convolutions.
        backbone_lr_factor: the backbone's learning rate is `learning_rate` times this (0.1 for the paper's ResNets).
        decay_norms_and_embeddings: whether `weight_decay` also holds for normalisation layers, embeddings and
            position tables. The recipes leave these alone, and of a timm model also what it names itself for that.

    Returns:
        Dictionaries with `name`, `params`, `lr`, `weight_decay`, as `torch.optim` takes them.
    """
    encoders = (module for name, module in model.named_modules() if name.endswith(BACKBONE))
    backbone = {parameter for encoder in encoders for parameter in encoder.parameters()}
    named_by_timm = _named_by_timm(model)
    groups: dict[str, dict] = {}
    seen: set[nn.Parameter] = set()
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            in_backbone = parameter in backbone
            is_table = isinstance(module, nn.Embedding) or any(part in f"{path}.{name}" for part in _UNDECAYED)
            is_left_alone = is_table or _is_norm(module) or parameter in named_by_timm
            is_decayed = decay_norms_and_embeddings or not is_left_alone
            key = ("backbone" if in_backbone else "head") + ("" if is_decayed else "_no_decay")
            group = {
                "name": key,
                "params": [],
                "lr": learning_rate * (backbone_lr_factor if in_backbone else 1.0),
                "weight_decay": weight_decay if is_decayed else 0.0,
            }
            groups.setdefault(key, group)["params"].append(parameter)
    return list(groups.values())


def warmup_multiplier(step: int, warmup_steps: int, warmup_factor: float) -> float:
    """What the learning rate is multiplied by at `step`: rises linearly from `warmup_factor` to 1."""
    if step >= warmup_steps:
        return 1.0
    progress = step / warmup_steps
    return warmup_factor * (1 - progress) + progress


def poly_schedule(
    optimizer: torch.optim.Optimizer,
    num_training_steps: int,
    power: float = 0.9,
    warmup_steps: int = 0,
    warmup_factor: float = 1e-6,
) -> LambdaLR:
    """Learning rates that fall as (1 - step / num_training_steps) ** power, to 0 after the last step."""

    def multiplier(step: int) -> float:
        decay = max(0.0, 1 - step / num_training_steps) ** power
        return warmup_multiplier(step, warmup_steps, warmup_factor) * decay

    return LambdaLR(optimizer, multiplier)


def step_schedule(
    optimizer: torch.optim.Optimizer,
    milestones: Sequence[int],
    gamma: float = 0.1,
    warmup_steps: int = 0,
    warmup_factor: float = 1e-6,
) -> LambdaLR:
    """Learning rates that are multiplied by `gamma` when a milestone, counted in optimizer steps, is reached."""

    def multiplier(step: int) -> float:
        decay = gamma ** sum(step >= milestone for milestone in milestones)
        return warmup_multiplier(step, warmup_steps, warmup_factor) * decay

    return LambdaLR(optimizer, multiplier)
