"""A model's outputs -> the results of a batch: the `post_process_*` methods of the image processor.

Names, arguments and results are those of transformers' MaskFormer. The inferences are in semantic.py, instance.py,
panoptic.py and per_pixel.py, for images of one size; here are only the batch and the forms of the results.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from numbers import Real
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers.image_processing_outputs import SemanticSegmentationPostProcessorOutput

from .instance import Instances, instance_segmentations
from .output_groups import groups_of, in_order, is_per_pixel
from .panoptic import panoptic_segmentations
from .per_pixel import per_pixel_score_strips, per_pixel_scores, per_pixel_segmentations
from .results import encode_boxed, encode_ids, encode_mask
from .semantic import semantic_score_strips, semantic_scores, semantic_segmentations
from .tiling.instance_tiles import TiledMasks


class SemanticPostProcessingMixin:
    """`post_process_semantic_segmentation`, for outputs of MaskFormer and of the per-pixel baselines."""

    def post_process_semantic_segmentation(
        self,
        outputs: Any,
        target_sizes: Sequence[tuple[int, int]] | Tensor | None = None,
        return_segmentation_scores: bool = False,
        mask_resize: Literal["logits", "scores"] = "logits",
    ) -> list[Tensor] | list[SemanticSegmentationPostProcessorOutput]:
        """One `(H, W)` int64 class map per image, or with `return_segmentation_scores` also the scores.

        Args:
            outputs: `class_queries_logits` (B, Q, K + 1), `masks_queries_logits` (B, Q, h, w) and, where the batch has
                padding, `image_sizes` (B, 2): the height and width of each image in input pixels. Of a per-pixel
                baseline, `logits` (B, K, h, w) instead of the first two; its scores are the resized logits.
            target_sizes: (height, width) of each result, B of them. None: the resolution of the mask logits.
            return_segmentation_scores: return objects with `segmentation` and `segmentation_scores` (K, H, W).
            mask_resize: "logits" (the paper) resizes mask logits before anything else; "scores" (transformers) resizes
                the class scores computed at stride 4.

        Raises:
            ValueError: the number of target sizes is not the number of images.
        """
        segment, score = semantic_segmentations, semantic_scores
        if is_per_pixel(outputs):
            segment, score = per_pixel_segmentations, per_pixel_scores
        groups = groups_of(outputs, target_sizes)
        if not return_segmentation_scores:
            return in_order((group, segment(*group.inputs, mask_resize=mask_resize)) for group in groups)

        def scored(*image: Any) -> SemanticSegmentationPostProcessorOutput:
            scores = score(*image, mask_resize=mask_resize)
            data = {"segmentation": scores.argmax(0), "segmentation_scores": scores}
            return SemanticSegmentationPostProcessorOutput(data=data)

        return in_order((group, [scored(*image) for image in group.images()]) for group in groups)

    def semantic_score_strips(
        self, outputs: Any, target_sizes: Sequence[tuple[int, int]] | Tensor | None = None
    ) -> Iterator[Iterator[tuple[slice, Tensor]]]:
        """For each image its semantic scores in strips of rows, from the top: the rows and their `(K, h, W)` float32.

        The strips together are the `segmentation_scores` of `post_process_semantic_segmentation`, whose arguments
        these are. An image's scores are computed when its strips are asked for.
        """
        strips = per_pixel_score_strips if is_per_pixel(outputs) else semantic_score_strips
        images: dict[int, tuple] = {}
        for group in groups_of(outputs, target_sizes):
            images.update(zip(group.members, group.images(), strict=True))
        for number in range(len(images)):
            yield strips(*images[number])


class PostProcessingMixin(SemanticPostProcessingMixin):
    """The three `post_process_*` methods, for a class with an attribute `label_ids_to_fuse`."""

    label_ids_to_fuse: list[int] | None

    def post_process_instance_segmentation(
        self,
        outputs: Any,
        threshold: float = 0.5,
        mask_threshold: float = 0.5,
        overlap_mask_area_threshold: float = 0.8,
        target_sizes: Sequence[tuple[int, int]] | Tensor | None = None,
        return_coco_annotation: bool = False,
        return_binary_maps: bool = False,
    ) -> list[dict]:
        """One {"segmentation", "segments_info"} per image, instances in descending order of their scores.

        `segments_info` lists {"id" (0, 1, ...), "label_id", "was_fused" (False), "score"}. `segmentation` is

        - by default an `(H, W)` int32 map of ids, -1 where there is no instance, the better one where two overlap:
          `segments_info` then lists those that have pixels in it;
        - with `return_binary_maps` an `(n, H, W)` bool tensor, one whole mask per instance;
        - with `return_coco_annotation` a list of n COCO RLEs, {"size": [H, W], "counts": str}, which pycocotools
          decodes to these masks and JSON can hold. (transformers returns lists of numbers for the values of the id
          map, its background included.)

        Args:
            outputs, target_sizes: as for `post_process_semantic_segmentation`.
            threshold: the least score: class probability times mean probability inside the mask.
            mask_threshold: pixels of a mask have a probability above this.
            overlap_mask_area_threshold: not used, since instances may overlap; transformers' signature has it.
        """
        _check_forms(return_coco_annotation, return_binary_maps)
        _check_queries(outputs)
        options = {"threshold": threshold, "mask_threshold": mask_threshold}
        _check_thresholds(**options)
        groups = groups_of(outputs, target_sizes)
        found = in_order((group, instance_segmentations(*group.inputs, **options)) for group in groups)
        if return_binary_maps:
            return [{"segmentation": image.masks(), "segments_info": image.segments_info} for image in found]
        if return_coco_annotation:
            return [{"segmentation": _encoded(image), "segments_info": image.segments_info} for image in found]
        maps = [image.id_map() for image in found]
        visible = _ids_in(maps, [len(image) for image in found])
        return [
            {"segmentation": ids, "segments_info": [info for info in image.segments_info if info["id"] in seen]}
            for ids, image, seen in zip(maps, found, visible, strict=True)
        ]

    def post_process_panoptic_segmentation(
        self,
        outputs: Any,
        threshold: float = 0.5,
        mask_threshold: float = 0.5,
        overlap_mask_area_threshold: float = 0.8,
        label_ids_to_fuse: Collection[int] | None = None,
        target_sizes: Sequence[tuple[int, int]] | Tensor | None = None,
        return_coco_annotation: bool = False,
        return_binary_maps: bool = False,
    ) -> list[dict]:
        """One {"segmentation", "segments_info"} per image, segments in the order of their queries.

        `segments_info` lists {"id" (1, 2, ...), "label_id", "was_fused", "score"}, each id once. `segmentation` is

        - by default an `(H, W)` int32 map of ids, 0 where there is no segment, in an image without segments too
          (where transformers fills -1);
        - with `return_binary_maps` an `(n, H, W)` bool tensor, one mask per segment;
        - with `return_coco_annotation` a list of n COCO RLEs, {"size": [H, W], "counts": str}.

        Args:
            outputs, target_sizes: as for `post_process_semantic_segmentation`.
            threshold: a query takes part if its top class is an object of probability above this. (The paper: 0.8.)
            mask_threshold: pixels of a query's own mask have a probability of at least this.
            overlap_mask_area_threshold: a segment needs this share of the query's own mask.
            label_ids_to_fuse: classes of stuff, each one segment at most. None: the processor's `label_ids_to_fuse`.
        """
        _check_forms(return_coco_annotation, return_binary_maps)
        _check_queries(outputs)
        _check_thresholds(
            threshold=threshold,
            mask_threshold=mask_threshold,
            overlap_mask_area_threshold=overlap_mask_area_threshold,
        )
        if label_ids_to_fuse is None:
            label_ids_to_fuse = self.label_ids_to_fuse or ()
        label_ids_to_fuse = _as_labels(label_ids_to_fuse)
        groups = groups_of(outputs, target_sizes)
        options = {
            "threshold": threshold,
            "mask_threshold": mask_threshold,
            "overlap_mask_area_threshold": overlap_mask_area_threshold,
            "label_ids_to_fuse": label_ids_to_fuse,
        }
        results = []
        for ids, info in in_order((group, panoptic_segmentations(*group.inputs, **options)) for group in groups):
            segmentation = ids
            if return_binary_maps:  # the ids are 1, 2, ...
                segmentation = ids == torch.arange(1, len(info) + 1, dtype=ids.dtype, device=ids.device)[:, None, None]
            elif return_coco_annotation:
                segmentation = encode_ids(ids, [segment["id"] for segment in info])
            results.append({"segmentation": segmentation, "segments_info": info})
        return results


def _check_forms(return_coco_annotation: bool, return_binary_maps: bool) -> None:
    if return_coco_annotation and return_binary_maps:
        raise ValueError("`return_coco_annotation` and `return_binary_maps` exclude each other: set one of them.")


def _check_queries(outputs: Any) -> None:
    if is_per_pixel(outputs):
        raise ValueError(
            "These outputs have `logits` for each pixel and no queries, so no object can be told from another: "
            "use post_process_semantic_segmentation (in a pipeline, subtask='semantic')."
        )


def _check_thresholds(**thresholds: float) -> None:
    for name, value in thresholds.items():
        if not isinstance(value, (Real, Tensor)) or not 0 <= value <= 1:  # nor NaN
            raise ValueError(f"`{name}` must lie in [0, 1], got {value}.")


def _as_labels(label_ids: Collection[int]) -> set[int]:
    labels = list(label_ids) if isinstance(label_ids, Iterable) else [label_ids]
    labels = [label.item() if isinstance(label, (Tensor, np.generic)) else label for label in labels]
    if not isinstance(label_ids, Iterable) or not all(isinstance(label, int) for label in labels):
        raise ValueError(f"`label_ids_to_fuse` must be ids of classes, got {label_ids!r}.")
    return set(labels)


def _encoded(instances: Instances) -> list[dict]:
    """One RLE per instance; from a device all masks come at once, in tiles none is ever drawn as a whole."""
    if isinstance(instances.all_masks, TiledMasks):
        return [encode_boxed(instances.all_masks.boxed(number)) for number in instances.mask_of.tolist()]
    return [encode_mask(mask) for mask in instances.masks().cpu()]


def _ids_in(maps: Sequence[Tensor], counts: Sequence[int]) -> list[set[int]]:
    """Which of the ids 0, 1, ... of each image have a pixel in its map; -1 is none. One copy to the host."""
    if not maps:
        return []
    present = []
    for ids, count in zip(maps, counts, strict=True):
        found = torch.zeros(count + 1, dtype=torch.int32, device=ids.device)
        present.append(found.index_fill_(0, ids.flatten().long() + 1, 1)[1:])
    flags = iter(torch.cat(present).tolist())
    return [{number for number in range(count) if next(flags)} for count in counts]
