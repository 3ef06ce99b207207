"""EvaluatingTrainer: transformers' Trainer with metrics that need no predictions kept, in one process or several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DynamoBackend
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers.trainer_utils import EvalLoopOutput

from ..data.views.stream_batches import StreamBatches
from ..evaluation.evaluator import Evaluator
from ..evaluation.in_turn import InTurn
from ..losses.totals import as_bits
from .batches import INPUTS, NUM_IMAGES, TARGETS, cut, out_of_graph, targets_of
from .first_process import take_from_first_process
from .streaming import StreamingTrainer


class EvaluatingTrainer(StreamingTrainer):
    """Evaluates batch by batch; what a batch holds, `MaskFormerTrainer` says.

    Attributes:
        evaluator: turns outputs into predictions and measures them. Needed only to evaluate.
        make_predictor: model -> callable from a batch's `images` to their predictions; None: one forward pass is one.
    """

    evaluator: Evaluator | None = None
    make_predictor: Callable[[nn.Module], Callable[[list[Any]], list[Any]]] | None = None

    def get_eval_dataloader(self, eval_dataset: str | Dataset | None = None) -> DataLoader:
        """Batches of the whole evaluation set, made by `eval_data_collator`; none is dropped for being small."""
        with self._evaluation_batches():
            return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: Dataset) -> DataLoader:
        """Batches of a set that `predict` measures, as those of an evaluation."""
        with self._evaluation_batches():
            return super().get_test_dataloader(test_dataset)

    @contextmanager
    def _evaluation_batches(self) -> Iterator[None]:
        kept = self.data_collator, self.args.dataloader_drop_last
        self.data_collator, self.args.dataloader_drop_last = self.eval_data_collator, False
        try:
            yield
        finally:
            self.data_collator, self.args.dataloader_drop_last = kept

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Metrics of the whole dataset, in memory that does not grow with it.

        Each batch is predicted, measured against its references and dropped. At the end the metrics' states, not the
        predictions, are gathered over processes. With `args.eval_loss` the mean loss is among the metrics.
        """
        if self.evaluator is None:
            raise ValueError("The trainer needs an `evaluator` to evaluate.")
        model = self._model_for_evaluation()
        self.callback_handler.eval_dataloader = dataloader
        self.evaluator.reset()
        predictor = None if self.make_predictor is None else self.make_predictor(model)
        losses = torch.zeros(2)  # sum over images, number of images
        in_background = _computes_beside_the_host(self.args.device) and not _captures_graphs(self.accelerator)
        with InTurn(in_background) as measuring:
            for batch in self._in_step(dataloader):
                references, count = batch["references"], batch[NUM_IMAGES]
                measured = [references, count]
                if self.evaluator.analysis is not None:
                    measured.append(batch["indices"])
                with torch.no_grad(), self.compute_loss_context_manager():
                    if predictor is None:
                        outputs = model(**self._evaluation_inputs(batch))
                        measuring.do(self.evaluator.update, outputs, *measured)
                    else:
                        measuring.do(self.evaluator.measure, predictor(batch["images"]), *measured)
                if self.args.eval_loss:
                    losses += torch.tensor([outputs["loss"].mean().item() * count, count])
                self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        self.evaluator.gather(self.accelerator)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self.evaluator.compute().items()}
        if self.args.eval_loss:
            losses = self.accelerator.reduce(losses.to(self.args.device), reduction="sum")
            metrics[f"{metric_key_prefix}_loss"] = (losses[0] / losses[1]).item()
        return EvalLoopOutput(None, None, metrics, num_samples=self.evaluator.num_images)

    def _in_step(self, dataloader: DataLoader) -> Iterator[dict[str, Any]]:
        """The batches of an evaluation, as many in each process, since a model that is spread over them needs all."""
        if not isinstance(getattr(dataloader, "batch_sampler", None), StreamBatches):
            for batch in dataloader:
                size = len(batch["references"])
                yield cut(batch, size, self._num_unseen(size))
            return
        batches, last = iter(dataloader), None
        while True:
            batch = next(batches, None)
            if batch is not None:
                last = {**batch, NUM_IMAGES: len(batch["references"])}
            elif last is not None:
                last = {**last, NUM_IMAGES: 0}
            there = torch.tensor(float(batch is not None), device=self.args.device)
            if self.accelerator.reduce(there, reduction="sum") == 0:
                return
            if last is not None:
                yield last

    def _evaluation_inputs(self, batch: dict[str, Any]) -> dict[str, Any]:
        names = (*INPUTS, *TARGETS) if self.args.eval_loss else INPUTS
        inputs = self._prepare_inputs({name: batch[name] for name in names if name in batch})
        if self.args.eval_loss and hasattr(self.model, "loss_normalizers"):  # the mean of this process's batch
            inputs["loss_normalizers"] = as_bits(self.model.loss_normalizers(**targets_of(inputs)))
        return out_of_graph(inputs) if self.args.torch_compile else inputs

    def _model_for_evaluation(self) -> nn.Module:
        """The model in eval mode, on its device and in its precision also where no training has prepared it.

        Every process measures the first one's, which is saved: BatchNorm has other statistics in each while it is
        trained. With `bf16_full_eval` or `fp16_full_eval` its weights are cast, and stay so, unless it is being
        trained.
        """
        model = self._wrap_model(self.model, training=False)
        if not self.accelerator._models and model is self.model:
            model = self.accelerator.prepare_model(model, evaluation_mode=True)
        take_from_first_process(buffer for buffer in model.buffers() if buffer.device.type == self.args.device.type)
        if not self.is_in_train and (self.args.bf16_full_eval or self.args.fp16_full_eval):
            model.to(torch.bfloat16 if self.args.bf16_full_eval else torch.float16)
        return model.eval()

    def _num_unseen(self, batch_size: int) -> int:
        """How many images of this process's batch were not yet seen by any.

        With several processes Accelerate fills the last round of batches up with images from the start, so that all
        processes take the same number of steps. These must not count twice.
        """
        state = self.accelerator.gradient_state
        if not state.end_of_dataloader or state.remainder <= 0:
            return batch_size
        return min(max(state.remainder - self.accelerator.process_index * batch_size, 0), batch_size)


def _computes_beside_the_host(device: torch.device) -> bool:
    """Whether a batch can be measured while the device computes the next one."""
    return device.type != "cpu"


def _captures_graphs(accelerator: Accelerator) -> bool:
    """Whether models are compiled into CUDA graphs, whose outputs the next forward pass writes over."""
    plugin = accelerator.state.dynamo_plugin
    return plugin.backend == DynamoBackend.CUDAGRAPHS or plugin.mode in ("reduce-overhead", "max-autotune")
