"""What a run does by default with the data that it finds: sizes of crops, how long to train, how often to measure."""

from __future__ import annotations

import math

# Of a crop's side. Smaller images are enlarged, as masks have a quarter of the side; the paper's crops have 512.
CROP_SIDES = (128, 512)
CROP_STEP = 32  # what backbones divide sides by

EPOCHS = 24
# On CamVid, mean IoU is 0.52 after 364 steps, 0.66 after 728 and 0.68 after 1092: below that, more epochs help.
LEAST_STEPS = 1000
MOST_STEPS = 160_000  # of the paper's ADE20K
# on CamVid 2e-4 gave 0.677 and 5e-4 0.688; a checkpoint's decoders know something already
LEARNING_RATE, LEARNING_RATE_FROM_CHECKPOINT = 5e-4, 2e-4
WARMUP_SHARE = 0.05
MOST_WARMUP_STEPS = 1500  # of the paper's Swin recipes
MOST_EVALUATIONS = 40  # more epochs than that are not measured one by one, but in
EVALUATIONS = 20  # equal parts


def default_crop_side(short_edge: int) -> int:
    """The side of square crops for images whose short edge has this many pixels in the middle.

    At a scale of 1 an image's short edge fits the crop, so that objects are as large as in the image itself.
    """
    least, most = CROP_SIDES
    return min(max(CROP_STEP * round(short_edge / CROP_STEP), least), most)


def default_epochs(steps_per_epoch: int) -> int:
    """How often the training images are gone through: 24 times, or what makes 1,000 to 160,000 steps."""
    if EPOCHS * steps_per_epoch < LEAST_STEPS:
        return math.ceil(LEAST_STEPS / steps_per_epoch)
    return max(1, min(EPOCHS, MOST_STEPS // steps_per_epoch))


def default_warmup_steps(steps: int) -> int:
    """Steps of warm-up: a twentieth of the training, at most 1,500."""
    return min(math.ceil(WARMUP_SHARE * steps), MOST_WARMUP_STEPS)


def default_eval_steps(epochs: float, steps: int) -> int | None:
    """Steps between two evaluations, each with a checkpoint; None: one after each epoch, as there are few."""
    return math.ceil(steps / EVALUATIONS) if epochs > MOST_EVALUATIONS else None
