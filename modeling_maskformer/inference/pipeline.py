"""transformers' image-segmentation pipeline, with batches of any shapes and with results made on the device."""

from __future__ import annotations

import collections.abc
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import DataLoader
from transformers.pipelines.image_segmentation import ImageSegmentationPipeline
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator
from transformers.utils import ModelOutput

from image_processing import SegmentationImageProcessor

from .loading import task_of

READ_BY_POST_PROCESSING = ("class_queries_logits", "masks_queries_logits", "logits", "image_sizes")


class MaskFormerPipeline(ImageSegmentationPipeline):
    """What `pipeline("image-segmentation")` gives once this package is imported.

    Calls, arguments and results are those of transformers' pipeline, which it is for any other model. Three things
    differ where the image processor is this package's: images of different shape may share a batch (`batch_size`);
    without `subtask` a model that was trained for semantic segmentation, as its config says, gives its semantic
    result; and results are made where the logits are, so that only these results leave a GPU.
    """

    @property
    def is_ours(self) -> bool:
        return isinstance(self.image_processor, SegmentationImageProcessor)

    def get_iterator(
        self, inputs, num_workers: int, batch_size: int, preprocess_params, forward_params, postprocess_params
    ):
        if not self.is_ours or batch_size == 1:
            return super().get_iterator(
                inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params
            )
        sized = isinstance(inputs, collections.abc.Sized)
        dataset = (PipelineDataset if sized else PipelineIterator)(inputs, self.preprocess, preprocess_params)
        workers = num_workers if sized else min(num_workers, 1)  # each would read the whole of a stream
        loader = DataLoader(dataset, num_workers=workers, batch_size=batch_size, collate_fn=join)
        outputs = PipelineIterator(loader, self.forward, forward_params, loader_batch_size=batch_size)
        return PipelineIterator(outputs, self.postprocess, postprocess_params)

    def forward(self, model_inputs, **forward_params):
        if not self.is_ours:
            return super().forward(model_inputs, **forward_params)
        with self.device_placement(), self.get_inference_context()():
            return self._forward(self._ensure_tensor_on_device(model_inputs, self.device), **forward_params)

    def _forward(self, model_inputs):
        outputs = super()._forward(model_inputs)
        if not self.is_ours:
            return outputs
        kept = (*READ_BY_POST_PROCESSING, "target_size")
        return ModelOutput({name: outputs[name] for name in kept if name in outputs})

    def postprocess(
        self, model_outputs, subtask=None, threshold=0.9, mask_threshold=0.5, overlap_mask_area_threshold=0.5
    ):
        if not self.is_ours:
            return super().postprocess(model_outputs, subtask, threshold, mask_threshold, overlap_mask_area_threshold)
        if subtask is None:
            subtask = self.default_subtask()
        post_process = getattr(self.image_processor, f"post_process_{subtask}_segmentation", None)
        if post_process is None:
            raise ValueError(f"Subtask {subtask} is not supported for model {type(self.model)}.")
        target_sizes = model_outputs["target_size"]
        if subtask == "semantic":
            classes = post_process(model_outputs, target_sizes=target_sizes)[0].cpu()
            found = [{"id": label, "label_id": label, "score": None} for label in classes.unique().tolist()]
            return self.annotations(classes, found)
        result = post_process(
            model_outputs,
            threshold=threshold,
            mask_threshold=mask_threshold,
            overlap_mask_area_threshold=overlap_mask_area_threshold,
            target_sizes=target_sizes,
        )[0]
        return self.annotations(result["segmentation"].cpu(), result["segments_info"])

    def default_subtask(self) -> str:
        """Panoptic where there are queries, as in transformers' pipeline, but for a model of semantic segmentation."""
        has_queries = hasattr(self.image_processor, "post_process_panoptic_segmentation")
        return "panoptic" if has_queries and task_of(self.model.config) != "semantic" else "semantic"

    def annotations(self, ids: Tensor, segments_info: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """For each segment of an id map `(H, W)` its score, label and mask, a picture of 0 and 255."""
        names = {int(label): name for label, name in self.model.config.id2label.items()}  # in JSON they are strings
        ids = ids.numpy()
        return [
            {
                "score": segment["score"],
                "label": names[segment["label_id"]],
                "mask": Image.fromarray((ids == segment["id"]).view("uint8") * 255),
            }
            for segment in segments_info
        ]


def join(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One batch of prepared images `(1, ..., H, W)`, padded with zeros below and right to the largest."""
    joined = {}
    for name, first in items[0].items():
        values = [item[name] for item in items]
        if isinstance(first, Tensor):
            height, width = (max(value.shape[axis] for value in values) for axis in (-2, -1))
            values = torch.cat(
                [pad(value, (0, width - value.shape[-1], 0, height - value.shape[-2])) for value in values]
            )
        joined[name] = values
    return joined
