"""StreamingTrainer: transformers' Trainer for datasets that are read as they come, shared out over processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import TrainOutput

from ..data.streams import StreamSamples, stream_of
from ..data.views.collate import SegmentationDataset
from ..data.views.stream_batches import StreamBatches, StreamPosition
from .saving.averaging import AveragingTrainer
from .saving.checkpoint_folders import last_checkpoint


class StreamingTrainer(AveragingTrainer):
    """Reads a `SegmentationDataset` of a stream; every other dataset as `transformers.Trainer` does.

    Attributes:
        eval_data_collator: list of rows -> evaluation batch.
        shuffle_buffer: rows of a training stream among which the next is drawn.
    """

    eval_data_collator: Callable[[list[Any]], dict[str, Any]] | None = None
    shuffle_buffer: int = 1000
    _stream: StreamBatches | None = None  # what a training stream gives

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """As in `transformers.Trainer`; a stream is read on from where the checkpoint's run was."""
        if _stream_in(self.train_dataset) is not None:
            where = (self.args.process_index, self.args.world_size)
            self._stream_position = StreamPosition(process=where[0], num_processes=where[1])
            if resume_from_checkpoint:
                if resume_from_checkpoint is True:
                    resume_from_checkpoint = str(last_checkpoint(Path(self.args.output_dir)))
                self._stream_position = self._position_at(Path(resume_from_checkpoint), *where)
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _position_at(self, checkpoint: Path, process: int, num_processes: int) -> StreamPosition:
        """Where the checkpoint's run was, after as many batches as transformers will skip: those of steps as now."""
        position = StreamPosition.load(checkpoint, process, num_processes)
        steps = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME)).global_step
        skipped = 0 if self.args.ignore_data_skip else steps * self.args.gradient_accumulation_steps
        return replace(position, batches=skipped)

    def get_train_dataloader(self) -> DataLoader:
        """Batches of the training set; of a stream those of this process, from where the run is."""
        samples = _stream_in(self.train_dataset)
        if samples is None:
            return super().get_train_dataloader()
        args = self.args
        seed = args.seed if args.data_seed is None else args.data_seed
        self._stream = StreamBatches(
            samples,
            self._train_batch_size,  # less than was asked for where auto_find_batch_size has found it too much
            self._stream_position,
            seed,
            shuffle=args.train_sampling_strategy == "random",
            buffer_size=self.shuffle_buffer,
        )
        return self._stream_dataloader(self.train_dataset, self._stream, self.data_collator)

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], Tensor | int | None]:
        """As in `transformers.Trainer`; what a step takes of a stream moves its position."""
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self._stream is not None:
            self._stream.trained(len(batches))
        return batches, count

    def get_eval_dataloader(self, eval_dataset: str | Dataset | None = None) -> DataLoader:
        """Batches of the evaluation set; of a stream those of this process, from its start."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if _stream_in(dataset) is None:
            return super().get_eval_dataloader(eval_dataset)
        return self._whole_stream(dataset)

    def get_test_dataloader(self, test_dataset: Dataset) -> DataLoader:
        """Batches of a set that `predict` measures; of a stream those of this process, from its start."""
        if _stream_in(test_dataset) is None:
            return super().get_test_dataloader(test_dataset)
        return self._whole_stream(test_dataset)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        if self._stream is not None:
            self._stream.position.save(Path(output_dir))

    def _whole_stream(self, dataset: Dataset) -> DataLoader:
        position = StreamPosition(process=self.args.process_index, num_processes=self.args.world_size)
        batches = StreamBatches(_stream_in(dataset), self.args.eval_batch_size, position)
        return self._stream_dataloader(dataset, batches, self.eval_data_collator)

    def _stream_dataloader(self, dataset: Dataset, batches: StreamBatches, collator: Callable) -> DataLoader:
        """Not one of Accelerate's, which would share the batches out once more."""
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
            prefetch_factor=self.args.dataloader_prefetch_factor,
        )


def _stream_in(dataset: Dataset | None) -> StreamSamples | None:
    return stream_of(dataset.samples) if isinstance(dataset, SegmentationDataset) else None
