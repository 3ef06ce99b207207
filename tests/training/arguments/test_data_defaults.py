"""What a run makes of what was left open, once it knows its images; what was passed stays."""

import pytest

from modeling_maskformer.training.arguments.augmentation_arguments import AugmentationArguments
from modeling_maskformer.training.arguments.data_defaults import default_crop_side
from modeling_maskformer.training.arguments.device_defaults import Machine
from modeling_maskformer.training.arguments.model_arguments import ModelArguments
from modeling_maskformer.training.arguments.run_arguments import RunArguments

CPU, GPU = Machine(has_gpu=False), Machine(has_gpu=True, has_bf16=True)


def run_for(num_images, machine=CPU, from_checkpoint=False, **settings):
    arguments = RunArguments(output_dir="unused", use_cpu=True, **settings)
    arguments.choose_for(num_images, machine, from_checkpoint)
    return arguments


@pytest.mark.parametrize(
    ("images", "batch", "epochs", "steps", "warmup"),
    [
        (2, 2, 1000, 1000, 50),  # of three images, one is set aside
        (18, 4, 200, 1000, 50),
        (400, 4, 24, 2400, 120),
        (5000, 4, 24, 30_000, 1500),
        (100_000, 4, 6, 150_000, 1500),
        (1_000_000, 4, 1, 250_000, 1500),
    ],
)
def test_length_and_warmup_follow_from_the_number_of_images(images, batch, epochs, steps, warmup):
    run = run_for(images)
    assert (run.per_device_train_batch_size, run.num_train_epochs) == (batch, epochs)
    assert (run.total_steps(images), run.warmup_steps) == (steps, warmup)


@pytest.mark.parametrize(("images", "steps"), [(2, 50), (18, 50), (90, 51)])
def test_few_images_are_not_measured_after_each_of_many_epochs(images, steps):
    run = run_for(images)
    assert run.eval_strategy == run.save_strategy == "steps"
    assert run.eval_steps == run.save_steps == steps


@pytest.mark.parametrize("images", [160, 400, 100_000])
def test_more_images_are_measured_after_each_epoch(images):
    assert run_for(images).eval_strategy == run_for(images).save_strategy == "epoch"


def test_what_was_passed_stays_and_the_rest_follows_from_it():
    run = run_for(18, num_train_epochs=100, per_device_train_batch_size=3)
    assert (run.num_train_epochs, run.per_device_train_batch_size, run.warmup_steps) == (100, 3, 30)
    assert run.eval_strategy == run.save_strategy == "epoch"
    run = run_for(18, max_steps=40)
    assert (run.total_steps(18), run.warmup_steps, run.eval_strategy) == (40, 2, "epoch")
    run = run_for(18, warmup_steps=7, eval_strategy="steps", eval_steps=10)
    assert (run.warmup_steps, run.eval_steps, run.save_strategy, run.save_steps) == (7, 10, "steps", 10)
    assert run_for(18, eval_strategy="no", load_best_model_at_end=False).save_strategy == "epoch"
    run = run_for(18, save_strategy="no")
    assert (run.eval_strategy, run.eval_steps, run.save_strategy) == ("steps", 50, "no")
    run = run_for(18, save_strategy="epoch")  # so that every checkpoint is evaluated
    assert (run.eval_strategy, run.load_best_model_at_end) == ("epoch", True)
    run = run_for(18, total_batch_size=8)
    assert (run.per_device_train_batch_size, run.gradient_accumulation_steps, run.total_steps(18)) == (4, 2, 1002)


@pytest.mark.parametrize("length", [{}, {"num_train_epochs": 3}, {"max_steps": 40}])
@pytest.mark.parametrize("images", [18, 400])
def test_steps_between_evaluations_or_checkpoints_that_were_passed_are_kept(images, length):
    def rhythm(**settings):
        run = run_for(images, **length, **settings)
        return run.eval_strategy, run.eval_steps, run.save_strategy, run.save_steps, run.load_best_model_at_end

    assert rhythm(eval_steps=10, save_steps=10) == ("steps", 10, "steps", 10, True)
    assert rhythm(eval_steps=10) == ("steps", 10, "steps", 10, True)
    assert rhythm(eval_steps=10, save_steps=30) == ("steps", 10, "steps", 30, True)
    assert rhythm(eval_strategy="steps", eval_steps=10, save_steps=30) == ("steps", 10, "steps", 30, True)
    few = images == 18 and not length
    assert rhythm(save_steps=30) == ("steps" if few else "epoch", 50 if few else None, "steps", 30, False)
    assert rhythm(eval_strategy="no", save_steps=30)[2:] == ("steps", 30, False)
    assert rhythm(eval_strategy="epoch", eval_steps=10)[0] == "epoch"  # a strategy that is passed decides


def test_batches_that_are_not_full_are_left_out_of_the_length_and_some_must_be_full():
    run = run_for(10, per_device_train_batch_size=4, num_train_epochs=3, dataloader_drop_last=True)
    assert run.total_steps(10) == 6 and run.total_steps(4) == 3
    run = run_for(10, per_device_train_batch_size=2, total_batch_size=4, num_train_epochs=3, dataloader_drop_last=True)
    assert run.total_steps(10) == 9  # 5 batches, 2 a step
    with pytest.raises(ValueError, match="the 5 training images fill none of 8: leave it out, or lower per_device"):
        run_for(5, per_device_train_batch_size=8, dataloader_drop_last=True)
    run_for(5, GPU, dataloader_drop_last=True)  # of 5


def test_the_last_batch_of_an_epoch_may_be_the_smallest():
    run = run_for(5, per_device_train_batch_size=4)
    assert [run.smallest_batch(images) for images in (3, 4, 5, 6, 8)] == [3, 4, 1, 2, 4]
    run = run_for(5, per_device_train_batch_size=4, max_steps=1)
    assert [run.smallest_batch(images) for images in (4, 5)] == [4, 4]  # one step does not come by it
    run = run_for(5, per_device_train_batch_size=4, dataloader_drop_last=True)
    assert [run.smallest_batch(images) for images in (5, 8)] == [4, 4]


def test_a_checkpoint_learns_more_slowly_than_a_new_model():
    assert (run_for(400).learning_rate, run_for(400, from_checkpoint=True).learning_rate) == (5e-4, 2e-4)
    assert run_for(400, from_checkpoint=True, learning_rate=1e-3).learning_rate == 1e-3


def test_a_gpu_takes_more_images_at_once_but_not_more_than_there_are():
    assert run_for(400, GPU).per_device_train_batch_size == 8
    assert run_for(5, GPU).per_device_train_batch_size == 5
    assert run_for(400, Machine(has_gpu=True)).per_device_train_batch_size == 4


@pytest.mark.parametrize(
    ("short_edge", "side"), [(28, 128), (128, 128), (360, 352), (376, 384), (480, 480), (640, 512), (3024, 512)]
)
def test_crops_are_as_large_as_the_images_within_bounds(short_edge, side):
    assert default_crop_side(short_edge) == side
    augmentation = AugmentationArguments()
    augmentation.choose_for(short_edge)
    assert augmentation.config().crop_size == (side, side)
    # the mean of the short edges in training, 0.5 to 2 times the crop's
    assert (augmentation.shortest_edge, augmentation.longest_edge) == (1.25 * side, 5 * side)


def test_sizes_that_were_passed_stay():
    for settings in ({"crop_size": [300]}, {"crop": False, "short_edges": [200]}, {"short_edges": [200, 300]}):
        augmentation, expected = AugmentationArguments(**settings), AugmentationArguments(**settings)
        augmentation.choose_for(360)
        assert augmentation == expected
    augmentation = AugmentationArguments(shortest_edge=400)
    augmentation.choose_for(360)
    assert (augmentation.crop_size, augmentation.shortest_edge, augmentation.longest_edge) == ([352, 352], 400, 1600)


def test_without_a_look_at_the_images_the_crop_is_the_papers():
    augmentation = AugmentationArguments()
    augmentation.choose_for(None)
    assert augmentation == AugmentationArguments() and augmentation.crop_size == [512, 512]


def test_a_backbone_is_chosen_for_the_machine_and_the_reason_said():
    on_cpu, on_gpu, named = ModelArguments(), ModelArguments(backbone_weights="random"), ModelArguments(backbone="a")
    assert "CPU" in on_cpu.choose_for(CPU, 5) and "GPU" in on_gpu.choose_for(GPU, 5)
    assert (on_cpu.backbone, on_cpu.backbone_weights, on_cpu.train_batch_norm) == (
        "tf_efficientnet_lite0",
        "pretrained",
        False,
    )
    assert (on_gpu.backbone, on_gpu.backbone_weights, on_gpu.train_batch_norm) == ("resnet50", "random", True)
    assert named.choose_for(CPU, 5) is None and named.backbone == "a"
    with pytest.raises(ValueError, match="--drop_path goes with --backbone swin"):
        ModelArguments(drop_path=0.1).choose_for(CPU, 5)
    assert ModelArguments(model="a").choose_for(CPU, 500) is None


def test_there_are_more_queries_where_images_have_more_segments():
    def queries(num_segments, **settings):
        arguments = ModelArguments(backbone="a", **settings)
        arguments.choose_for(CPU, num_segments)
        return arguments.num_queries

    assert [queries(count) for count in (0, 100, 101, 250)] == [100, 100, 150, 300]
    assert queries(250, num_queries=120) == 120
    assert queries(250, architecture="per_pixel_plus") is None
