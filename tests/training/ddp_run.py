"""Two steps of a tiny Swin MaskFormer in plain DistributedDataParallel; writes its last loss and weights.

Run by test_two_processes.py, as two processes, each with its image of every batch.
"""

import sys
from pathlib import Path

import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

sys.path.append(str(Path(__file__).resolve().parents[1]))

from models import batch_of, tiny


def train(model, images):
    """Two steps of gradient descent on some images of the batch; the weights afterwards."""
    batch = {name: value[images] for name, value in batch_of((32, 64)).items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()


def run(folder):
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    model = tiny("maskformer", "swin")
    train(DistributedDataParallel(model), slice(rank, rank + 1))
    torch.save(model.state_dict(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    run(sys.argv[1])
