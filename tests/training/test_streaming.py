"""The trainer on a stream: where a resumed run goes on reading."""

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image
from png_files import png
from stub_trainer import make_trainer

from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.views.collate import SegmentationDataset


def square(value):
    return png(np.full((4, 4), value, np.uint8))


@pytest.fixture
def pictures():
    """32 pictures whose pixels are their number, streamed."""
    features = Features({"image": Image(), "annotation": Image()})
    rows = {
        "image": [square(number) for number in range(32)],
        "annotation": [square(number % 2) for number in range(32)],
    }
    stream = Dataset.from_dict(rows, features=features).to_iterable_dataset()
    data = open_dataset({"train": stream}, "semantic", streaming=True, id2label=["dark", "bright"])
    return SegmentationDataset(data.splits["train"])


def pictures_trained_on(pictures, folder, resume=None, **arguments):
    """The numbers of the pictures in the order of the run, and its trainer."""
    trainer = make_trainer(
        folder, per_device_train_batch_size=1, train_sampling_strategy="sequential", save_strategy="steps", **arguments
    )
    seen = []

    def collate(rows):
        images, segments = [row["image"][:1].float() for row in rows], [row["segments"] for row in rows]
        return {
            "pixel_values": torch.stack(images),
            "segment_ids": torch.stack([one.ids for one in segments]),
            "class_labels": [one.class_ids for one in segments],
        }

    class Watched(type(trainer)):
        def training_step(self, model, inputs, *args):
            seen.append(int(inputs["pixel_values"][0, 0, 0, 0]))
            return super().training_step(model, inputs, *args)

    trainer.__class__ = Watched
    trainer.train_dataset, trainer.data_collator = pictures, collate
    trainer.train(resume)
    return seen


@pytest.mark.parametrize("accumulation", [1, 2, 4])
@pytest.mark.parametrize("ignore_data_skip", [False, True])
def test_a_resumed_run_reads_on_whatever_a_step_takes(pictures, tmp_path, accumulation, ignore_data_skip):
    seen = pictures_trained_on(pictures, tmp_path, max_steps=4, save_steps=4, gradient_accumulation_steps=2)
    assert seen == list(range(8))
    settings = {"gradient_accumulation_steps": accumulation, "ignore_data_skip": ignore_data_skip, "save_steps": 1}
    seen = pictures_trained_on(pictures, tmp_path, str(tmp_path / "checkpoint-4"), max_steps=6, **settings)
    assert seen == list(range(8, 8 + 2 * accumulation))
    seen = pictures_trained_on(pictures, tmp_path, str(tmp_path / "checkpoint-6"), max_steps=8, save_steps=8)
    assert seen == list(range(8 + 2 * accumulation, 10 + 2 * accumulation))


def test_a_batch_that_is_found_too_large_for_memory_becomes_smaller_on_a_stream_too(pictures, tmp_path):
    sizes = []

    class Small(type(make_trainer(tmp_path))):
        def training_step(self, model, inputs, *args):
            sizes.append(len(inputs["pixel_values"]))
            if sizes[-1] > 1:
                raise RuntimeError("CUDA out of memory.")
            return super().training_step(model, inputs, *args)

    trainer = make_trainer(tmp_path, max_steps=2, per_device_train_batch_size=2, auto_find_batch_size=True)
    trainer.__class__ = Small
    trainer.train_dataset = pictures
    trainer.data_collator = lambda rows: {
        "pixel_values": torch.stack([row["image"][:1].float() for row in rows]),
        "segment_ids": torch.stack([row["segments"].ids for row in rows]),
        "class_labels": [row["segments"].class_ids for row in rows],
    }
    trainer.train()
    assert sizes == [2, 1, 1]
