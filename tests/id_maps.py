"""Id maps with void, and as the losses read them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from modeling_maskformer.losses.targets import TargetMaps, checked_targets
from modeling_maskformer.targets import NO_SEGMENT, Segments, void_value


def with_void(segments: Segments, void: np.ndarray | Tensor) -> Segments:
    """The segments, and void where `void` `(H, W)` is True and no segment covers the pixel."""
    uncovered = torch.as_tensor(void) & (segments.ids == NO_SEGMENT).all(0)
    ids = segments.ids.clone()
    ids[0][uncovered] = void_value(ids.dtype)
    return replace(segments, ids=ids)


def target_maps(segment_ids: Tensor, num_segments: Sequence[int]) -> TargetMaps:
    """The checked maps of `segment_ids` `(B, L, H, W)` of images with `num_segments` segments each, of any class."""
    class_labels = [torch.zeros(count, dtype=torch.int64) for count in num_segments]
    return checked_targets(class_labels, segment_ids, None, num_labels=1, device=segment_ids.device).maps
