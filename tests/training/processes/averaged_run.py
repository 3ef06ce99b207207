"""Trains the stub of stub_trainer.py with averaged weights; run by test_two_processes.py, twice at once and alone."""

import sys
from pathlib import Path

import torch
from torch import nn

from modeling_maskformer.training.saving.weight_average import WeightAverage

sys.path.append(str(Path(__file__).resolve().parents[1]))

from stub_trainer import make_trainer


def train(folder, batch_size):
    """The final model's weights, averaged over four steps."""
    trainer = make_trainer(
        folder,
        max_steps=4,
        ema_decay=0.9,
        per_device_train_batch_size=batch_size,
        train_sampling_strategy="sequential",
    )
    trainer.train()
    return trainer.model.state_dict()


def averaged_statistics(rank):
    """The averaged running mean where each process has found its rank plus one, after one step: a quarter of that."""
    norm = nn.BatchNorm1d(2)
    average = WeightAverage(norm, 0.75)
    norm.running_mean.fill_(rank + 1)
    average.update(step=1000)
    with average.in_the_model():
        return norm.running_mean.clone()


if __name__ == "__main__":
    weights = train(Path(sys.argv[1]) / "two", batch_size=2)
    own_rank = torch.distributed.get_rank()
    found = {"model": weights, "statistics": averaged_statistics(own_rank)}
    torch.save(found, Path(sys.argv[1]) / f"{own_rank}.pt")
