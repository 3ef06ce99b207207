"""A run ends where its loss or gradient is not finite, with step, batch and samples, and the batch in a file."""

import json

import pytest
import torch
from safetensors import safe_open
from stub_trainer import collate, make_trainer

from modeling_maskformer.training.divergence import MAX_IN_A_ROW_OF_FLOAT16, MAX_UNREAD, DivergenceWatch, _Value


def collate_with_names(rows):
    return collate(rows) | {"names": [f"square_{round(100 * float(image.min()))}" for image, _ in rows]}


def diverging_trainer(folder, when, **arguments):
    """A trainer in whose forward passes, counted from 0, `when(count, pixel_values)` may change the pixels."""
    trainer = make_trainer(folder, train_sampling_strategy="sequential", **arguments)
    trainer.data_collator = collate_with_names
    count = iter(range(1000))

    def change(module, arguments, named):
        return arguments, named | {"pixel_values": when(next(count), named["pixel_values"])}

    trainer.model.register_forward_pre_hook(change, with_kwargs=True)
    return trainer


def saved(file):
    with safe_open(file, "pt") as content:
        return {name: content.get_tensor(name) for name in sorted(content.keys())}, json.loads(
            content.metadata()["names"]
        )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_run_and_names_step_batch_and_samples(tmp_path, value):
    trainer = diverging_trainer(
        tmp_path,
        lambda count, pixels: pixels * (value if count == 5 else 1),
        max_steps=9,
        train=16,
        gradient_accumulation_steps=2,
        logging_strategy="steps",
        logging_steps=1,
    )
    with pytest.raises(FloatingPointError, match=r"Step 2: the loss is .*Batch 2 of the step, samples: square_10, s"):
        trainer.train()
    assert trainer.state.global_step == 2
    logged = [(entry["step"], 0 < entry["loss"] < 10) for entry in trainer.state.log_history]
    assert logged == [(1, True), (2, True)]
    tensors, names = saved(tmp_path / "diverged_batch_step_2.safetensors")
    assert names == ["square_10", "square_11"]
    expected = collate([trainer.train_dataset[10], trainer.train_dataset[11]])
    assert torch.equal(tensors["pixel_values"], expected["pixel_values"])
    assert torch.equal(tensors["segment_ids"], expected["segment_ids"])
    assert tensors["class_labels_1"].tolist() == [0, 1]


def test_a_gradient_that_is_not_finite_ends_the_run_before_anything_is_saved(tmp_path):
    trainer = diverging_trainer(
        tmp_path, lambda count, pixels: pixels, max_steps=3, save_strategy="steps", save_steps=2
    )

    def spoil(gradient):
        return gradient * float("nan") if trainer.state.global_step == 1 else gradient

    trainer.model.classifier.weight.register_hook(spoil)
    with pytest.raises(FloatingPointError, match=r"Step 1: the gradient is nan\. Batch 1 of the step"):
        trainer.train()
    assert not list(tmp_path.glob("checkpoint*")) and len(list(tmp_path.glob("diverged*"))) == 1


def test_a_matching_cost_that_is_not_finite_is_told_in_the_same_way(tmp_path):
    def diverge(count, pixels):
        if count == 2:
            raise FloatingPointError("The matching cost of decoder layer 1, image 0 of the batch is not finite.")
        return pixels

    trainer = diverging_trainer(tmp_path, diverge, max_steps=4)
    with pytest.raises(FloatingPointError, match=r"^Step 2: The matching cost of decoder layer 1.*samples: square_4"):
        trainer.train()
    assert saved(tmp_path / "diverged_batch_step_2.safetensors")[1] == ["square_4", "square_5"]


def test_a_collator_without_names_gets_the_same_error(tmp_path):
    trainer = diverging_trainer(tmp_path, lambda count, pixels: pixels * float("nan"), max_steps=1)
    trainer.data_collator = collate
    with pytest.raises(FloatingPointError, match=r"Step 0: the loss is nan.*samples: of unknown name"):
        trainer.train()


def test_under_float16_a_few_steps_may_be_left_out(tmp_path):
    watch = DivergenceWatch(tmp_path, scaled=True)
    nan = torch.tensor(float("nan"))
    for step in range(50):
        watch.add("gradient", nan, step, 1, {}, ())
        watch.add("loss", nan if step % MAX_IN_A_ROW_OF_FLOAT16 else torch.tensor(1.0), step, 1, {}, ())
    with pytest.raises(FloatingPointError, match="Step 50: the loss is nan"):
        watch.add("loss", nan, 50, 1, {}, ())


def test_several_processes_under_float16_leave_out_the_same_steps(tmp_path):
    told = []
    watch = DivergenceWatch(tmp_path, scaled=True, add_up=lambda is_bad: told.append(bool(is_bad)) or is_bad)
    for step in range(51):
        watch.add("loss", torch.tensor(float("nan") if step % MAX_IN_A_ROW_OF_FLOAT16 else 1.0), step, 1, {}, ())
        if step < 50:
            watch.end_step(torch.device("cpu"))
    watch.add("loss", torch.tensor(float("nan")), 50, 2, {}, ())
    with pytest.raises(FloatingPointError, match="Step 50: the loss is nan"):
        watch.end_step(torch.device("cpu"))
    assert told == [step % MAX_IN_A_ROW_OF_FLOAT16 > 0 for step in range(50)] + [True]


@pytest.mark.parametrize("elsewhere", [0, 1])
def test_a_gradient_of_several_processes_is_blamed_on_the_loss_that_has_spoilt_it(tmp_path, elsewhere):
    watch = DivergenceWatch(tmp_path, process=1, add_up=lambda is_bad: is_bad + elsewhere)
    batch = {"pixel_values": torch.ones(1)}
    watch.add("loss", torch.tensor(1.0), 6, 1, batch, ["here"])
    watch.add("gradient", torch.tensor(float("nan")), 6, 1, batch, ["here"])
    told = "Step 6: the loss is not finite in 1 of the other" if elsewhere else "the gradient is nan.*samples: here"
    with pytest.raises(FloatingPointError, match=told):
        watch.end_step(torch.device("cpu"))
    assert len(list(tmp_path.iterdir())) == 1 - elsewhere


class Late:
    """An event of a device that is behind."""

    def __init__(self):
        self.happened = False

    def query(self):
        return self.happened

    def synchronize(self):
        self.happened = True


def test_a_value_that_has_not_arrived_is_blamed_on_its_own_batch(tmp_path):
    watch = DivergenceWatch(tmp_path, process=3)
    batch = {"pixel_values": torch.ones(1)}
    watch.add("loss", torch.tensor(1.0), 6, 1, batch, ["before"])
    assert not watch._unread
    for step, value in ((7, float("nan")), (8, 1.0)):
        watch._unread.append(watch_value(step, value, batch))
    with pytest.raises(FloatingPointError, match=r"Step 7: the loss is nan\..*samples: sample_7; .*_process_3"):
        watch.refuse("The matching cost is not finite.", 9, 1, batch, ["sample_9"])
    assert saved(tmp_path / "diverged_batch_step_7_process_3.safetensors")[1] == ["sample_7"]


def watch_value(step, value, batch):
    return _Value("loss", step, 1, batch, [f"sample_{step}"], torch.tensor(value), Late())


def test_at_most_a_few_values_are_waited_for(tmp_path):
    watch = DivergenceWatch(tmp_path)
    events = []
    for step in range(9):
        entry = watch_value(step, 1.0, {})
        events.append(entry.event)
        watch._unread.append(entry)
        watch.add("loss", torch.tensor(1.0), step, 1, {}, ())
    assert len(watch._unread) <= MAX_UNREAD and events[0].happened and not events[-1].happened
    watch.check_all()
    assert all(event.happened for event in events)
