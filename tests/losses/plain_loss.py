"""The oracle of matching and loss: float64, mask by mask, pixel by pixel, from the definitions."""

import itertools

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def focal(logits, target, valid):
    """Mean focal loss over valid pixels, alpha 0.25, gamma 2."""
    p = sigmoid(logits)[valid]
    target = target[valid]
    p_t = np.where(target, p, 1 - p)
    alpha_t = np.where(target, 0.25, 0.75)
    return float(np.mean(-alpha_t * (1 - p_t) ** 2 * np.log(p_t)))


def dice(logits, target, valid):
    """Dice loss over valid pixels, smoothed by 1."""
    p = sigmoid(logits)[valid]
    target = target[valid].astype(float)
    return float(1 - (2 * np.sum(p * target) + 1) / (np.sum(p) + np.sum(target) + 1))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def resize_bilinear(image, height, width):
    """Bilinear, half-pixel centres, borders repeated (align_corners=False), written out per output pixel."""
    old_height, old_width = image.shape
    out = np.zeros((height, width))
    for y, x in itertools.product(range(height), range(width)):
        sy = max((y + 0.5) * old_height / height - 0.5, 0)
        sx = max((x + 0.5) * old_width / width - 0.5, 0)
        y0, x0 = min(int(sy), old_height - 1), min(int(sx), old_width - 1)
        y1, x1 = min(y0 + 1, old_height - 1), min(x0 + 1, old_width - 1)
        fy, fx = sy - y0, sx - x0
        out[y, x] = (image[y0, x0] * (1 - fx) + image[y0, x1] * fx) * (1 - fy) + (
            image[y1, x0] * (1 - fx) + image[y1, x1] * fx
        ) * fy
    return out


def nearest(image, height, width):
    rows = np.arange(height) * image.shape[0] // height
    columns = np.arange(width) * image.shape[1] // width
    return image[rows][:, columns]


def best_assignment(cost):
    """The assignment of least cost by trying all: pairs (query, segment)."""
    queries, segments = cost.shape
    if segments <= queries:
        options = (
            list(zip(q, range(segments), strict=True)) for q in itertools.permutations(range(queries), segments)
        )
    else:
        options = (list(zip(range(queries), s, strict=True)) for s in itertools.permutations(range(segments), queries))
    return min(options, key=lambda pairs: sum(cost[pair] for pair in pairs))


def costs(class_logits, mask_logits, masks, void, labels, weights=(1.0, 20.0, 1.0)):
    """(Q, S) matching cost of one image; masks (S, H, W) bool and void (H, W) bool at target resolution."""
    height, width = mask_logits.shape[-2:]
    valid = ~nearest(void, height, width)
    probabilities = softmax(class_logits)
    cost = np.zeros((len(mask_logits), len(masks)))
    for q, s in itertools.product(range(len(mask_logits)), range(len(masks))):
        target = nearest(masks[s], height, width)
        cost[q, s] = (
            -weights[0] * probabilities[q, labels[s]]
            + weights[1] * focal(mask_logits[q], target, valid)
            + weights[2] * dice(mask_logits[q], target, valid)
        )
    return cost


def loss(class_logits, mask_logits, images, no_object_weight=0.1, num_masks=None):
    """Loss parts of one layer over a batch.

    class_logits (B, Q, K+1), mask_logits (B, Q, h, w); images: list of (masks (S,H,W), void (H,W), labels (S,)).
    """
    weight_sum = cross_entropy = focal_sum = dice_sum = 0.0
    for b, (masks, void, labels) in enumerate(images):
        pairs = best_assignment(costs(class_logits[b], mask_logits[b], masks, void, labels)) if len(labels) else []
        target = {q: labels[s] for q, s in pairs}
        probabilities = softmax(class_logits[b])
        no_object = class_logits.shape[-1] - 1
        for q in range(class_logits.shape[1]):
            label = target.get(q, no_object)
            weight = no_object_weight if label == no_object else 1.0
            cross_entropy += -weight * np.log(probabilities[q, label])
            weight_sum += weight
        for q, s in pairs:
            large = resize_bilinear(mask_logits[b, q], *masks[s].shape)
            focal_sum += focal(large, masks[s], ~void)
            dice_sum += dice(large, masks[s], ~void)
    num_masks = max(sum(len(labels) for *_, labels in images), 1) if num_masks is None else num_masks
    return {
        "loss_cross_entropy": cross_entropy / weight_sum,
        "loss_mask": 20 * focal_sum / num_masks,
        "loss_dice": dice_sum / num_masks,
    }
