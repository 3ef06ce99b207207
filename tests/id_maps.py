"""Id maps as the losses read them, for tests of single losses."""

from collections.abc import Sequence

import torch
from torch import Tensor

from modeling_maskformer.losses.targets import TargetMaps, checked_targets


def target_maps(segment_ids: Tensor, num_segments: Sequence[int]) -> TargetMaps:
    """The checked maps of `segment_ids` `(B, L, H, W)` of images with `num_segments` segments each, of any class."""
    class_labels = [torch.zeros(count, dtype=torch.int64) for count in num_segments]
    return checked_targets(class_labels, segment_ids, None, num_labels=1, device=segment_ids.device).maps
