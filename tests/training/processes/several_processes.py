"""Trains and measures tiny models on generated shapes; writes losses, gradients and metrics.

Run by test_several_processes.py, alone and as several processes: each case is seven pictures, two epochs of two steps
of four pictures, the second of them uneven. Two pictures have no segments.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from datasets import Dataset
from PIL import Image
from safetensors.torch import save_file
from transformers import TrainerCallback

from image_processing import MaskFormerImageProcessor
from modeling_maskformer import MaskFormerForInstanceSegmentation
from modeling_maskformer.data.formats.class_map import ClassMapFormat
from modeling_maskformer.data.shapes import ShapesDataset
from modeling_maskformer.data.streams import StreamSamples
from modeling_maskformer.data.views.collate import EvaluationCollator, SegmentationDataset, TrainingCollator
from modeling_maskformer.evaluation.evaluator import Evaluator
from modeling_maskformer.losses import point_sampling
from modeling_maskformer.targets import Segments
from modeling_maskformer.training.arguments.arguments import MaskFormerTrainingArguments
from modeling_maskformer.training.trainer import MaskFormerTrainer

sys.path.append(str(Path(__file__).resolve().parents[2]))

from models import tiny

CASES = {
    "dense": {"mask_loss": "dense"},
    "points": {"mask_loss": "points", "num_points": 64},
    "per_pixel": {"kind": "per_pixel"},
    "per_pixel_plus": {"kind": "per_pixel_plus"},
}
EMPTY = (2, 3)  # both in one process, where there are two


class Pictures:
    """Seven generated pictures, of which those of EMPTY have no segments."""

    def __init__(self, task):
        self.samples = ShapesDataset(7, task, size=64, max_things=3)

    def __len__(self):
        return 7

    def __getitem__(self, index):
        sample = self.samples[index]
        if index not in EMPTY:
            return sample
        ids = torch.zeros_like(sample.segments.ids[:1])
        return replace(sample, segments=Segments(ids, torch.zeros(0, dtype=torch.int64)))


class Gradients(TrainerCallback):
    """Keeps the gradient of each step, just before it is used."""

    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        grads = [p.grad.flatten() for _, p in sorted(model.named_parameters()) if p.grad is not None]
        self.steps.append(torch.cat(grads).clone())


def make_trainer(folder, model, per_device, accumulation, evaluation=(), task="panoptic", callbacks=(), **arguments):
    processor = MaskFormerImageProcessor(size={"height": 64, "width": 64}, label_ids_to_fuse=[5, 6, 7])
    defaults = {"max_steps": 4, "logging_steps": 1, "train_sampling_strategy": "sequential", "save_strategy": "no"}
    return MaskFormerTrainer(
        model,
        MaskFormerTrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=per_device,
            per_device_eval_batch_size=2,
            gradient_accumulation_steps=accumulation,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            eval_loss=True,
            **{"optim": "sgd", "max_grad_norm": 0, "learning_rate": 1e-3, **defaults, **arguments},
        ),
        image_processor=processor,
        train_dataset=SegmentationDataset(Pictures(task)),
        eval_dataset=SegmentationDataset(evaluation),
        data_collator=TrainingCollator(),
        eval_data_collator=EvaluationCollator(processor),
        evaluator=Evaluator(task, processor, ShapesDataset(1).labels.id2label, panoptic_threshold=0.5),
        callbacks=list(callbacks),
    )


def use_the_same_points():
    """Lets the point loss draw the same points for every batch, however the pictures are spread."""
    draw = point_sampling.uniform_points

    def drawn(num_points):
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            return draw(num_points)

    point_sampling.uniform_points = drawn


def train(folder, case, per_device, accumulation):
    """What each step logged, and the gradients (steps, P)."""
    gradients = Gradients()
    fields = dict(CASES[case])
    model = tiny(fields.pop("kind", "maskformer"), num_labels=8, **fields)
    trainer = make_trainer(folder, model, per_device, accumulation, callbacks=[gradients])
    trainer.train()
    kept = ("loss", "grad_norm")
    logs = [
        {name: value for name, value in entry.items() if name.startswith(kept)}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    return logs, torch.stack(gradients.steps), trainer.is_world_process_zero()


def fit(folder):
    """Saves a model that finds something in the pictures: it has seen four of the seven for a while."""
    arguments = {"max_steps": 120, "warmup_steps": 10, "logging_steps": 20, "backbone_lr_factor": 1.0}
    arguments |= {"optim": "adamw_torch", "learning_rate": 3e-3, "max_grad_norm": 1}
    trainer = make_trainer(folder, tiny(num_labels=8, mask_loss="dense"), 4, 1, **arguments)
    trainer.train_dataset = SegmentationDataset(ShapesDataset(4, "panoptic", size=64, max_things=3))
    trainer.train()
    trainer.model.save_pretrained(folder)


def stream():
    """The seven pictures as rows of a stream, with class maps."""
    shapes = ShapesDataset(7, "semantic", size=64, max_things=3)
    rows = []
    for index in range(len(shapes)):
        segments = shapes[index].segments
        classes = segments.class_ids[segments.ids[0].long() - 1]
        rows.append({"image": shapes[index].image, "annotation": Image.fromarray(classes.to(torch.uint8).numpy())})
    rows = Dataset.from_list(rows).to_iterable_dataset(num_shards=1)
    return StreamSamples(rows, "image", ClassMapFormat("annotation"), shapes.labels, "semantic")


def measure(folder, model):
    """The metrics of each task, and of semantic segmentation by a stream."""
    found = {}
    for task in ("semantic", "instance", "panoptic", "stream"):
        kind = {"stream": "semantic", "instance": "panoptic"}.get(task, task)  # stuff, too, is found as instances
        pictures = stream() if task == "stream" else ShapesDataset(7, kind, size=64, max_things=3)
        loaded = MaskFormerForInstanceSegmentation.from_pretrained(model)
        trainer = make_trainer(folder, loaded, 1, 1, pictures, "semantic" if task == "stream" else task)
        for statistics in loaded.buffers():  # as after a step of BatchNorm, which sees other pictures in each process
            statistics += trainer.args.process_index
        found[task] = {name: value for name, value in trainer.evaluate().items() if "second" not in name}
        del found[task]["eval_runtime"]
        if task == "stream":
            del found[task]["eval_loss"]  # the mean over batches, which are others
        found[task]["num_images"] = trainer.evaluator.num_images
    return found


def diverge(folder):
    """What each process says where, in the second step of two batches, the last one has a loss that is NaN."""
    trainer = make_trainer(folder, tiny(num_labels=8, mask_loss="dense"), 1, 2)
    process, last = trainer.args.process_index, trainer.args.world_size - 1
    number = iter(range(100))

    def spoil(module, arguments, named):
        factor = float("nan") if process == last and next(number) == 2 else 1.0
        return arguments, named | {"pixel_values": named["pixel_values"] * factor}

    trainer.model.register_forward_pre_hook(spoil, with_kwargs=True)
    said = "nothing"
    try:
        trainer.train()
    except FloatingPointError as error:
        said = str(error)
    (Path(folder) / f"said_{process}.txt").write_text(said)


def main(folder, settings, model):
    """`settings`: images a process and batches a step, as 2x1,1x2; each gives the same four images a step."""
    use_the_same_points()
    Path(folder).mkdir(exist_ok=True)
    if not Path(model).exists():
        fit(model)
    logs, gradients = {}, {}
    for setting in settings.split(","):
        images, batches = map(int, setting.split("x"))
        for case in CASES:
            name = f"{case} {setting}"
            logs[name], gradients[name], is_first = train(folder, case, images, batches)
    metrics = measure(folder, model)
    if is_first:
        (Path(folder) / "logs.json").write_text(json.dumps(logs))
        (Path(folder) / "metrics.json").write_text(json.dumps(metrics))
        save_file(gradients, Path(folder) / "gradients.safetensors")
    diverge(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
