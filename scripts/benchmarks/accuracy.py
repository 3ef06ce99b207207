"""MaskFormer, the paper's per-pixel baselines and transformers' MaskFormer, trained for an equal time, by seeds.

    python scripts/benchmark.py accuracy --recipe scripts/recipes/finetune_small.yaml --dataset data/street

Every model has the recipe's backbone, decoders, views of the images and schedule, which ends with its time: how many
steps fit is measured first. The model of transformers starts with the very weights of ours, keeps BatchNorm as ours
does, has deep supervision (which needs output_hidden_states=True), and learns from its own loss;
transformers_equal_steps is the same for as many steps as maskformer took. All are measured alike, by this package.

Each run leaves its history in OUTPUT_DIR/<model>_seed<seed>; one that is there already is not trained again. Several
processes may share the work, each with seeds or models of its own. At the end come the table and the plot of `curves`
over all that are there.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml
from torch import Tensor, nn

from modeling_maskformer import MaskFormerForInstanceSegmentation
from modeling_maskformer.backbone.build import freeze_batch_norm
from modeling_maskformer.commands.train import make_parser
from modeling_maskformer.modeling_maskformer import MaskFormerForInstanceSegmentationOutput
from modeling_maskformer.training.arguments.model_arguments import LACKING
from modeling_maskformer.training.run import prepare_training
from modeling_maskformer.training.trainer import MaskFormerTrainer

from .curves import STATE_NAME, CurvesArguments, main_metric, read_curve
from .curves import run as draw_curves

TRANSFORMERS, EQUAL_STEPS = "transformers", "transformers_equal_steps"
MODELS = (*LACKING, TRANSFORMERS, EQUAL_STEPS)
# what transformers calls otherwise in its models than in its checkpoints
OUTPUT_PROJECTION = (r"(decoder\.layers\.\d+\.\w+_attn)\.out_proj", r"\1.o_proj")
FEED_FORWARD = (r"(decoder\.layers\.\d+)\.(fc\d)", r"\1.mlp.\2")
FIRST_STEPS, MEASURED_STEPS = 2, 10  # of those that tell how long a step takes
NEARLY = 0.1  # of its minutes a run may take more or less, and is still compared with others at equal time


@dataclass
class AccuracyArguments:
    _argument_group_name = "accuracy"

    recipe: str = field(
        metadata={
            "help": "YAML file of settings of train.py that all models have in common; semantic, as the baselines are."
        }
    )
    dataset: str | None = field(default=None, metadata={"help": "Instead of the recipe's."})
    minutes: float = field(default=20.0, metadata={"help": "Training time of each run, without evaluations."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Each model is trained with each."})
    models: list[str] = field(
        default_factory=lambda: list(MODELS), metadata={"help": f"Which: {', '.join(MODELS)}; in this order."}
    )
    evaluations: int = field(default=10, metadata={"help": "Measurements of each run, the last at its end."})
    output_dir: str = field(default="outputs/accuracy", metadata={"help": "Folder for runs, table and plot."})

    def __post_init__(self) -> None:
        unknown = set(self.models) - set(MODELS)
        if unknown:
            raise ValueError(f"--models takes {', '.join(MODELS)}, got {', '.join(sorted(unknown))}.")
        if self.minutes <= 0 or self.evaluations < 1:
            raise ValueError(
                f"--minutes must be above 0 and --evaluations at least 1, got {self.minutes} and {self.evaluations}."
            )


def run(arguments: AccuracyArguments) -> None:
    """Trains what is not there yet, then compares all that is."""
    output = Path(arguments.output_dir)
    for seed in arguments.seeds:
        for model in arguments.models:
            folder = output / f"{model}_seed{seed}"
            if (folder / STATE_NAME).is_file():
                print(f"{folder} is there already.")
                continue
            if model == EQUAL_STEPS:
                steps = steps_of(output / f"maskformer_seed{seed}")
            else:
                seconds = seconds_of_a_step(arguments, model, seed)
                steps = arguments.evaluations * max(1, round(60 * arguments.minutes / seconds / arguments.evaluations))
                print(f"{folder}: {seconds:.3f} seconds a step, so {steps} steps.", flush=True)
            every = math.ceil(steps / arguments.evaluations)
            measured = {"eval_strategy": "steps", "eval_steps": every}
            trainer = make_trainer(arguments, model, seed, folder, max_steps=steps, **measured)
            trainer.train()
            trainer.save_state()
            if model != EQUAL_STEPS:
                print(time_taken(folder, arguments.minutes), flush=True)
    runs = [str(path.parent) for model in MODELS for path in sorted(output.glob(f"{model}_seed*/{STATE_NAME}"))]
    draw_curves(CurvesArguments(runs=runs, output_dir=arguments.output_dir))


def steps_of(folder: Path) -> int:
    """How many steps a run took that has ended."""
    path = folder / STATE_NAME
    if not path.is_file():
        raise SystemExit(f"{EQUAL_STEPS} takes as many steps as {folder} took, which is not there: train it first.")
    return json.loads(path.read_text(encoding="utf-8"))["global_step"]


def seconds_of_a_step(arguments: AccuracyArguments, model: str, seed: int) -> float:
    """The median of some steps, with the preparation of their images."""
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder:
        steps = FIRST_STEPS + MEASURED_STEPS
        trainer = make_trainer(arguments, model, seed, Path(folder), max_steps=steps, eval_strategy="no")
        trainer.add_callback(clock)
        trainer.train()
    times = clock.times[FIRST_STEPS - 1 :]
    return statistics.median(end - start for start, end in pairwise(times))


def time_taken(folder: Path, minutes: float) -> str:
    """How long a run trained, and whether that is what it was to take: other programs may have slowed its steps."""
    state = json.loads((folder / STATE_NAME).read_text(encoding="utf-8"))
    taken = read_curve(str(folder), state, main_metric([state])).seconds[-1] / 60
    text = f"{folder} trained for {taken:.2f} minutes."
    if abs(taken - minutes) <= NEARLY * minutes:
        return text
    return f"{text} It was to take {minutes:g}: remove it, and it is trained again when the machine is idle."


class _Clock(transformers.TrainerCallback):
    """Notes when each step has ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())


def make_trainer(
    arguments: AccuracyArguments, model: str, seed: int, folder: Path, **settings: Any
) -> MaskFormerTrainer:
    """The trainer of one run: what train.py would have with the recipe, less what the architecture lacks."""
    architecture = model if model in LACKING else "maskformer"
    recipe = {"task": "semantic"} | yaml.safe_load(Path(arguments.recipe).read_text(encoding="utf-8"))
    if arguments.dataset is not None:
        recipe["dataset"] = arguments.dataset
    recipe = {name: value for name, value in recipe.items() if name not in LACKING[architecture]}
    recipe |= {"architecture": architecture, "seed": seed, "output_dir": str(folder), "overwrite_output_dir": True}
    recipe |= {"save_strategy": "no", "load_best_model_at_end": False, "report_to": "none", "disable_tqdm": True}
    with tempfile.TemporaryDirectory() as settings_folder:
        path = Path(settings_folder) / "run.json"
        path.write_text(json.dumps(recipe | settings), encoding="utf-8")
        trainer = prepare_training(*make_parser().parse([str(path)]))
    if model in (TRANSFORMERS, EQUAL_STEPS):
        learn_as_transformers(trainer.model)
    return trainer


def learn_as_transformers(
    model: MaskFormerForInstanceSegmentation,
) -> transformers.MaskFormerForInstanceSegmentation:
    """In training, transformers' model with the same weights (the same tensors) runs, with its own loss, instead.

    Given is that model.
    """
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        theirs = transformers.MaskFormerForInstanceSegmentation.from_pretrained(folder, use_auxiliary_loss=True)
    share_weights(model, theirs)
    theirs.train()
    if model.config.freeze_backbone_batch_norm:
        freeze_batch_norm(theirs.model.pixel_level_module.encoder)
    ours = model.forward

    def forward(*pixel_values: Tensor, **inputs: Any) -> Any:
        if model.training:
            return training_output(theirs, *pixel_values, **inputs)
        return ours(*pixel_values, **inputs)

    model.forward = forward
    return theirs


def share_weights(ours: nn.Module, theirs: nn.Module) -> None:
    """Makes weights and buffers of theirs, which have the same values, the very tensors of ours."""
    for name, tensor in (*ours.named_parameters(), *ours.named_buffers()):
        their_name = re.sub(*OUTPUT_PROJECTION, re.sub(*FEED_FORWARD, name))
        owner, _, attribute = their_name.rpartition(".")
        module = theirs.get_submodule(owner)
        if not torch.equal(tensor, getattr(module, attribute)):
            raise RuntimeError(f"{name} of this package and {their_name} of transformers do not have the same values.")
        setattr(module, attribute, tensor)


def training_output(
    theirs: transformers.MaskFormerForInstanceSegmentation,
    pixel_values: Tensor,  # (B, 3, H, W)
    segment_ids: Tensor,  # (B, L, H, W)
    class_labels: list[Tensor],  # B x (S_b,)
    pixel_mask: Tensor | None = None,  # (B, H, W)
) -> MaskFormerForInstanceSegmentationOutput:
    """Their loss of a batch; the masks are theirs, in which void is outside all segments."""
    masks = []
    for ids, labels in zip(segment_ids, class_labels, strict=True):
        numbers = torch.arange(1, len(labels) + 1, device=ids.device)
        inside = ids == numbers[:, None, None, None]  # (S_b, L, H, W)
        masks.append(inside.any(1).float())
    output = theirs(pixel_values, masks, list(class_labels), pixel_mask, output_hidden_states=True)
    return MaskFormerForInstanceSegmentationOutput(loss=output.loss.squeeze(), loss_dict={})
