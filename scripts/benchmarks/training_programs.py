"""Training steps of this package and of transformers' MaskFormer, with the same weights on the same batch."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from modeling_maskformer import MaskFormerConfig, MaskFormerForInstanceSegmentation

from .backbones import MINIATURE, SWIN_TINY

NUM_LABELS = 150
LEARNING_RATE = 1e-6  # the steps are real, but the model stays what it is
ALONE, DENSE, POINTS, TRANSFORMERS = "model alone", "dense", "points", "transformers"
PROGRAMS = (ALONE, POINTS, DENSE, TRANSFORMERS)


@dataclass(frozen=True)
class Setting:
    """What is trained: Swin-T with deep supervision, or with `tiny` a model for tests."""

    image_size: int = 512
    batch_size: int = 2
    num_queries: int = 100
    tiny: bool = False

    def config(self) -> MaskFormerConfig:
        backbone = dict(MINIATURE if self.tiny else SWIN_TINY)
        decoder = {"model_type": "detr", "num_queries": self.num_queries}
        if self.tiny:
            decoder |= {"d_model": 32, "decoder_layers": 2, "decoder_ffn_dim": 64, "decoder_attention_heads": 4}
        sizes = {"fpn_feature_size": 32, "mask_feature_size": 32} if self.tiny else {}
        return MaskFormerConfig(backbone_config=backbone, decoder_config=decoder, num_labels=NUM_LABELS, **sizes)


@dataclass
class Batch:
    """Noise images `(B, 3, H, W)` and their targets: the cells around random points, one segment each."""

    pixel_values: Tensor
    segment_ids: Tensor  # (B, 1, H, W)
    class_labels: list[Tensor]  # B x (S,)

    def mask_labels(self) -> list[Tensor]:
        """The targets as transformers wants them: B x `(S, H, W)` float32."""
        return [
            torch.stack([(ids[0] == number).float() for number in range(1, len(labels) + 1)])
            for ids, labels in zip(self.segment_ids, self.class_labels, strict=True)
        ]


def make_batch(setting: Setting, num_segments: int) -> Batch:
    """The batch of a number of segments an image, always the same."""
    size, generator = setting.image_size, torch.Generator().manual_seed(num_segments)
    axis = torch.arange(size)
    images = []
    for _ in range(setting.batch_size):
        nearest, ids = torch.full((size, size), torch.inf), torch.zeros(1, size, size, dtype=torch.int16)
        for number, (y, x) in enumerate(torch.rand(num_segments, 2, generator=generator) * size, start=1):
            distance = (axis[:, None] - y).square() + (axis - x).square()
            ids[0][distance < nearest] = number
            nearest = torch.minimum(nearest, distance)
        images.append(ids)
    ids = torch.stack(images)
    labels = [torch.randint(0, NUM_LABELS, (num_segments,), generator=generator) for _ in images]
    pixels = torch.randn(setting.batch_size, 3, size, size, generator=generator)
    return Batch(pixels, ids.to(torch.uint8) if num_segments <= 254 else ids, labels)


class Stopwatch:
    """Seconds spent in parts of a step, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, name: str, function: Callable) -> Callable:
        """The function, whose time adds to `name`."""

        def call(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

        return call


class Trainee:
    """A model in training, whose steps tell where their time went.

    Args:
        model: with a `criterion` that has a `matcher`, as both implementations have.
    """

    def __init__(self, model: nn.Module):
        self.model = model.train()
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
        self.watch = Stopwatch()
        # set past nn.Module, which would want a module: transformers' matcher is one, ours is not
        criterion = model.criterion
        object.__setattr__(criterion, "matcher", self.watch.timed("matching", criterion.matcher))
        # from outside, as transformers' criterion calls its own forward for each auxiliary output
        object.__setattr__(model, "criterion", self.watch.timed("criterion", criterion))
        self.criterion = criterion

    def step(self, **inputs: Any) -> dict[str, float]:
        """One training step on model inputs; seconds of each phase."""
        return self._step(lambda: self.model(**inputs).loss)

    def step_without_loss(self, pixel_values: Tensor) -> dict[str, float]:
        """The same without matching and loss: the gradient of every logit of every layer is one."""

        def forward() -> Tensor:
            output = self.model(pixel_values, output_auxiliary_logits=True)
            layers = [output, *(output.auxiliary_logits or ())]
            names = ("class_queries_logits", "masks_queries_logits")
            return torch.stack([layer[name].sum() for layer in layers for name in names]).sum()

        return self._step(forward)

    def _step(self, forward: Callable[[], Tensor]) -> dict[str, float]:
        self.watch.seconds = {"matching": 0.0, "criterion": 0.0}
        self.optimizer.zero_grad()
        times = [time.perf_counter()]
        loss = forward()
        times.append(time.perf_counter())
        loss.backward()
        times.append(time.perf_counter())
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.01)
        self.optimizer.step()
        times.append(time.perf_counter())
        matching, criterion = self.watch.seconds["matching"], self.watch.seconds["criterion"]
        return {
            "forward": times[1] - times[0] - criterion,
            "matching": matching,
            "loss": criterion - matching,
            "backward": times[2] - times[1],
            "optimizer": times[3] - times[2],
        }


def build_ours(setting: Setting) -> Trainee:
    """This package's model; which mask loss it uses is set for each step."""
    torch.manual_seed(0)
    return Trainee(MaskFormerForInstanceSegmentation(setting.config()))


def build_theirs(ours: Trainee) -> Trainee:
    """Transformers' model with the weights of ours, and every decoder layer supervised."""
    with tempfile.TemporaryDirectory() as folder:
        ours.model.save_pretrained(folder)
        model = transformers.MaskFormerForInstanceSegmentation.from_pretrained(folder, use_auxiliary_loss=True)
    return Trainee(model)


def program(name: str, trainee: Trainee, batch: Batch) -> Callable[[], dict[str, float]]:
    """A training step without arguments."""
    if name == TRANSFORMERS:
        inputs = {"mask_labels": batch.mask_labels(), "class_labels": batch.class_labels}
        # without the hidden states its auxiliary loss fails
        return lambda: trainee.step(pixel_values=batch.pixel_values, **inputs, output_hidden_states=True)
    if name == ALONE:
        return lambda: trainee.step_without_loss(batch.pixel_values)

    def step() -> dict[str, float]:
        trainee.criterion.mask_loss = name
        targets = {"segment_ids": batch.segment_ids, "class_labels": batch.class_labels}
        return trainee.step(pixel_values=batch.pixel_values, **targets)

    return step


def prepare_alone(setting: Setting, name: str, num_segments: int, threads: int) -> Callable[[], None]:
    """Two steps of one program, for a process of its own whose memory is measured."""
    torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    trainee = build_ours(setting)
    if name == TRANSFORMERS:
        trainee = build_theirs(trainee)
    step = program(name, trainee, make_batch(setting, num_segments))

    def run() -> None:
        for _ in range(2):  # from the second on, the optimizer has its state
            step()

    return run
