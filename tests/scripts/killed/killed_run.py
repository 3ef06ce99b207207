"""scripts/train.py that is killed (kill -9) at its n-th step of writing to disk while checkpoints are saved.

    python killed_run.py 7 --dataset ...

Steps are counted over all checkpoints: files of weights, optimizer and random state, half of which is there when the
process ends, the trainer's state, renaming and removing. 0 never kills.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import safetensors.torch
import torch
from transformers import TrainerState

from modeling_maskformer.training.saving.checkpointing import CheckpointingTrainer

die_at = 0
steps = 0
saving = False


def kill_in_the_middle(module, name, path_of):
    original = getattr(module, name)

    def counted(*args, **kwargs):
        global steps
        steps += saving
        if saving and steps == die_at:
            path = path_of(args, kwargs)
            if path is not None:
                original(*args, **kwargs)
                os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(module, name, counted)


kill_in_the_middle(torch, "save", lambda args, kwargs: args[1])
kill_in_the_middle(safetensors.torch, "save_file", lambda args, kwargs: args[1])
kill_in_the_middle(TrainerState, "save_to_json", lambda args, kwargs: args[1])
kill_in_the_middle(os, "rename", lambda args, kwargs: None)
kill_in_the_middle(shutil, "rmtree", lambda args, kwargs: None)

save_checkpoint = CheckpointingTrainer._save_checkpoint


def save(self, *args):
    global saving
    saving = True
    save_checkpoint(self, *args)
    saving = False


CheckpointingTrainer._save_checkpoint = save


def main(number, argv):
    global die_at
    from modeling_maskformer.commands import train

    die_at = number
    train.main(argv)
    print("steps", steps)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
