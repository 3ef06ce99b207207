"""An image's result does not depend on the images beside it, nor on their order."""

import numpy as np
import pytest
import torch
from models import ARCHITECTURES, tiny
from padded_batch import SIZES, padded_batch
from tiny import BACKBONES, tiny_model
from torch.nn import functional as F


@pytest.mark.parametrize("backbone", BACKBONES)
def test_an_image_gives_the_same_in_any_batch_and_order(backbone):
    model = tiny_model(backbone).eval()
    images = [torch.randn(3, *size) for size in SIZES]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        with torch.no_grad():
            together = model(**padded_batch([images[i] for i in order]))
        assert together.image_sizes.tolist() == [list(SIZES[i]) for i in order]
        assert together.masks_queries_logits.shape[-2:] == (24, 24)
        for position, i in enumerate(order):
            with torch.no_grad():
                alone = model(images[i][None])
            height, width = alone.masks_queries_logits.shape[-2:]
            torch.testing.assert_close(
                together.class_queries_logits[position], alone.class_queries_logits[0], atol=1e-4, rtol=1e-4
            )
            torch.testing.assert_close(
                together.masks_queries_logits[position, :, :height, :width],
                alone.masks_queries_logits[0],
                atol=1e-4,
                rtol=1e-4,
            )


def test_every_field_comes_in_the_order_of_the_batch():
    model = tiny_model().eval()
    images = [torch.randn(3, *size) for size in SIZES]
    wanted = {"output_hidden_states": True, "output_attentions": True, "output_auxiliary_logits": True}
    with torch.no_grad():
        together = model(**padded_batch(images), **wanted)
        alone = model(images[1][None], **wanted)
    assert len(together.attentions) == 3 and together.attentions[0].shape == (4, 4, 10, 10)
    assert len(together.encoder_hidden_states) == 4
    torch.testing.assert_close(together.attentions[2][1], alone.attentions[2][0], atol=1e-4, rtol=1e-4)
    for mine, other in zip(together.hidden_states, alone.hidden_states, strict=True):
        mine = mine[1] if mine.ndim == 3 else mine[1, :, : other.shape[2], : other.shape[3]]
        torch.testing.assert_close(mine, other[0], atol=1e-4, rtol=1e-4)
    assert len(together.auxiliary_logits) == 2


def test_padding_beyond_the_largest_image_is_cut_as_well():
    model = tiny_model().eval()
    image = torch.randn(3, 64, 64)
    batch = {"pixel_values": F.pad(image[None], (0, 32, 0, 64)), "pixel_mask": torch.zeros(1, 128, 96)}
    batch["pixel_mask"][:, :64, :64] = 1
    with torch.no_grad():
        padded, alone = model(**batch), model(image[None])
    assert padded.masks_queries_logits.shape == (1, 10, 32, 24)
    torch.testing.assert_close(padded.masks_queries_logits[..., :16, :16], alone.masks_queries_logits)


@pytest.mark.parametrize("form", ["mask_labels", "segment_ids"])
@pytest.mark.parametrize("size", [(64, 96), (50, 70), (52, 71)])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_loss_of_mixed_sizes_in_evaluation_is_that_of_each_image_alone(kind, size, form):
    """Whatever stands in the padding of the targets: a segment goes on in it here, as a map of classes would."""
    model = tiny(kind).eval()
    images = [torch.randn(3, *size), torch.randn(3, 96, 96)]
    ids = [torch.randint(1, 3, (1, *image.shape[1:]), dtype=torch.uint8) for image in images]
    labels = [torch.tensor([0, 3])] * 2

    def loss(some, ids, **pixels):
        if form == "segment_ids":
            targets = {"segment_ids": torch.stack(ids)}
        else:
            targets = {"mask_labels": [torch.cat((of_image == 1, of_image == 2)) for of_image in ids]}
        with torch.no_grad():
            return model(**pixels, **targets, class_labels=some).loss.item()

    alone = [loss(labels[:1], [of], pixel_values=image[None]) for of, image in zip(ids, images, strict=True)]
    padded = [F.pad(of, (0, 96 - of.shape[2], 0, 96 - of.shape[1]), value=1) for of in ids]
    together = loss(labels, padded, **padded_batch(images))
    pixels = [of.numel() for of in ids] if kind != "maskformer" else [1, 1]  # what the losses are averaged over
    assert together == pytest.approx(sum(n * of for n, of in zip(pixels, alone, strict=True)) / sum(pixels), rel=1e-4)


@pytest.mark.parametrize(
    ("area", "value"),
    [
        (np.s_[16:48, 16:64], 1),
        (np.s_[10:], 1),
        (np.s_[:, 1:], 1),
        (np.s_[::2], 1),
        (np.s_[10:20], 0),
        (np.s_[:, :2], 0),
        (np.s_[63, 95], 0),
    ],
    ids=str,
)
def test_a_mask_of_padding_elsewhere_is_refused(area, value):
    """A letterbox, or holes: the first rows and columns would be taken for the image."""
    batch = padded_batch([torch.randn(3, 64, 96) for _ in range(2)])
    batch["pixel_mask"][1] = 1 - value
    batch["pixel_mask"][1][area] = value
    with pytest.raises(ValueError, match=r"pixel_mask\[1\] is 1 in \d+ rows and \d+ columns, but"):
        tiny_model().eval()(**batch)


def test_a_mask_without_a_pixel_of_its_image_is_named():
    batch = padded_batch([torch.randn(3, 64, 64) for _ in range(3)])
    batch["pixel_mask"][1] = 0
    with pytest.raises(ValueError, match=r"pixel_mask\[1\] is 0 everywhere: at least one pixel"):
        tiny_model().eval()(**batch)
