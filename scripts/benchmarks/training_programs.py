"""Training steps of this package and of transformers' MaskFormer, with the same weights on the same batch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from modeling_maskformer import MaskFormerConfig, MaskFormerForInstanceSegmentation

from .backbones import BACKBONES, MINIATURE
from .device.measuring import Meter, autocast
from .device.rivals import RIVALS

NUM_LABELS = 150
LEARNING_RATE = 1e-6  # the steps are real, but the model stays what it is
ALONE, DENSE, POINTS, TRANSFORMERS = "model alone", "dense", "points", "transformers"
PROGRAMS = (ALONE, POINTS, DENSE, TRANSFORMERS)
COMPILED_ALONE, COMPILED_POINTS = "model alone, compiled", "points, compiled"


@dataclass(frozen=True)
class Setting:
    """What is trained, where and how: Swin-T with deep supervision, or with `tiny` a model for tests."""

    image_size: int = 512
    batch_size: int = 2
    num_queries: int = 100
    tiny: bool = False
    backbone: str = "Swin-T"
    device: str = "cpu"
    precision: str = "fp32"

    def config(self) -> MaskFormerConfig:
        backbone = dict(MINIATURE if self.tiny else BACKBONES[self.backbone])
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

    def mask_label_bytes(self) -> int:
        """Bytes of `mask_labels`."""
        height, width = self.segment_ids.shape[-2:]
        return 4 * height * width * sum(map(len, self.class_labels))


def make_batch(setting: Setting, num_segments: int) -> Batch:
    """The batch of a number of segments an image on the setting's device, always the same."""
    size, generator = setting.image_size, torch.Generator().manual_seed(num_segments)
    device = torch.device(setting.device)
    axis = torch.arange(size, device=device)
    images = []
    for _ in range(setting.batch_size):
        nearest = torch.full((size, size), torch.inf, device=device)
        ids = torch.zeros(1, size, size, dtype=torch.int16, device=device)
        for number, (y, x) in enumerate((torch.rand(num_segments, 2, generator=generator) * size).tolist(), 1):
            distance = (axis[:, None] - y).square() + (axis - x).square()
            ids[0].masked_fill_(distance < nearest, number)
            nearest = torch.minimum(nearest, distance)
        images.append(ids)
    ids = torch.stack(images)
    labels = [torch.randint(0, NUM_LABELS, (num_segments,), generator=generator).to(device) for _ in images]
    pixels = torch.randn(setting.batch_size, 3, size, size, generator=generator).to(device)
    return Batch(pixels, ids.to(torch.uint8) if num_segments <= 254 else ids, labels)


class Stopwatch:
    """Seconds spent in parts of a step, by name."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.parts: list[tuple[str, Any, Any]] = []  # name, start and end

    def timed(self, name: str, function: Callable) -> Callable:
        """The function, whose time adds to `name`."""

        def call(*arguments: Any, **named: Any) -> Any:
            start = self.meter.now()
            try:
                return function(*arguments, **named)
            finally:
                self.parts.append((name, start, self.meter.now()))

        return call

    def seconds(self, name: str) -> float:
        """What the parts of this name took, once the device has done them."""
        return sum((self.meter.seconds(start, end) for part, start, end in self.parts if part == name), 0.0)


class Trainee:
    """A model in training, whose steps tell where their time went.

    Args:
        model: with a `criterion` that has a `matcher`, as both implementations have.
        setting: says on which device and how exactly it computes.
    """

    def __init__(self, model: nn.Module, setting: Setting):
        self.meter, self.precision = Meter(setting.device), setting.precision
        self.model = model.train().to(setting.device)
        # the Trainer's own choice of optimizer, and its scaler
        fused = True if self.meter.is_cuda else None
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=fused)
        self.scaler = torch.amp.GradScaler(self.meter.device.type, enabled=self.precision == "fp16")
        self.watch = Stopwatch(self.meter)
        # set past nn.Module, which would want a module: transformers' matcher is one, ours is not
        criterion = model.criterion
        object.__setattr__(criterion, "matcher", self.watch.timed("matching", criterion.matcher))
        # from outside, as transformers' criterion calls its own forward for each auxiliary output
        timed = self.watch.timed("criterion", criterion)
        if hasattr(criterion, "prepare"):  # ours looks at the targets before the forward pass
            timed.prepare = self.watch.timed("criterion", criterion.prepare)
        object.__setattr__(model, "criterion", timed)
        self.criterion = criterion

    def step(self, **inputs: Any) -> dict[str, float]:
        """One training step on model inputs; seconds of each phase."""
        return self._step(lambda: self.model(**inputs).loss)

    def step_without_loss(self, pixel_values: Tensor, compiled: bool = False) -> dict[str, float]:
        """The same without matching and loss: the gradients of all logits of a kind are one number."""

        def forward() -> Tensor:
            classes, masks = self._logits_of_all_layers(pixel_values, compiled)
            return torch.stack([logits.mean() for logits in (*classes, *masks)]).sum()

        return self._step(forward)

    def step_with_compiled_model(self, pixel_values: Tensor, **targets: Any) -> dict[str, float]:
        """A step of this package's model whose network is compiled, and whose loss is not."""

        def forward() -> Tensor:
            prepared = self.model.criterion.prepare(len(pixel_values), **targets, device=pixel_values.device)
            classes, masks = self._logits_of_all_layers(pixel_values, compiled=True)
            return torch.stack(list(self.model.criterion(classes, masks, prepared).values())).sum()

        return self._step(forward)

    @cached_property
    def compiled(self) -> nn.Module:
        """The model compiled, which it is when it first runs; what differs from step to step stays outside."""
        return torch.compile(self.model)

    def resident_bytes(self) -> int:
        """Bytes that weights and the optimizer's state take, whatever the step."""
        states = [value for state in self.optimizer.state.values() for value in state.values()]
        return sum(tensor.nbytes for tensor in (*self.model.parameters(), *self.model.buffers(), *states))

    def _logits_of_all_layers(self, pixel_values: Tensor, compiled: bool) -> tuple[list[Tensor], list[Tensor]]:
        network = self.compiled if compiled else self.model
        output = network(pixel_values, output_auxiliary_logits=True)
        layers = [*(output.auxiliary_logits or ()), output]
        return [layer["class_queries_logits"] for layer in layers], [layer["masks_queries_logits"] for layer in layers]

    def _step(self, forward: Callable[[], Tensor]) -> dict[str, float]:
        self.watch.parts = []
        self.optimizer.zero_grad()
        self.meter.synchronize()
        times = [self.meter.now()]
        with autocast(self.meter.device, self.precision):
            loss = forward()
        times.append(self.meter.now())
        self.scaler.scale(loss).backward()
        times.append(self.meter.now())
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.01)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        times.append(self.meter.now())
        self.meter.synchronize()
        matching, criterion = self.watch.seconds("matching"), self.watch.seconds("criterion")
        forward_and_loss, backward, optimizer = map(self.meter.seconds, times, times[1:])
        return {
            "forward": forward_and_loss - criterion,
            "matching": matching,
            "loss": criterion - matching,
            "backward": backward,
            "optimizer": optimizer,
        }


def build_ours(setting: Setting) -> Trainee:
    """This package's model; which mask loss it uses is set for each step."""
    torch.manual_seed(0)
    return Trainee(MaskFormerForInstanceSegmentation(setting.config()), setting)


def build_theirs(ours: Trainee, setting: Setting) -> Trainee:
    """Transformers' model with the weights of ours, and every decoder layer supervised."""
    with tempfile.TemporaryDirectory() as folder:
        ours.model.save_pretrained(folder)
        model = transformers.MaskFormerForInstanceSegmentation.from_pretrained(folder, use_auxiliary_loss=True)
    return Trainee(model, setting)


def program(name: str, trainee: Trainee, batch: Batch) -> Callable[[], dict[str, float]]:
    """A training step without arguments."""
    if name in (TRANSFORMERS, *RIVALS):
        inputs = {"mask_labels": batch.mask_labels(), "class_labels": batch.class_labels}
        if name == TRANSFORMERS:
            inputs["output_hidden_states"] = True  # without them its auxiliary loss fails
        return lambda: trainee.step(pixel_values=batch.pixel_values, **inputs)
    if name in (ALONE, COMPILED_ALONE):
        return lambda: trainee.step_without_loss(batch.pixel_values, compiled=name == COMPILED_ALONE)
    run_step = trainee.step_with_compiled_model if name == COMPILED_POINTS else trainee.step

    def step() -> dict[str, float]:
        trainee.criterion.mask_loss = DENSE if name == DENSE else POINTS
        targets = {"segment_ids": batch.segment_ids, "class_labels": batch.class_labels}
        return run_step(pixel_values=batch.pixel_values, **targets)

    return step


def prepare_alone(setting: Setting, name: str, num_segments: int, threads: int) -> Callable[[], None]:
    """Two steps of one program, for a process of its own whose memory is measured."""
    torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    trainee = build_ours(setting)
    if name == TRANSFORMERS:
        trainee = build_theirs(trainee, setting)
    step = program(name, trainee, make_batch(setting, num_segments))

    def run() -> None:
        for _ in range(2):  # from the second on, the optimizer has its state
            step()

    return run
