"""What a run does with its output folder: what it refuses, what it removes and when, and where it goes on."""

import json
import os

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import TrainerControl, TrainerState

from image_processing.drawing.charts import line_charts
from image_processing.drawing.signature import save_signed
from modeling_maskformer.data.held_out import HeldOut, HeldOutImage
from modeling_maskformer.training.arguments.run_arguments import RunArguments
from modeling_maskformer.training.cards.card_text import sign
from modeling_maskformer.training.saving.checkpoint_folders import (
    checkpoints_in,
    finish_checkpoint,
    problem_of,
    remove_old_checkpoints,
    unfinished_folder,
)
from modeling_maskformer.training.saving.only_run import FolderInUseError
from modeling_maskformer.training.saving.output_folder import TakeFolder, prepare_output_dir


def run_arguments(output_dir, **settings):
    return RunArguments(output_dir=str(output_dir), use_cpu=True, **settings)


def start_training(arguments, held_out=None):
    """What happens in the folder until the first step."""
    prepare_output_dir(arguments)
    TakeFolder(held_out).on_train_begin(arguments, TrainerState(), TrainerControl())


def write_checkpoint(folder):
    """What a checkpoint consists of, small."""
    folder.mkdir()
    (folder / "trainer_state.json").write_text("{}")
    save_file({"weight": torch.arange(5.0)}, folder / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt"):
        torch.save({}, folder / name)


@pytest.fixture
def used_folder(tmp_path):
    for name in ("config.json", "model.safetensors", "train_results.json", "notes.txt"):
        (tmp_path / name).write_text("{}")
    for step in (90, 180):
        write_checkpoint(tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-of-mine").mkdir()
    return tmp_path


def test_what_a_run_has_left_that_began_after_the_check_is_not_removed(tmp_path):
    arguments = run_arguments(tmp_path)
    prepare_output_dir(arguments)
    write_checkpoint(tmp_path / "checkpoint-90")
    with pytest.raises(FolderInUseError, match=r"holds another run \(checkpoint-90\)"):
        TakeFolder(None).on_train_begin(arguments, TrainerState(), TrainerControl())
    assert (tmp_path / "checkpoint-90").is_dir()


def test_a_folder_with_another_run_is_refused_and_what_was_found_is_named(used_folder):
    with pytest.raises(ValueError, match=r"holds another run \(checkpoint-180, checkpoint-90, config.json, "):
        prepare_output_dir(run_arguments(used_folder))
    assert (used_folder / "checkpoint-180").is_dir()


def names_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_overwriting_removes_the_other_run_and_nothing_else_once_training_starts(used_folder):
    before = names_in(used_folder)
    arguments = run_arguments(used_folder, overwrite_output_dir=True)
    prepare_output_dir(arguments)
    assert names_in(used_folder) == before
    take = TakeFolder()
    take.on_train_begin(arguments, TrainerState(), TrainerControl())
    assert names_in(used_folder) == ["checkpoint-of-mine", "notes.txt"]
    write_checkpoint(used_folder / "checkpoint-7")
    take.on_train_begin(arguments, TrainerState(), TrainerControl())  # the same trainer trains on
    assert (used_folder / "checkpoint-7").is_dir()


def test_a_checkpoint_that_is_written_once_more_takes_the_place_of_the_earlier_one(used_folder):
    unfinished = unfinished_folder(used_folder, 180)
    unfinished.mkdir()
    write_checkpoint(unfinished / "checkpoint-180")
    (unfinished / "checkpoint-180" / "new.txt").write_text("new")
    finish_checkpoint(unfinished / "checkpoint-180", used_folder / "checkpoint-180")
    assert (used_folder / "checkpoint-180" / "new.txt").is_file() and not list(unfinished.iterdir())
    remove_old_checkpoints(used_folder, 1, best=None)
    assert [path.name for path in checkpoints_in(used_folder)] == ["checkpoint-180"]
    assert not unfinished_folder(used_folder, 90).exists()


def test_what_a_run_starts_from_is_not_removed_for_it(used_folder):
    arguments = run_arguments(used_folder, overwrite_output_dir=True)
    for flag, path in [
        ("model", used_folder),
        ("model", used_folder / "checkpoint-90"),
        ("backbone_weights", used_folder / "checkpoint-90" / "model.safetensors"),
        ("backbone_weights", used_folder / "model.safetensors"),
    ]:
        with pytest.raises(ValueError, match=f"would remove {path}, which --{flag} starts from"):
            prepare_output_dir(arguments, {"model": None, flag: str(path)})
    for path in ("pretrained", "facebook/maskformer-swin-tiny-ade", str(used_folder.parent), None):
        prepare_output_dir(arguments, {"model": path})
    for checkpoint in ("last", str(used_folder / "checkpoint-90")):
        arguments.resume_from_checkpoint = checkpoint
        with pytest.raises(ValueError, match="which resume_from_checkpoint goes on from: pass one of them"):
            prepare_output_dir(arguments)


def test_a_run_that_goes_on_in_another_folder_does_not_write_over_a_run_there(used_folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "checkpoint-3"
    write_checkpoint(elsewhere)
    with pytest.raises(ValueError, match="holds another run"):
        prepare_output_dir(run_arguments(used_folder, resume_from_checkpoint=str(elsewhere)))
    start_training(run_arguments(used_folder, resume_from_checkpoint=str(elsewhere), overwrite_output_dir=True))
    assert names_in(used_folder) == ["checkpoint-of-mine", "notes.txt"] and elsewhere.is_dir()


def test_a_link_to_a_checkpoint_is_gone_on_from_where_it_stands(used_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("linked")
    (folder / "checkpoint-90").symlink_to(used_folder / "checkpoint-90")
    arguments = run_arguments(folder, resume_from_checkpoint="last")
    start_training(arguments)
    assert arguments.resume_from_checkpoint == str(folder / "checkpoint-90")
    start_training(run_arguments(folder, overwrite_output_dir=True))  # the link goes, what it leads to stays
    assert names_in(folder) == [] and (used_folder / "checkpoint-90" / "model.safetensors").is_file()


def test_pictures_and_plot_go_with_the_run_that_drew_them_and_others_stay(used_folder):
    (used_folder / "pictures").mkdir()
    picture = Image.new("RGB", (4, 4))
    for name in ("01_holiday.png", "training.png"):
        picture.save(used_folder / "pictures" / name)
    save_signed(picture, used_folder / "pictures" / "01_street.png")
    line_charts(used_folder / "training.png", {"loss": {"training": ([1, 2], [3.0, 2.0])}}, "step")
    with pytest.raises(ValueError, match=r"pictures, train_results.json, training.png\)"):
        prepare_output_dir(run_arguments(used_folder))
    start_training(run_arguments(used_folder, overwrite_output_dir=True))
    assert names_in(used_folder / "pictures") == ["01_holiday.png", "training.png"]
    assert not (used_folder / "training.png").exists()
    picture.save(used_folder / "training.png")
    start_training(run_arguments(used_folder))
    assert (used_folder / "training.png").exists()


def test_what_is_held_out_is_kept_once_training_starts_and_is_no_run_alone(tmp_path):
    held_out = tmp_path / "held_out.json"
    start_training(run_arguments(tmp_path), HeldOut("train", [HeldOutImage(3, "street_7", "0" * 64)]))
    assert '"street_7"' in held_out.read_text()
    start_training(run_arguments(tmp_path))  # with a validation split
    assert not held_out.exists()


def test_a_run_that_goes_on_keeps_the_file_of_its_beginning(used_folder):
    (used_folder / "held_out.json").write_text("as it was")
    checkpoint = str(used_folder / "checkpoint-90")
    now = HeldOut("train", [HeldOutImage(3, "street_7", "0" * 64)])
    start_training(run_arguments(used_folder, resume_from_checkpoint=checkpoint), now)
    assert (used_folder / "held_out.json").read_text() == "as it was"


def test_a_card_goes_with_the_run_it_is_of_unless_it_was_edited(used_folder):
    card = used_folder / "README.md"
    card.write_text(sign("# A run\n"))
    with pytest.raises(ValueError, match=r"README\.md"):
        prepare_output_dir(run_arguments(used_folder))
    start_training(run_arguments(used_folder, overwrite_output_dir=True))
    assert not card.exists()
    card.write_text(sign("# A run\n").replace("A run", "My run"))
    start_training(run_arguments(used_folder))
    assert "My run" in card.read_text()


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_training(used_folder, tmp_path_factory, monkeypatch):
    file = tmp_path_factory.mktemp("other") / "file"
    file.touch()
    with pytest.raises(ValueError, match=r"cannot be a folder: .*file is a file"):
        prepare_output_dir(run_arguments(file / "run"))
    monkeypatch.setattr(os, "access", lambda path, mode: path != used_folder)  # root may write where others may not
    for folder, last in [(used_folder / "new" / "run", None), (used_folder, "last")]:
        with pytest.raises(ValueError, match=f"output_dir {folder} cannot be written to: .* make {used_folder} wri"):
            prepare_output_dir(run_arguments(folder, resume_from_checkpoint=last))


def test_a_new_or_unrelated_folder_is_fine(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    start_training(run_arguments(tmp_path))
    start_training(run_arguments(tmp_path / "new"))
    assert (tmp_path / "notes.txt").exists()


def test_last_means_the_newest_checkpoint(used_folder):
    arguments = run_arguments(used_folder, resume_from_checkpoint="last")
    prepare_output_dir(arguments)
    assert arguments.resume_from_checkpoint == str(used_folder / "checkpoint-180")


@pytest.mark.parametrize("lost", ["trainer_state.json", "model.safetensors", "optimizer.pt"])
@pytest.mark.parametrize("is_cut_off", [False, True])
def test_last_skips_what_is_not_whole_and_says_so(used_folder, lost, is_cut_off, caplog):
    (used_folder / "unfinished-270").mkdir()
    path = used_folder / "checkpoint-180" / lost
    if is_cut_off:
        path.write_bytes(path.read_bytes()[:-1])
    elif lost == "optimizer.pt":
        path.write_bytes(b"")
    else:
        path.unlink()
    arguments = run_arguments(used_folder, resume_from_checkpoint="last")
    start_training(arguments)
    assert "checkpoint-180 is not whole" in caplog.text and "unfinished-270" in caplog.text
    assert arguments.resume_from_checkpoint == str(used_folder / "checkpoint-90")
    assert not (used_folder / "unfinished-270").exists()
    with pytest.raises(ValueError, match=rf"checkpoint-180 is no checkpoint to resume from \(.*{lost}"):
        prepare_output_dir(run_arguments(used_folder, resume_from_checkpoint=str(used_folder / "checkpoint-180")))


def test_a_checkpoint_in_shards_has_all_that_its_index_names(tmp_path):
    write_checkpoint(tmp_path / "checkpoint-90")
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    index = {"weight_map": dict(zip(("backbone.weight", "head.weight"), shards, strict=True))}
    (tmp_path / "checkpoint-90" / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "checkpoint-90" / "model.safetensors").rename(tmp_path / "checkpoint-90" / shards[0])
    assert problem_of(tmp_path / "checkpoint-90") == f"no {shards[1]}"
    save_file({"head.weight": torch.arange(5.0)}, tmp_path / "checkpoint-90" / shards[1])
    assert problem_of(tmp_path / "checkpoint-90") is None


def test_the_newest_and_the_best_checkpoint_are_never_removed(tmp_path):
    for step in (10, 20, 30, 40):
        write_checkpoint(tmp_path / f"checkpoint-{step}")

    def steps():
        return [int(path.name.split("-")[1]) for path in checkpoints_in(tmp_path)]

    remove_old_checkpoints(tmp_path, None, None)
    assert steps() == [10, 20, 30, 40]
    remove_old_checkpoints(tmp_path, 3, str(tmp_path / "checkpoint-10"))
    assert steps() == [10, 30, 40]
    remove_old_checkpoints(tmp_path, 1, str(tmp_path / "checkpoint-10"))
    assert steps() == [10, 40] and not list(tmp_path.glob("unfinished-*"))


@pytest.mark.parametrize("limit", [1, 2, 4, 5, 9])
def test_none_is_removed_before_there_are_more_than_the_limit(tmp_path, limit):
    for count in range(1, 8):
        (tmp_path / f"checkpoint-{count}").mkdir()
        remove_old_checkpoints(tmp_path, limit, None)
        expected = range(max(1, count - limit + 1), count + 1)
        assert [path.name for path in checkpoints_in(tmp_path)] == [f"checkpoint-{step}" for step in expected]


@pytest.mark.parametrize("lost", [["optimizer.pt", "scheduler.pt"], ["optimizer.pt"], ["scheduler.pt"]])
@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_a_checkpoint_of_the_model_alone_is_refused_with_the_reason(tmp_path, lost, ema_decay):
    checkpoint = tmp_path / "checkpoint-90"
    write_checkpoint(checkpoint)
    for name in lost:
        (checkpoint / name).unlink()
    for wanted in ("last", str(checkpoint)):
        with pytest.raises(ValueError, match=f"no checkpoint to resume from .*no {lost[0]}, .* as save_only_mod"):
            prepare_output_dir(run_arguments(tmp_path, resume_from_checkpoint=wanted, ema_decay=ema_decay))
    (checkpoint / "global_step90").mkdir()  # where DeepSpeed keeps both
    prepare_output_dir(run_arguments(tmp_path, resume_from_checkpoint="last"))


@pytest.mark.parametrize("wanted", ["last", "checkpoint-7"])
def test_resuming_from_nothing_is_refused(tmp_path, wanted):
    with pytest.raises(ValueError, match=r"no checkpoint to resume from"):
        prepare_output_dir(run_arguments(tmp_path, resume_from_checkpoint=wanted))
