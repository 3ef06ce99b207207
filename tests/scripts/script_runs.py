"""How the tests call the scripts: briefly, with a small model and simple pictures."""

import numpy as np

# what keeps a run of the script to a few seconds
SMALL = [
    *("--backbone", "resnet10t", "--backbone_weights", "random"),
    *("--fpn_feature_size", 32, "--mask_feature_size", 32, "--hidden_dim", 32, "--attention_heads", 4),
    *("--decoder_layers", 2, "--ffn_dim", 32, "--num_queries", 8, "--num_points", 64),
]
BRIEF = [
    *("--max_steps", 3, "--per_device_train_batch_size", 2, "--crop_size", 32, "--num_pictures", 2),
    *("--warmup_steps", 0, "--logging_steps", 1, "--use_cpu"),
]


def run(main, *argv):
    return main([str(argument) for argument in argv])


def draw_street(rng):
    """A picture 40 x 48 of sky (0) over road (1) with up to two cars (2): class map and instance map."""
    classes = np.zeros((40, 48), dtype=np.uint8)
    classes[int(rng.integers(15, 25)) :] = 1
    instances = np.zeros_like(classes)
    for number in range(1, 1 + int(rng.integers(1, 3))):
        top, left = int(rng.integers(20, 28)), 24 * (number - 1) + int(rng.integers(2, 8))
        classes[top : top + 8, left : left + 12] = 2
        instances[top : top + 8, left : left + 12] = number
    image = np.array([[120, 180, 230], [90, 90, 90], [200, 40, 40]], dtype=np.uint8)[classes]
    return image, classes, instances
