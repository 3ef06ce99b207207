"""Drawn samples replace those of an earlier call, and no picture of anybody else."""

from types import SimpleNamespace

import torch
from PIL import Image

from image_processing.drawing.signature import is_drawn_here
from modeling_maskformer.inference.pictures import draw_samples, drawn_in
from modeling_maskformer.targets import segments_from_class_map


class Paint:
    """Predicts that all is of class 0."""

    task = "semantic"
    model = SimpleNamespace(config=SimpleNamespace(id2label={0: "sky", 1: "road"}))

    def __call__(self, images):
        return [torch.zeros(image.height, image.width, dtype=torch.long) for image in images]


def sample(name):
    class_map = torch.tensor([0, 1])[:, None].expand(2, 4)
    return SimpleNamespace(image=Image.new("RGB", (4, 2)), segments=segments_from_class_map(class_map), name=name)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_drawn_samples_replace_those_drawn_before(tmp_path):
    drawn = draw_samples(Paint(), [sample("a"), sample("b")], tmp_path / "new")
    assert [path.name for path in drawn] == ["01_a.png", "02_b.png"] and drawn == drawn_in(tmp_path / "new")
    assert draw_samples(Paint(), [sample("c")], tmp_path / "new") == [tmp_path / "new" / "01_c.png"]
    assert names_in(tmp_path / "new") == ["01_c.png"]
    assert draw_samples(Paint(), [], tmp_path / "new") == [] and names_in(tmp_path / "new") == []


def test_pictures_of_somebody_else_stay_also_where_they_have_the_name(tmp_path):
    Image.new("RGB", (4, 4), "red").save(tmp_path / "01_a.png")
    (tmp_path / "02_broken.png").write_bytes(b"no picture")
    (tmp_path / "03_folder.png").mkdir()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    for _ in range(2):
        assert [path.name for path in draw_samples(Paint(), [sample("a")], tmp_path)] == ["01_a-2.png"]
    draw_samples(Paint(), [], tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == kept
    assert not is_drawn_here(tmp_path / "01_a.png")
