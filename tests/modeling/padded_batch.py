"""Images of several sizes in one batch."""

import torch
from torch.nn import functional as F

SIZES = [(64, 96), (96, 64), (64, 96), (50, 70)]


def padded_batch(images):
    """Images `(3, H, W)` in one batch, padded with threes, and its `pixel_mask`."""
    height, width = max(i.shape[1] for i in images), max(i.shape[2] for i in images)
    pixels = torch.stack([F.pad(i, (0, width - i.shape[2], 0, height - i.shape[1]), value=3.0) for i in images])
    mask = torch.zeros(len(images), height, width, dtype=torch.int64)
    for target, image in zip(mask, images, strict=True):
        target[: image.shape[1], : image.shape[2]] = 1
    return {"pixel_values": pixels, "pixel_mask": mask}
