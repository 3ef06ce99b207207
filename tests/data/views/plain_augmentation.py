"""The augmentation as the paper's code orders it: resize the whole image, crop, change colours, mirror. For tests."""

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from modeling_maskformer.data.samples import Sample
from modeling_maskformer.data.views.augmentation import Augmentation


def plain_view(augmentation: Augmentation, sample: Sample, seed: int) -> tuple[Tensor, Tensor]:
    """`(3, H, W)` uint8 pixels and `(L, H, W)` ids of the view that a seed draws, each step made on all pixels."""
    generator = torch.Generator().manual_seed(seed)
    box, size = augmentation._draw_view(sample.segments, generator)
    mirrored = bool(torch.rand((), generator=generator) < augmentation.config.horizontal_flip)
    vertical, horizontal = size[0] / box.height, size[1] / box.width
    whole = [round(vertical * sample.image.height), round(horizontal * sample.image.width)]
    frame = round(vertical * box.top), round(horizontal * box.left), *size
    image = F.crop(F.resize(F.pil_to_tensor(sample.image), whole, InterpolationMode.BILINEAR, antialias=True), *frame)
    ids = F.crop(F.resize(sample.segments.ids, whole, InterpolationMode.NEAREST_EXACT), *frame)
    if augmentation.color_jitter is not None:
        matrix, offset = augmentation.color_jitter.draw(generator)
        colours = matrix.double() @ image.double().flatten(1) + offset.double()
        image = colours.round().clamp(0, 255).to(torch.uint8).view(image.shape)
    return (image.flip(-1), ids.flip(-1)) if mirrored else (image, ids)
