"""What people start on a GPU, whole: training, evaluation, prediction, and compiled models."""

import json
import math

import numpy as np
import pytest
import torch
from models import batch_of, logits_of, tiny
from PIL import Image

from modeling_maskformer.commands import evaluate, predict, train
from modeling_maskformer.training.divergence import DivergenceWatch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
SMALL = [
    *("--backbone", "resnet10t", "--backbone_weights", "random"),
    *("--fpn_feature_size", "32", "--mask_feature_size", "32", "--hidden_dim", "32", "--attention_heads", "4"),
    *("--decoder_layers", "2", "--ffn_dim", "32", "--num_queries", "8", "--num_points", "64"),
]
BRIEF = [
    *("--task", "panoptic", "--crop_size", "64", "--num_pictures", "1", "--max_steps", "4"),
    *("--per_device_train_batch_size", "2", "--warmup_steps", "0", "--logging_steps", "1"),
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Four pictures with a square (class 1) on a background (class 0): the class in red, the instance in green."""
    folder = tmp_path_factory.mktemp("squares")
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for number in range(4):
            mask = np.zeros((70, 90, 3), dtype=np.uint8)
            mask[10 : 40 + number, 20:60, :2] = 1
            Image.fromarray(mask * 200).save(folder / split / "images" / f"{number}.png")
            Image.fromarray(mask).save(folder / split / "masks" / f"{number}.png")
    return str(folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, dataset):
    """The folder of a run with what train.py chooses on this GPU."""
    folder = tmp_path_factory.mktemp("trained")
    train.main([*SMALL, *BRIEF, "--dataset", dataset, "--output_dir", str(folder)])
    return folder


def trained_weights(model):
    return [weight for weight in model.parameters() if weight.grad is not None]


def losses_of(folder):
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def test_a_run_trains_measures_and_saves(trained):
    assert len(losses_of(trained)) == 4
    assert all(math.isfinite(loss) and loss > 0 for loss in losses_of(trained))
    assert (trained / "model.safetensors").is_file() and (trained / "README.md").is_file()


@pytest.mark.parametrize("flags", [["--mask_loss", "dense"], ["--fp16", "true"], ["--torch_compile"]], ids=str)
def test_other_ways_to_train_work_too(tmp_path, dataset, flags):
    train.main([*SMALL, *BRIEF, *flags, "--dataset", dataset, "--output_dir", str(tmp_path / "run")])
    assert all(math.isfinite(loss) for loss in losses_of(tmp_path / "run"))


def test_evaluation_and_prediction_run_in_half_precision(trained, dataset, tmp_path):
    common = ["--model", str(trained), "--dtype", "bfloat16"]
    report = tmp_path / "evaluation.json"
    evaluate.main([*common, "--dataset", dataset, "--output_file", str(report)])
    assert json.loads(report.read_text())["num_images"] == 4
    Image.new("RGB", (90, 70), (200, 30, 30)).save(tmp_path / "red.png")
    predict.main([*common, "--inputs", str(tmp_path / "red.png"), "--output_dir", str(tmp_path / "seen")])
    assert (tmp_path / "seen" / "panoptic.json").is_file()


@pytest.mark.parametrize("mode", [None, "reduce-overhead"])
def test_a_compiled_model_gives_what_it_gives_eagerly(mode):
    model = tiny().eval().cuda()
    compiled = torch.compile(model, mode=mode)
    with torch.no_grad():
        for _ in range(3):  # CUDA graphs are recorded in the second call, and replayed from then on
            pixel_values = torch.randn(2, 3, 96, 128, device="cuda")
            found = logits_of(compiled(pixel_values)).clone()
            torch.testing.assert_close(found, logits_of(model(pixel_values)), rtol=1e-2, atol=1e-2)


def test_gradients_of_a_compiled_model_are_those_of_an_eager_one():
    model = tiny().cuda()
    batch = {
        name: [part.cuda() for part in value] if isinstance(value, list) else value.cuda()
        for name, value in batch_of().items()
    }
    gradients = []
    for run in (model, torch.compile(model)):
        torch.manual_seed(1)  # the same points
        model.zero_grad()
        run(**batch).loss.backward()
        gradients.append(torch.cat([weight.grad.flatten() for weight in trained_weights(model)]))
    assert (gradients[0] - gradients[1]).norm() < 0.02 * gradients[0].norm()


def test_a_loss_that_is_not_finite_ends_a_run_without_a_wait_for_each(tmp_path):
    watch = DivergenceWatch(tmp_path)
    batch = {"pixel_values": torch.zeros(1, 3, 4, 4, device="cuda")}
    with pytest.raises(FloatingPointError, match=r"Step 3: the loss is nan\. Batch 1 of the step, samples: bad"):
        for step in range(100):
            value = torch.tensor(math.nan if step == 3 else 1.0, device="cuda")
            watch.add("loss", value, step, 1, batch, ["bad" if step == 3 else "good"])
        watch.check_all()
    assert [file.name for file in tmp_path.iterdir()] == ["diverged_batch_step_3.safetensors"]
