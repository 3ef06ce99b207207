"""Pictures to predict: found cheaply, named without clashes, and read or refused, whatever their files hold."""

import io
import os
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_maskformer.inference.decoding import FORMATS
from modeling_maskformer.inference.inputs import SUFFIXES, Picture, PictureFiles, find_pictures
from modeling_maskformer.inference.prediction_run.predict_pictures import predict_pictures
from modeling_maskformer.inference.prediction_run.records import RecordFile
from modeling_maskformer.inference.prediction_run.run import join_results
from modeling_maskformer.inference.prediction_run.writer import ResultWriter
from modeling_maskformer.inference.result_names import RECORDS


def save(path, size=(8, 6), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path, **options)


def names_of(*paths):
    return [picture.name for picture in find_pictures(paths)]


def test_a_picture_is_called_as_its_file_without_ending(tmp_path):
    for name in ("b/2.jpg", "b/10.PNG", "a.tif", "c.d.webp", "b.bmp"):
        save(tmp_path / name)
    (tmp_path / "b" / "text.txt").write_text("")
    (tmp_path / "b" / "._2.jpg").write_text("")  # as macOS leaves them
    (tmp_path / "folder.jpg").mkdir()
    save(tmp_path / "folder.jpg" / "x.png")
    assert names_of(tmp_path) == ["a", "b/10", "b/2", "b", "c.d", "folder.jpg/x"]
    assert names_of(tmp_path / "b.bmp", tmp_path / "b") == ["b", "10", "2"]


def test_a_file_that_several_paths_lead_to_is_one_picture(tmp_path, monkeypatch):
    for name in ("photos/a.jpg", "photos/b.jpg", "photos/c/a.jpg"):
        save(tmp_path / name)
    photos = tmp_path / "photos"
    assert names_of(photos, photos / "a.jpg") == ["a", "b", "c/a"]
    assert names_of(photos / "b.jpg", photos, photos) == ["b", "a", "c/a"]
    monkeypatch.chdir(tmp_path)
    assert names_of(photos, "photos/c") == ["a", "b", "c/a"]


def test_pictures_of_one_stem_keep_their_endings(tmp_path):
    for name in ("a.jpg", "a.png", "b.png", "sub/a.png"):
        save(tmp_path / name)
    assert names_of(tmp_path) == ["a.jpg", "a.png", "b", "sub/a"]


@pytest.mark.parametrize(
    "names", [("a.png", "A.png"), ("a.png", "A.PNG"), ("x/a.png", "X/a.png"), ("a.jpg", "a.png", "a.jpg.png")]
)
def test_names_that_a_disk_may_take_for_one_are_refused(tmp_path, names):
    for name in names:
        save(tmp_path / name)
    if len({path.name for path in tmp_path.rglob("*")}) < len(names):
        pytest.skip("this disk takes them for one")
    with pytest.raises(ValueError, match=r"would have the name of another picture's.* predict them separately"):
        find_pictures([tmp_path])


@pytest.mark.parametrize("name", ["../../x", "..", "a/../../x", "/tmp/x", "a\0b"])
def test_no_name_of_a_picture_leads_out_of_the_output_folder(tmp_path, name):
    """As a dataset may name its splits."""
    output = tmp_path / "deep" / "er" / "out"
    writer = ResultWriter(output, "semantic", {0: "sky"})
    records = RecordFile(output / RECORDS)
    pictures = [Picture(each, 0, lambda: Image.new("RGB", (8, 6))) for each in (name, "good")]
    predict_pictures(pictures, lambda images: [torch.zeros(6, 8, dtype=torch.int64)] * len(images), writer, records)
    totals = join_results(writer, pictures)
    assert (totals.done, totals.failed) == (1, 1)
    assert "leads out of the output folder" in (output / "failures.json").read_text()
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert all(path.startswith("deep/er/out/") for path in files) and len(files) == 5


@pytest.mark.skipif(os.name == "nt", reason="such names do not exist there")
def test_odd_names_of_files_stay_in_the_output_folder(tmp_path):
    names = ("a\\..\\..\\..\\x.png", "C:\\x.png", "%2e%2e%2fx.png", "-rf.png", "a\nb.png", "ü" * 100 + ".png")
    for name in names:
        save(tmp_path / "in" / name, format="PNG")
    writer = ResultWriter(tmp_path / "out", "semantic", {0: "sky"}, overlays=False)
    records = RecordFile(tmp_path / "out" / RECORDS)
    pictures = find_pictures([tmp_path / "in"])
    predict_pictures(pictures, lambda images: [torch.zeros(6, 8, dtype=torch.int64)] * len(images), writer, records)
    assert join_results(writer, pictures).done == 6
    assert len(list((tmp_path / "out" / "class_ids").iterdir())) == 6


def test_a_million_paths_are_cheap():
    count = 100_000
    tracemalloc.start()
    files = [("/data/photos", f"{number // 1000:04d}/{number:09d}.jpg") for number in range(count)]
    pictures = PictureFiles(files)
    picture = pictures[count - 1]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert picture.name == f"{(count - 1) // 1000:04d}/{count - 1:09d}" and len(pictures) == count
    assert peak < 300 * count  # bytes: 300 MB of a million


def test_links_in_a_circle_and_to_nothing_end_no_search(tmp_path):
    save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "circle").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "in" / "self").symlink_to("self")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    deep = tmp_path / "in"
    for _ in range(300):
        deep = deep / "d"
    deep.mkdir(parents=True)
    assert names_of(tmp_path / "in") == ["a", "gone"]
    with pytest.raises(OSError, match="No such file"):
        find_pictures([tmp_path / "in"])[1].load()


@pytest.mark.parametrize("output", ["", "seen", "deep/er/seen"])
def test_results_in_the_folder_of_pictures_are_no_pictures(tmp_path, output):
    """Of this run, also before there is any, and of another one below."""
    names = {"a", "more/b", "overlays/c", "seen/d"}  # the user's own, wherever nothing is written
    for name in names if output else names - {"overlays/c"}:
        save(tmp_path / f"{name}.png")
    expected = names_of(tmp_path)
    for folder in (tmp_path / output, tmp_path / "another"):
        for below in ("overlays/more", "class_ids", "panoptic", "records"):
            save(folder / below / "x.png")
    (tmp_path / "another" / "records" / "settings.json").write_text("{}")
    found = find_pictures([tmp_path], output_dir=tmp_path / output)
    assert [picture.name for picture in found] == expected == sorted(expected)
    link = tmp_path.with_name(tmp_path.name + " link")
    link.symlink_to(tmp_path)
    assert [picture.name for picture in find_pictures([link], output_dir=tmp_path / output)] == expected
    assert names_of(tmp_path / "another" / "overlays") == ["more/x"]  # asked for


@pytest.mark.parametrize("name", ["out/overlays", "out/overlays/more", "out/panoptic/x.png", "link"])
def test_pictures_that_lie_where_results_are_written_are_refused(tmp_path, name):
    for below in ("overlays/more", "panoptic"):
        save(tmp_path / "out" / below / "x.png")
    (tmp_path / "link").symlink_to(tmp_path / "out" / "overlays")
    with pytest.raises(ValueError, match="where predictions are kept: choose another --output_dir"):
        find_pictures([tmp_path / name], output_dir=tmp_path / "out")
    assert len(find_pictures([tmp_path / name], output_dir=tmp_path / "other")) == 1


def encoded(picture_format):
    """A small picture in a format, as its bytes."""
    content = io.BytesIO()
    options = {"save_all": True, "append_images": [Image.new("RGB", (8, 6))]} if picture_format == "MPO" else {}
    Image.new("RGB", (8, 6)).save(content, picture_format, **options)
    return content.getvalue()


@pytest.mark.parametrize("picture_format", FORMATS)
def test_a_folder_gives_the_pictures_of_all_formats_that_are_decoded(tmp_path, picture_format):
    if picture_format not in Image.SAVE:
        pytest.skip("this Pillow does not write it")
    for suffix in FORMATS[picture_format]:
        (tmp_path / f"a{suffix}").write_bytes(encoded(picture_format))
        (tmp_path / f"b{suffix.upper()}").write_bytes(encoded(picture_format))
    found = find_pictures([tmp_path])
    assert len(found) == 2 * len(FORMATS[picture_format])
    assert {picture.load().size for picture in found} == {(8, 6)}


def test_every_ending_that_pillow_knows_for_these_formats_is_a_pictures():
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
    assert known - {".pfm"} <= set(SUFFIXES)  # .pfm has no 8 bits


def test_how_many_files_were_passed_over_is_said(tmp_path, caplog):
    save(tmp_path / "a.jpg")
    find_pictures([tmp_path])
    assert not caplog.text
    for name in ("b.heic", "more/c.HEIC", "more/d.cr2", "README", ".DS_Store"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    save(tmp_path / "out" / "overlays" / "a.jpg")
    (tmp_path / "out" / "panoptic.json").write_text("{}")
    assert len(find_pictures([tmp_path], output_dir=tmp_path / "out")) == 1
    assert "files of other endings (2 .heic, 1 without, 1 .cr2), folders of results (1, such as" in caplog.text
    (tmp_path / "e.\x1b[31m").write_bytes(b"")
    find_pictures([tmp_path])
    assert r"1 .\x1b[31m" in caplog.text and "\x1b" not in caplog.text
    (tmp_path / "e.\x1b[31m").unlink()
    for number in range(9):
        (tmp_path / f"x.{number}").write_bytes(b"")
    find_pictures([tmp_path])
    assert "(2 .heic, 1 without, 1 .0, 1 .1, 1 .2, 8 more)" in caplog.text
    with pytest.raises(
        ValueError, match=r"holds no picture .*, but other things: files of other endings \(1 \.cr2, 1"
    ):
        (tmp_path / "a.jpg").unlink()
        find_pictures([tmp_path / "more"])


KINDS = {
    "cmyk.jpg": dict(mode="CMYK"),
    "palette.png": dict(mode="P"),
    "alpha.png": dict(mode="RGBA"),
    "bits.png": dict(mode="1"),
    "grey.tif": dict(mode="L"),
    "thin.png": dict(size=(4000, 3)),
}


@pytest.mark.parametrize("name", KINDS)
def test_pictures_of_usual_modes_become_rgb(tmp_path, name):
    save(tmp_path / name, **KINDS[name])
    assert find_pictures([tmp_path])[0].load().mode == "RGB"


def test_the_first_image_of_an_animation_counts(tmp_path):
    frames = [Image.new("RGB", (8, 6), (value,) * 3) for value in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert abs(int(np.asarray(find_pictures([tmp_path])[0].load()).max()) - 10) < 5


def test_a_picture_is_turned_as_its_camera_was_held(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "a.jpg", exif=exif)
    assert find_pictures([tmp_path])[0].load().size == (6, 8)


def broken_files():
    whole = Image.effect_noise((80, 60), 50)
    return {
        "empty.jpg": b"",
        "text.png": b"no picture",
        "printer.jpg": lambda path: whole.convert("RGB").save(path, "EPS"),
        "deep.png": lambda path: Image.new("I;16", (8, 6)).save(path),
        "float.tif": lambda path: Image.new("F", (8, 6)).save(path),
        "cut.png": lambda path: whole.save(path) or os.truncate(path, 500),
        "cut.jpg": lambda path: whole.save(path) or os.truncate(path, 500),
        "bomb.gif": b"GIF89a\xff\xff\xff\xff\x80\x00\x00"
        + b"\x00" * 6
        + b",\x00\x00\x00\x00\xff\xff\xff\xff\x00\x02\x02L\x01\x00;",
    }


@pytest.mark.parametrize("name", broken_files())
def test_what_is_no_picture_of_eight_bits_is_refused_with_its_reason(tmp_path, name):
    content = broken_files()[name]
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        content(tmp_path / name)
    with pytest.raises((OSError, ValueError)) as raised:
        find_pictures([tmp_path])[0].load()
    assert str(raised.value)
