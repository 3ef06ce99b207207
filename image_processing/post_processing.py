"""A model's outputs -> the results of a batch: the `post_process_*` methods of the image processor.

Names, arguments and results are those of transformers' MaskFormer. The inferences are in semantic.py, instance.py,
panoptic.py and per_pixel.py, one image each; here are only the batch and the forms of the results.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from transformers.image_processing_outputs import SemanticSegmentationPostProcessorOutput

from .instance import instance_segmentation
from .panoptic import panoptic_segmentation
from .per_pixel import per_pixel_score_strips, per_pixel_scores, per_pixel_segmentation
from .results import encode_ids, encode_mask
from .semantic import semantic_score_strips, semantic_scores, semantic_segmentation


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
        segment, score = semantic_segmentation, semantic_scores
        if _is_per_pixel(outputs):
            segment, score = per_pixel_segmentation, per_pixel_scores
        results = []
        for image in _images_of(outputs, target_sizes):
            if not return_segmentation_scores:
                results.append(segment(*image, mask_resize=mask_resize))
                continue
            scores = score(*image, mask_resize=mask_resize)
            data = {"segmentation": scores.argmax(0), "segmentation_scores": scores}
            results.append(SemanticSegmentationPostProcessorOutput(data=data))
        return results

    def semantic_score_strips(
        self, outputs: Any, target_sizes: Sequence[tuple[int, int]] | Tensor | None = None
    ) -> Iterator[Iterator[tuple[slice, Tensor]]]:
        """For each image its semantic scores in strips of rows, from the top: the rows and their `(K, h, W)` float32.

        The strips together are the `segmentation_scores` of `post_process_semantic_segmentation`, whose arguments
        these are. An image's scores are computed when its strips are asked for.
        """
        strips = per_pixel_score_strips if _is_per_pixel(outputs) else semantic_score_strips
        for image in _images_of(outputs, target_sizes):
            yield strips(*image)


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

        - by default an `(H, W)` int32 map of ids, -1 where there is no instance, the better one where two overlap;
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
        results = []
        for image in _images_of(outputs, target_sizes):
            found = instance_segmentation(*image, threshold=threshold, mask_threshold=mask_threshold)
            if return_binary_maps:
                segmentation = found.masks()
            elif return_coco_annotation:
                segmentation = [encode_mask(found.mask(number)) for number in range(len(found))]
            else:
                segmentation = found.id_map()
            results.append({"segmentation": segmentation, "segments_info": found.segments_info})
        return results

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
        if label_ids_to_fuse is None:
            label_ids_to_fuse = self.label_ids_to_fuse or ()
        results = []
        for image in _images_of(outputs, target_sizes):
            segmentation, segments_info = panoptic_segmentation(
                *image,
                threshold=threshold,
                mask_threshold=mask_threshold,
                overlap_mask_area_threshold=overlap_mask_area_threshold,
                label_ids_to_fuse=set(label_ids_to_fuse),
            )
            ids = [segment["id"] for segment in segments_info]
            if return_binary_maps:
                numbers = torch.tensor(ids, dtype=torch.int32, device=segmentation.device)
                segmentation = segmentation[None] == numbers[:, None, None]
            elif return_coco_annotation:
                segmentation = encode_ids(segmentation, ids)
            results.append({"segmentation": segmentation, "segments_info": segments_info})
        return results


def _check_forms(return_coco_annotation: bool, return_binary_maps: bool) -> None:
    if return_coco_annotation and return_binary_maps:
        raise ValueError("`return_coco_annotation` and `return_binary_maps` exclude each other: set one of them.")


def _is_per_pixel(outputs: Any) -> bool:
    """Whether there are class logits of each pixel, as of the per-pixel baselines, and no queries."""
    return getattr(outputs, "logits", None) is not None


def _check_queries(outputs: Any) -> None:
    if _is_per_pixel(outputs):
        raise ValueError(
            "These outputs have `logits` for each pixel and no queries, so no object can be told from another: "
            "use post_process_semantic_segmentation (in a pipeline, subtask='semantic')."
        )


def _images_of(outputs: Any, target_sizes: Sequence[tuple[int, int]] | Tensor | None) -> list[tuple]:
    """Per image: class logits (Q, K + 1) and mask logits (Q, h, w), or logits (K, h, w); image size, target size."""
    if _is_per_pixel(outputs):
        logits = (outputs.logits,)
    else:
        logits = (outputs.class_queries_logits, outputs.masks_queries_logits)
    image_sizes = getattr(outputs, "image_sizes", None)
    images = len(logits[0])
    for name, sizes in (("target_sizes", target_sizes), ("outputs.image_sizes", image_sizes)):
        if sizes is not None and len(sizes) != images:
            place = f"image {len(sizes)} has none" if len(sizes) < images else f"there is no image {images}"
            raise ValueError(f"`{name}` has {len(sizes)} entries for {images} images: {place} (counting from 0).")
    return [
        (
            *(maps[index] for maps in logits),
            None if image_sizes is None else _as_size(image_sizes[index], f"outputs.image_sizes[{index}]"),
            None if target_sizes is None else _as_size(target_sizes[index], f"target_sizes[{index}]"),
        )
        for index in range(images)
    ]


def _as_size(size: Any, name: str) -> tuple[int, int]:
    values = [int(value) for value in size]
    if len(values) != 2 or min(values) < 1:
        raise ValueError(f"`{name}` must be a (height, width) of at least 1x1, got {tuple(values)}.")
    return values[0], values[1]
