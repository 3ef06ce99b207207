"""WeightAverage: the exponential moving average of a model's weights over the steps of its training (EMA)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from ..first_process import take_from_first_process

IN_TRAINING_NAME = "weights_in_training.safetensors"  # beside a checkpoint's model, which is the average


class WeightAverage:
    """average = d * average + (1 - d) * weights after each step, with d = min(decay, (1 + step) / (10 + step)).

    So the average follows the weights closely at first and forgets what they started from, in short runs too. Averaged
    are the weights that are trained and, as they belong to these, the floating-point buffers of a model, such as the
    running statistics of BatchNorm; other buffers, as counters, are always the model's own.

    The average is kept on the weights' device, in float32 where they have 16 bits.

    Args:
        model: whose weights are the average at first.
        decay: in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        saved = model.state_dict().keys()
        self._places: dict[str, tuple[nn.Module, str]] = {}  # name -> module, and its name there
        self._buffers: set[str] = set()
        for owner, module in model.named_modules():
            prefix = f"{owner}." if owner else ""
            for name, weight in module.named_parameters(recurse=False):
                if weight.requires_grad:
                    self._places[prefix + name] = (module, name)
            for name, buffer in module.named_buffers(recurse=False):
                if buffer.is_floating_point() and prefix + name in saved:
                    self._places[prefix + name] = (module, name)
                    self._buffers.add(prefix + name)
        self._averages = [_at_least_float32(weight).clone() for weight in self._weights()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the model's weights after step 1, 2, ..."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, [_at_least_float32(weight) for weight in self._weights()], share)

    @contextmanager
    def in_the_model(self) -> Iterator[dict[str, Tensor]]:
        """The model has the averaged weights inside; given are its own by name, which it has again afterwards."""
        named = zip(self._places, self._averages, strict=True)
        take_from_first_process(average for name, average in named if name in self._buffers)
        kept = [weight.clone() for weight in self._weights()]
        self.copy_to_the_model()
        try:
            yield dict(zip(self._places, kept, strict=True))
        finally:
            torch._foreach_copy_(self._weights(), kept)

    def copy_to_the_model(self) -> None:
        """Makes the averaged weights the model's own."""
        torch._foreach_copy_(self._weights(), self._averages)

    def go_on_from(self, checkpoint: Path) -> None:
        """Gives a model, whose weights are the average that a checkpoint has, its own as they were then.

        Raises:
            ValueError: the checkpoint is of another model.
        """
        file = checkpoint / IN_TRAINING_NAME
        kept = safetensors.torch.load_file(file)
        if kept.keys() != self._places.keys():
            name = min(kept.keys() ^ self._places.keys())
            raise ValueError(f"{file} is of another model: {name} is in one of the two only.")
        torch._foreach_copy_(self._weights(), [kept[name] for name in self._places])

    def _weights(self) -> list[Tensor]:
        """The model's own, wherever they are now; the averages follow them there."""
        weights = [getattr(module, name).detach() for module, name in self._places.values()]
        averages = getattr(self, "_averages", ())
        if averages and averages[0].device != weights[0].device:
            self._averages = [average.to(weights[0].device) for average in averages]
        return weights


def save_weights_in_training(weights: dict[str, Tensor], folder: Path) -> None:
    """Writes the weights that the training goes on from beside a checkpoint's model."""
    tensors = {name: weight.cpu().contiguous() for name, weight in weights.items()}
    safetensors.torch.save_file(tensors, folder / IN_TRAINING_NAME, metadata={"format": "pt"})


def check_average_in(checkpoint: Path, decay: float | None) -> None:
    """Refuses to go on from a checkpoint that has an average where none is wanted, or the other way round.

    Raises:
        ValueError: a sentence.
    """
    has_average = (checkpoint / IN_TRAINING_NAME).is_file()
    if decay is not None and not has_average:
        raise ValueError(
            f"{checkpoint} was written without ema_decay: there is no average to go on with. Leave it out."
        )
    if decay is None and has_average:
        raise ValueError(f"{checkpoint} was written with ema_decay: pass it again to go on with that run.")


def _at_least_float32(weight: Tensor) -> Tensor:
    return weight.float() if weight.dtype in (torch.float16, torch.bfloat16) else weight
