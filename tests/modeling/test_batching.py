"""An image's result does not depend on the images beside it, nor on their order."""

import pytest
import torch
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


def test_the_loss_of_mixed_sizes_ignores_the_void_padding():
    model = tiny_model(use_auxiliary_loss=False).eval()
    image = torch.randn(3, 64, 64)
    ids = torch.randint(0, 3, (1, 1, 64, 64), dtype=torch.uint8)
    labels = [torch.tensor([0, 3])]
    batch = {"pixel_values": F.pad(image[None], (0, 64, 0, 0)), "pixel_mask": torch.zeros(1, 64, 128)}
    batch["pixel_mask"][:, :, :64] = 1
    with torch.no_grad():
        alone = model(image[None], segment_ids=ids, class_labels=labels)
        padded = model(**batch, segment_ids=F.pad(ids, (0, 64), value=255), class_labels=labels)
    assert alone.loss_dict["loss_cross_entropy"].item() == pytest.approx(
        padded.loss_dict["loss_cross_entropy"].item(), rel=1e-5
    )
    # enlarging mixes the zeros of the padding into one column of pixels
    assert alone.loss.item() == pytest.approx(padded.loss.item(), rel=0.02)


def test_a_mask_without_a_pixel_of_its_image_is_named():
    batch = padded_batch([torch.randn(3, 64, 64) for _ in range(3)])
    batch["pixel_mask"][1] = 0
    with pytest.raises(ValueError, match=r"pixel_mask\[1\] is 0 everywhere: at least one pixel"):
        tiny_model().eval()(**batch)
