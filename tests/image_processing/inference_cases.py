"""Inputs for the three inferences: random ones, ones like a trained model's, and awkward ones."""

import torch


def random_case(queries=7, classes=5, height=9, width=12, seed=0, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    class_logits = scale * torch.randn(queries, classes + 1, generator=generator)
    return class_logits, scale * torch.randn(queries, height, width, generator=generator)


def confident_case(queries=20, classes=12, live=8, height=24, width=30, seed=0):
    """Smooth blobs, `live` queries sure of their class and the rest sure of no object."""
    generator = torch.Generator().manual_seed(seed)
    class_logits = torch.randn(queries, classes + 1, generator=generator)
    labels = torch.randint(0, classes, (queries,), generator=generator)
    labels[live:] = classes
    class_logits[torch.arange(queries), labels] += 8
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    center = torch.rand(queries, 2, generator=generator) * torch.tensor([height, width])
    radius = 0.06 * (height + width) * (0.5 + torch.rand(queries, generator=generator))
    distance = ((y - center[:, 0, None, None]) ** 2 + (x - center[:, 1, None, None]) ** 2).sqrt()
    mask_logits = (radius[:, None, None] - distance).clamp(-8, 8)
    mask_logits[live:] -= 6
    order = torch.randperm(queries, generator=generator)
    return class_logits[order], mask_logits[order] + 0.3 * torch.randn(mask_logits.shape, generator=generator)


# name -> (class logits (Q, K + 1), mask logits (Q, h, w), image size or None, target size or None)
def all_cases():
    few = random_case(queries=1, classes=3), random_case(queries=6, classes=1)
    no_object = random_case()
    no_object[0][:, -1] = 50.0
    certain = random_case()
    certain[0][:, -1] = -50.0
    return {
        "random": (*random_case(), None, (40, 50)),
        "random at the logits' resolution": (*random_case(seed=1), None, None),
        "padded image": (*random_case(seed=2), (29, 33), (57, 40)),
        "padded image at the logits' resolution": (*random_case(seed=3), (29, 33), None),
        "padded image at its own size": (*random_case(seed=4), (30, 43), (30, 43)),
        "much larger target": (*random_case(seed=5, height=4, width=3), None, (90, 120)),
        "much smaller target": (*random_case(seed=6, height=20, width=30), (77, 118), (11, 7)),
        "one pixel": (*random_case(seed=7, height=3, width=5), (1, 1), (1, 1)),
        "one logit": (*random_case(seed=8, height=1, width=1), None, (5, 6)),
        "one query": (*few[0], None, (36, 48)),
        "one class": (*few[1], None, (36, 48)),
        "all queries no object": (*no_object, None, (36, 48)),
        "no query no object": (*certain, None, (36, 48)),
        "trained": (*confident_case(), None, (96, 120)),
        "trained, padded": (*confident_case(seed=1), (90, 97), (135, 146)),
        "trained, many queries": (*confident_case(60, 40, 25, seed=2), (95, 119), (190, 238)),
        "trained, scarcely different classes": (*_nearly_equal(), None, (96, 120)),
        "trained, very sure": (*_very_sure(), None, (96, 120)),
        "equal masks": (torch.eye(4, 5) * 6, torch.ones(4, 6, 6), None, (24, 24)),
    }


def _nearly_equal():
    class_logits, mask_logits = confident_case(seed=3)
    class_logits = class_logits * 0.1
    return class_logits, mask_logits


def _very_sure():
    """What no live query covers is decided by queries that give nearly nothing to any class."""
    class_logits, mask_logits = confident_case(seed=4)
    return class_logits * 1.5, mask_logits
