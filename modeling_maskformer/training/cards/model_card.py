"""The card of a trained model: what it is, how good it was found to be, and how it was made. No number is typed."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import timm
from huggingface_hub import EvalResult, ModelCardData
from torch.utils.data import Dataset, Subset
from transformers import PreTrainedConfig, PreTrainedModel, TrainerState
from transformers.trainer_utils import has_length

from ...backbone.swin import timm_name_of
from ...data.datasets import GENERATED
from ...data.layouts.loaded import name_of
from ...evaluation.evaluator import Evaluator
from ...evaluation.results import number_text, with_numbers
from ..arguments.arguments import MaskFormerTrainingArguments
from ..arguments.augmentation_arguments import AugmentationArguments
from ..arguments.data_arguments import DataArguments
from ..arguments.model_arguments import ModelArguments
from ..arguments.program_name import launched
from ..hardware import duration, hardware, versions
from .card_data import CardData
from .card_text import CARD_NAME, is_signed, render_card, shown_command, shown_name, sign

TEMPLATE = Path(__file__).with_name("model_card.md.jinja")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunDescription:
    """What a trainer does not know of its run, and the card says.

    Attributes:
        data: which dataset, as it was named.
        model: what the model was made from.
        augmentation: how training images varied.
        command: the program as it was called, then its flags, settings of a file written as such; empty where there
            was none.
        found: numbers of the images; None where none was looked at.
    """

    data: DataArguments
    model: ModelArguments
    augmentation: AugmentationArguments
    command: tuple[str, ...] = ()
    found: CardData | None = None

    @property
    def dataset(self) -> str:
        """The dataset's name on the Hub, "shapes", the last part of a local path, or what `datasets` calls it."""
        return GENERATED if self.data.dataset == GENERATED else shown_name(name_of(self.data.dataset))

    @property
    def hub_dataset(self) -> str | None:
        """The Hub's name of the dataset; None where that is on disk, in memory or generated."""
        name = self.data.dataset
        if name == GENERATED or not isinstance(name, str) or Path(name).expanduser().exists():
            return None
        return name if re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", name) else None

    @property
    def origin(self) -> str:
        """What the training started from."""
        return origin_of(self.model)

    @property
    def base_model(self) -> str | None:
        """The Hub's name of what the training started from; None where that did not come from the Hub."""
        if self.model.model is not None:
            return None if Path(self.model.model).exists() else self.model.model
        if self.model.backbone_weights != "pretrained":
            return None
        return getattr(timm.get_pretrained_cfg(timm_name_of(self.model.backbone)), "hf_hub_id", None) or None


def origin_of(model: ModelArguments) -> str:
    """What the training starts from, in words."""
    if model.model is not None:
        return f"fine-tuned from {shown_name(model.model)}"
    weights = {"pretrained": "timm's pretrained weights", "random": "random weights"}
    weights = weights.get(model.backbone_weights, f"the weights in {Path(model.backbone_weights).name}")
    return f"a new model on the backbone {model.backbone} with {weights}"


class FinishedTraining(Protocol):
    """What a card is made from; a `MaskFormerTrainer` has all of it.

    Attributes:
        args, state, model, train_dataset, eval_dataset: as of `transformers.Trainer`.
        evaluator: with the results of the last evaluation; None if there was none.
        run_description: None where nothing more is known of the run.
        examples: caption -> file in the output folder that shows a prediction.
        plot: file in the output folder that shows how the training went; None where there is none.
    """

    args: MaskFormerTrainingArguments
    state: TrainerState
    model: PreTrainedModel
    train_dataset: Dataset | None
    eval_dataset: Dataset | None
    evaluator: Evaluator | None
    run_description: RunDescription | None
    examples: Mapping[str, Path]
    plot: Path | None


def write_card(folder: Path, text: str) -> None:
    """Writes a card as README.md into a folder, signed; one that somebody has written or edited stays."""
    path = folder / CARD_NAME
    if path.exists() and not is_signed(path):
        logger.warning("%s was written or edited by somebody: it stays, and no model card is written.", path)
        return
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(sign(text), encoding="utf-8")


def trained_model_card(
    training: FinishedTraining,
    language: str | None = None,
    license: str | None = None,
    tags: str | Sequence[str] | None = None,
    model_name: str | None = None,
) -> str:
    """The card of the trained model: front matter for the Hub, and text.

    Results are those of the last evaluation.

    Args:
        training: what has been trained. Without `run_description` the card lacks what only that knows.
        language: as the Hub's metadata have it.
        license: of the model, by the Hub's names; without one the card has none.
        tags: more tags for the Hub.
        model_name: default: the name of the output folder.
    """
    run, evaluator, folder = training.run_description, training.evaluator, Path(training.args.output_dir).resolve()
    name = model_name or folder.name
    task, results = (evaluator.task, evaluator.results) if evaluator is not None else (None, {})
    tables = {title: value for title, value in results.items() if isinstance(value, Mapping)}
    totals = {metric: value for metric, value in results.items() if metric not in tables}
    measured = _evaluations(training, {name: value for name, value in totals.items() if isinstance(value, float)})
    metadata = ModelCardData(
        language=language,
        license=license,
        library_name="transformers",
        pipeline_tag="image-segmentation",
        tags=[
            *("maskformer", "image-segmentation"),
            *([f"{task}-segmentation"] if task else []),
            *([tags] if isinstance(tags, str) else tags or ()),
        ],
        base_model=run and run.base_model,
        datasets=[run.hub_dataset] if run and run.hub_dataset else None,
        metrics=[result.metric_type for result in measured] or None,
        model_name=name if measured else None,
        eval_results=measured or None,
    )
    return render_card(
        TEMPLATE.read_text(encoding="utf-8"),
        metadata,
        name=name,
        training=training,
        run=run,
        task=task,
        totals=totals,
        tables=tables,
        number_text=number_text,
        with_numbers=with_numbers,
        examples={caption: _link(file, folder) for caption, file in training.examples.items()},
        plot=training.plot and _link(training.plot, folder),
        is_held_out=isinstance(getattr(training.eval_dataset, "samples", None), Subset),
        split=_evaluation_split(training),
        command=_command(training),
        settings=_settings(training),
        versions=versions(),
    )


def _link(file: Path, folder: Path) -> str:
    return quote(Path(file).resolve().relative_to(folder).as_posix())


def _evaluations(training: FinishedTraining, totals: Mapping[str, float]) -> list[EvalResult]:
    """The results for the Hub; undefined numbers are none."""
    run = training.run_description
    return [
        EvalResult(
            task_type="image-segmentation",
            task_name=f"{training.evaluator.task} segmentation",
            dataset_type=(run and run.hub_dataset) or "unknown",  # the Hub wants one
            dataset_name=run.dataset if run else "unknown",
            dataset_config=run and run.data.dataset_config,
            dataset_split=_evaluation_split(training),
            metric_type=metric,
            metric_name=metric,
            metric_value=value,
        )
        for metric, value in totals.items()
        if math.isfinite(value)
    ]


def _evaluation_split(training: FinishedTraining) -> str | None:
    """The split that the model is measured on, None where that has no name."""
    return getattr(getattr(training.eval_dataset, "samples", None), "split", None)


def _command(training: FinishedTraining) -> str | None:
    """The command line to copy; None where there was none."""
    run = training.run_description
    if run is None or not run.command:
        return None
    program, *flags = run.command
    return shown_command([*launched(program, training.args.world_size).split(" "), *flags])


def _loss_weights(config: PreTrainedConfig) -> str | None:
    weights = [getattr(config, f"{part}_weight", None) for part in ("cross_entropy", "mask", "dice")]
    return None if None in weights else ", ".join(f"{weight:g}" for weight in weights)


def _settings(training: FinishedTraining) -> dict[str, Any]:
    """What was trained with, by name; None is not shown."""
    args, state, config, run = training.args, training.state, training.model.config, training.run_description
    mask_loss = getattr(config, "mask_loss", None)
    settings = {
        "training images": len(training.train_dataset) if has_length(training.train_dataset) else None,
        "images per step": args.train_batch_size * args.world_size * args.gradient_accumulation_steps,
        "steps": state.global_step,
        "epochs": None if state.epoch is None or not has_length(training.train_dataset) else round(state.epoch, 2),
        "checkpoint kept, by step": state.best_global_step if args.load_best_model_at_end else None,
        "optimizer": getattr(args.optim, "value", args.optim),
        "learning rate": args.learning_rate,
        "learning rate of the backbone": args.learning_rate * args.backbone_lr_factor,
        "schedule of the learning rate": getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type),
        "warm-up steps": args.get_warmup_steps(state.max_steps),
        "weight decay": args.weight_decay,
        "decay of the average of weights": args.ema_decay,
        "evaluations without a better one, at which it ends": getattr(args, "early_stopping_patience", None),
        "largest gradient norm": args.max_grad_norm or None,
        "mask loss": f"at {config.num_points} points per mask" if mask_loss == "points" else mask_loss,
        "weights of cross-entropy, focal and dice loss": _loss_weights(config),
        "precision": "bfloat16, mixed" if args.bf16 else "float16, mixed" if args.fp16 else "float32",
        "seed": args.seed,
    }
    if run is not None:
        settings["copy paste probability"] = run.augmentation.copy_paste_probability
        settings |= {
            name.replace("_", " "): ", ".join(map(str, value)) or None if isinstance(value, tuple) else value
            for name, value in asdict(run.augmentation.config()).items()
            if run.augmentation.early_crop_probability or not name.startswith("early_crop")
        }
        settings["sides in evaluation"] = f"{run.augmentation.shortest_edge}, {run.augmentation.longest_edge} at most"
    runtimes = [entry["train_runtime"] for entry in state.log_history if "train_runtime" in entry]
    if runtimes:
        part = ", since it was resumed" if args.resume_from_checkpoint else ""
        settings["training time"] = duration(runtimes[-1]) + part
    settings["hardware"] = hardware(args.device, args.world_size)
    return settings
