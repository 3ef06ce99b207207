"""The oracle of the mask losses and their gradients: whole maps, autograd, in the dtype of the logits."""

import torch
import torch.nn.functional as F


def focal(logits, masks):
    """Focal loss of each logit, alpha 0.25, gamma 2."""
    p = logits.sigmoid()
    return torch.where(masks, -0.25 * (1 - p) ** 2 * F.logsigmoid(logits), -0.75 * p**2 * F.logsigmoid(-logits))


def dense(logits, masks, void):
    """Focal and dice loss of each mask, logits (M, h, w) enlarged to masks (M, H, W) bool, without void (H, W).

    Logits of one cell for every 4 x 4 pixels are enlarged 4 times, and what the last cells have too much is cut off.
    """
    (height, width), size = logits.shape[-2:], masks.shape[-2:]
    if (height, width) == ((size[0] + 3) // 4, (size[1] + 3) // 4):
        size = (4 * height, 4 * width)
    large = F.interpolate(logits[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    large = large[:, : masks.shape[-2], : masks.shape[-1]]
    return at_points(large[:, ~void], masks[:, ~void])


def at_points(logits, masks):
    """Focal and dice loss of each mask over points: (M, P) logits and bool targets."""
    p, target = logits.sigmoid(), masks.to(logits.dtype)
    dice = 1 - (2 * (p * target).sum(-1) + 1) / (p.sum(-1) + target.sum(-1) + 1)
    return focal(logits, masks).mean(-1), dice


def sample(maps, points):
    """Values of maps (M, h, w) at points (M, P, 2) in [0, 1], bilinear."""
    grid = (2 * points - 1)[:, :, None].to(maps.dtype)
    return F.grid_sample(maps[:, None], grid, padding_mode="border", align_corners=False)[:, 0, :, 0]


def under(maps, points):
    """The pixels of maps (M, H, W) under points (M, P, 2)."""
    height, width = maps.shape[-2:]
    rows, columns = (points[..., 1] * height).long(), (points[..., 0] * width).long()
    rows, columns = rows.clamp(max=height - 1), columns.clamp(max=width - 1)
    return maps.flatten(1).gather(1, rows * width + columns)
