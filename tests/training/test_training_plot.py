"""The plot of a training: which points it shows, and that it is a picture."""

import pytest
from PIL import Image

from image_processing.drawing import charts
from modeling_maskformer.training.cards.training_plot import draw_training, training_curves

HISTORY = [
    {"step": 20, "loss": 9.0, "learning_rate": 1e-4},
    {"step": 40, "loss": 5.0},
    {"step": 40, "eval_mean_iou": 0.4, "eval_loss": 6.0},
    {"step": 60, "loss": 4.0},
    {"step": 80, "eval_mean_iou": 0.3, "eval_loss": 7.0},
    {"step": 80, "train_loss": 6.0, "train_runtime": 3.0},
    {"step": 80, "eval_mean_iou": 0.4, "eval_loss": 6.0},  # the best checkpoint again, at the end
]


def test_loss_and_metric_are_shown_at_their_steps():
    assert training_curves(HISTORY, "mean_iou") == {
        "loss": {"training": ([20, 40, 60], [9.0, 5.0, 4.0]), "evaluation": ([40, 80], [6.0, 7.0])},
        "mean_iou in evaluation": {"mean_iou": ([40, 80], [0.4, 0.3])},
    }


@pytest.mark.parametrize("metric", [None, "loss", "eval_loss"])
def test_the_loss_as_metric_is_shown_once(metric):
    assert list(training_curves(HISTORY, metric)) == ["loss"]


def test_the_plot_is_written_where_there_is_something_to_show(tmp_path, monkeypatch, caplog):
    assert draw_training(tmp_path, [{"step": 3, "train_runtime": 1.0}], "mean_iou") is None
    path = draw_training(tmp_path, HISTORY, "mean_iou")
    assert path.parent == tmp_path and Image.open(path).width > Image.open(path).height
    monkeypatch.setattr(charts.importlib.util, "find_spec", lambda name: None)
    assert draw_training(tmp_path, HISTORY, "mean_iou") is None and "matplotlib" in caplog.text


def test_a_plot_of_somebody_else_stays(tmp_path, caplog):
    (tmp_path / "training.png").write_bytes(b"mine")
    assert draw_training(tmp_path, HISTORY, "mean_iou") is None
    assert (tmp_path / "training.png").read_bytes() == b"mine" and "it stays" in caplog.text
    (tmp_path / "training.png").unlink()
    first = draw_training(tmp_path, HISTORY[:4], "mean_iou").read_bytes()
    assert draw_training(tmp_path, HISTORY, "mean_iou").read_bytes() != first  # that of the run before is replaced
