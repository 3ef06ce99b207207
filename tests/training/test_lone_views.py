"""Batches of one small view: refused where BatchNorm is trained and has one value a channel, nowhere else."""

import pytest
import torch

from modeling_maskformer.data.views.augmentation import AugmentationConfig
from modeling_maskformer.training.arguments.model_arguments import ModelArguments
from modeling_maskformer.training.lone_views import check_lone_views, smallest_view
from modeling_maskformer.training.model_building import build_model


def model(backbone="resnet10t", **settings):
    small = {"fpn_feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "decoder_layers": 1, "ffn_dim": 32}
    arguments = ModelArguments(backbone=backbone, backbone_weights="random", **small, **settings)
    return build_model(arguments, {0: "sky", 1: "road"}, "semantic")


def crops(side, **settings):
    return AugmentationConfig(crop_size=(side, side), **settings)


def test_the_smallest_view_is_that_of_the_squarest_image_at_the_lowest_scale():
    assert smallest_view(crops(64), [(40, 80), (60, 50)]) == (38, 32)
    assert smallest_view(crops(64), []) == (32, 32)
    assert smallest_view(crops(16), [(40, 80)]) == (8, 16)
    whole = AugmentationConfig(crop_size=None, short_edges=(30, 90))
    assert smallest_view(whole, [(100, 300)]) == (30, 90)


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        (crops(16), [(40, 48)]),
        (crops(64), [(48, 48)]),
        (AugmentationConfig(crop_size=None, short_edges=(24,)), [(24, 28)]),
    ],
)
def test_a_lone_view_of_one_point_is_refused_where_batch_norm_is_trained(config, sizes):
    trained, before = model(), torch.get_rng_state()
    weights = {name: value.clone() for name, value in trained.state_dict().items()}
    with pytest.raises(ValueError, match=r"BatchNorm has no statistics of a batch of one view .* larger --crop_size"):
        check_lone_views(trained, config, sizes)
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(trained.state_dict(), weights, rtol=0, atol=0)
    check_lone_views(model(train_batch_norm=False), config, sizes)
    check_lone_views(model("convnext_atto"), config, sizes)  # without BatchNorm


def test_larger_lone_views_are_fine():
    check_lone_views(model(), crops(64), [(32, 64)])  # at the lowest scale two points wide
    check_lone_views(model(), crops(128), [(48, 48)])
