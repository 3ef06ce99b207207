"""The reference inference, written as plainly as possible and independently of the package: slow, for small inputs.

Everything is computed in float64, over whole masks, one query at a time.
"""

import numpy as np
import torch
from torch.nn.functional import interpolate


def bilinear(values, size):
    return interpolate(values[None], size=size, mode="bilinear", align_corners=False)[0]


def logits_at_target(mask_logits, image_size=None, target_size=None):
    logits = mask_logits.double()
    if image_size is None:
        image_size = (4 * logits.shape[1], 4 * logits.shape[2])
    height, width = image_size
    logits = logits[:, : int(np.ceil(height / 4)), : int(np.ceil(width / 4))]
    if target_size is None:
        return logits
    padded_input = bilinear(logits, (4 * logits.shape[1], 4 * logits.shape[2]))
    return bilinear(padded_input[:, :height, :width], target_size)


def class_probabilities(class_logits):
    return class_logits.double().softmax(-1)


def semantic_scores(class_logits, mask_logits, image_size=None, target_size=None):
    probs = class_probabilities(class_logits)
    masks = logits_at_target(mask_logits, image_size, target_size).sigmoid()
    scores = torch.zeros(probs.shape[1] - 1, *masks.shape[1:], dtype=torch.float64)
    for query in range(len(probs)):
        for label in range(probs.shape[1] - 1):
            scores[label] += probs[query, label] * masks[query]
    return scores


def panoptic(
    class_logits,
    mask_logits,
    image_size=None,
    target_size=None,
    threshold=0.8,
    mask_threshold=0.5,
    overlap=0.8,
    fuse=(),
):
    """Id map and list of (id, label, score); also, per pixel, how clear the winner is."""
    probs = class_probabilities(class_logits)
    masks = logits_at_target(mask_logits, image_size, target_size).sigmoid()
    no_object = probs.shape[1] - 1
    kept = [q for q in range(len(probs)) if probs[q].argmax() != no_object and probs[q].max() > threshold]
    id_map = np.zeros(tuple(masks.shape[1:]), dtype=np.int64)
    if not kept:
        return id_map, [], np.ones(id_map.shape)
    weighted = np.stack([probs[q].max().item() * masks[q].numpy() for q in kept])
    winner = weighted.argmax(0)
    ranked = np.sort(weighted, 0)
    clearness = ranked[-1] - ranked[-2] if len(kept) > 1 else np.ones(id_map.shape)
    segments, stuff = [], {}
    for position, query in enumerate(kept):
        own = (masks[query] >= mask_threshold).sum().item()
        pixels = winner == position
        if pixels.sum() == 0 or own == 0 or pixels.sum() / own < overlap:
            continue
        label, score = int(probs[query].argmax()), float(probs[query].max())
        if label in stuff:
            segment = stuff[label]
            segment["score"] = max(segment["score"], score)
        else:
            segment = {"id": len(segments) + 1, "label_id": label, "was_fused": label in fuse, "score": score}
            segments.append(segment)
            if label in fuse:
                stuff[label] = segment
        id_map[pixels] = segment["id"]
    return id_map, segments, clearness


def instances(class_logits, mask_logits, image_size=None, target_size=None, threshold=0.5, mask_threshold=0.5):
    """List of (score, label, mask, query), best first."""
    probs = class_probabilities(class_logits)[:, :-1]
    masks = logits_at_target(mask_logits, image_size, target_size).sigmoid()
    pairs = [(probs[q, c].item(), q, c) for q in range(probs.shape[0]) for c in range(probs.shape[1])]
    found = []
    for probability, query, label in sorted(pairs, key=lambda pair: -pair[0])[: len(probs)]:
        mask = masks[query] > mask_threshold
        if mask.any():
            score = probability * masks[query][mask].mean().item()
            if score >= threshold:
                found.append((score, label, mask, query))
    return sorted(found, key=lambda instance: -instance[0])
