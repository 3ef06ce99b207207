"""Two steps of a tiny Swin MaskFormer in plain DistributedDataParallel or FSDP2; writes its weights.

Run by test_two_processes.py, as two processes, each with its image of every batch.
"""

import sys
from pathlib import Path

import torch
import torch.distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

sys.path.append(str(Path(__file__).resolve().parents[2]))

from models import batch_of, tiny


def train(model, images):
    """Two steps of gradient descent on some images of the batch; the weights afterwards."""
    batch = {name: value[images] for name, value in batch_of((32, 64)).items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()


def run(folder, kind):
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    model = tiny("maskformer", "swin")
    if kind == "ddp":
        train(DistributedDataParallel(model), slice(rank, rank + 1))
    else:
        mesh = init_device_mesh("cpu", (2,))
        for layer in model.model.transformer_module.decoder.layers:
            fully_shard(layer, mesh=mesh)
        train(fully_shard(model, mesh=mesh), slice(rank, rank + 1))
    weights = {
        name: value.full_tensor() if isinstance(value, DTensor) else value
        for name, value in model.state_dict().items()
    }
    torch.save(weights, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    run(*sys.argv[1:])
