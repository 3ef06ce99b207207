"""scripts/quickstart.py from start to end, without the time to learn anything."""

from script_runs import run

from scripts import quickstart


def test_the_quickstart_trains_measures_saves_reloads_and_draws(tmp_path, capsys, refused):
    folder = tmp_path / "out"
    run(quickstart.main, "--output_dir", folder, "--max_steps", 1)
    output = capsys.readouterr().out
    assert "on 200 held-out pictures after" in output
    assert "pipeline('image-segmentation') finds" in output
    assert len(list((folder / "pictures").glob("*.png"))) == 8
    assert "holds another run" in refused(quickstart.main, "--output_dir", folder)
