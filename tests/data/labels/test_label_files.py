"""Files that name the classes, in the forms in which people have them."""

import json

import datasets
import huggingface_hub
import numpy as np
import pytest
from huggingface_hub.errors import EntryNotFoundError, OfflineModeIsEnabled

from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.errors import DataError
from modeling_maskformer.data.labels.label_files import read_named_ids
from modeling_maskformer.data.layouts import open_tables
from modeling_maskformer.data.layouts.open_tables import LABEL_FILES

PLAIN = {0: "sky", 1: "road", 2: "two wheeler"}
SPARSE = {7: "sky", 11: "road", 26: "two wheeler"}
COLOURS = {"sky": (70, 130, 180), "road": (128, 64, 128), "two wheeler": (0, 0, 230)}
FORMS = [
    ("labels.txt", "sky\nroad\n\n# the last one\ntwo wheeler\n", PLAIN),
    ("labels.txt", "\ufeffsky\r\nroad\r\ntwo wheeler", PLAIN),
    ("labels.txt", "7 sky\n11 road\n26 two wheeler\n", SPARSE),
    ("labels.txt", "7: sky\n11: road\n26: two wheeler\n", SPARSE),
    ("labels.txt", "7\tsky\n11\troad\n26\ttwo wheeler\n", SPARSE),
    ("labels.txt", "sky: 7\nroad: 11\ntwo wheeler: 26\n", SPARSE),
    ("labels.txt", "__ignore__\nsky\nroad\ntwo wheeler", PLAIN),  # LabelMe's
    ("obj.names", "sky\nroad\ntwo wheeler", PLAIN),
    ("labels.csv", "id,name\n7,sky\n11,road\n26,two wheeler\n", SPARSE),
    ("labels.csv", "Name, Pixel Value\nsky, 7\nroad, 11\ntwo wheeler, 26\n", SPARSE),
    ("labels.csv", "label;class\n7;sky\n11;road\n26;two wheeler\n", SPARSE),
    ("labels.csv", "class,label\n7,sky\n11,road\n26,two wheeler\n", SPARSE),
    ("labels.csv", "class,description\nsky,above\nroad,below\ntwo wheeler,bike\n", PLAIN),
    ("labels.csv", "7,sky\n11,road\n26,two wheeler\n", SPARSE),
    ("labels.csv", "sky,7\nroad,11\ntwo wheeler,26\n", SPARSE),
    ("labels.csv", "Nummer,Bezeichnung\n7,sky\n11,road\n26,two wheeler\n", SPARSE),
    ("labels.csv", "sky\nroad\ntwo wheeler\n", PLAIN),
    ("labels.tsv", "id\tname\n7\tsky\n11\troad\n26\ttwo wheeler\n", SPARSE),
    ("labels.yaml", "names: [sky, road, two wheeler]", PLAIN),
    ("labels.yaml", "path: .\nnames:\n  7: sky\n  11: road\n  26: two wheeler\n", SPARSE),
    ("labels.yml", "sky: 7\nroad: 11\ntwo wheeler: 26\n", SPARSE),
    ("labels.yml", "- sky\n- road\n- two wheeler\n", PLAIN),
    (
        "config.json",
        json.dumps({"model_type": "maskformer", "id2label": {str(k): v for k, v in SPARSE.items()}}),
        SPARSE,
    ),
    ("coco.json", json.dumps({"images": [], "categories": [{"id": k, "name": v} for k, v in SPARSE.items()]}), SPARSE),
    ("labels.json", json.dumps([{"name": name, "color": "#ff0000", "attributes": []} for name in COLOURS]), PLAIN),
]


@pytest.mark.parametrize(("name", "text", "expected"), FORMS)
def test_classes_are_read_from_files_of_any_usual_form(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text, encoding="utf-8")
    named = read_named_ids(tmp_path / name)
    assert named.names == expected and named.colours is None
    assert list(named.names) == list(expected)


def test_words_that_yaml_takes_for_truth_values_are_names(tmp_path):
    (tmp_path / "labels.yaml").write_text("names: {0: no, 1: on, 2: 1.0}")
    assert read_named_ids(tmp_path / "labels.yaml").names == {0: "no", 1: "on", 2: "1.0"}


@pytest.mark.parametrize(
    ("name", "text", "start"),
    [
        ("a.csv", "name,r,g,b\n" + "".join(f"{n}, {r}, {g}, {b}\n" for n, (r, g, b) in COLOURS.items()), 0),
        ("a.csv", "".join(f"{n},{r},{g},{b}\n" for n, (r, g, b) in COLOURS.items()), 0),
        (
            "a.csv",
            "id,red,green,blue,class\n"
            + "".join(f"{k + 5},{r},{g},{b},{n}\n" for k, (n, (r, g, b)) in enumerate(COLOURS.items())),
            5,
        ),
        ("a.txt", "".join(f"{r} {g} {b}\t{n}\n" for n, (r, g, b) in COLOURS.items()), 0),
        (
            "a.txt",
            "# label:color_rgb:parts:actions\n" + "".join(f"{n}:{r},{g},{b}::\n" for n, (r, g, b) in COLOURS.items()),
            0,
        ),
        ("a.json", json.dumps(COLOURS), 0),
        ("a.json", json.dumps([{"id": k, "name": n, "color": c} for k, (n, c) in enumerate(COLOURS.items(), 3)]), 3),
        ("a.json", json.dumps({str(k): {"name": n, "color": c} for k, (n, c) in enumerate(COLOURS.items(), 3)}), 3),
        ("a.yaml", "".join(f"{n}: [{r}, {g}, {b}]\n" for n, (r, g, b) in COLOURS.items()), 0),
    ],
)
def test_a_label_file_may_tell_the_colours_of_masks(tmp_path, save_picture, name, text, start):
    (tmp_path / name).write_text(text)
    named = read_named_ids(tmp_path / name)
    assert named.names == dict(enumerate(COLOURS, start))
    ids = np.random.default_rng(0).integers(0, 3, (6, 8))
    for number in range(2):
        save_picture(tmp_path / "data" / "images" / f"{number}.png", np.zeros((6, 8, 3), np.uint8))
        save_picture(tmp_path / "data" / "masks" / f"{number}.png", np.uint8(list(COLOURS.values()))[ids])
    data = open_dataset(str(tmp_path / "data"), "semantic", id2label=tmp_path / name)
    assert data.labels.names == tuple(COLOURS)
    masks = data.splits["train"][1].segments.masks().numpy()
    assert (masks == (ids == np.arange(3)[:, None, None])).all()


@pytest.mark.parametrize("name", [name for name in LABEL_FILES if name.endswith((".txt", ".csv", ".yaml"))])
def test_label_files_in_the_folder_of_a_dataset_are_found(paired_folder, name):
    root = paired_folder()
    texts = {".txt": "sky\nroad\ncar\n", ".csv": "id,name\n0,sky\n1,road\n2,car\n", ".yaml": "names: [sky, road, car]"}
    (root / name).write_text(texts[name[name.rindex(".") :]])
    data = open_dataset(str(root), "semantic")
    assert data.labels.names == ("sky", "road", "car") and len(data.splits["train"]) == 5


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "\n\n", "names no class"),
        ("a.csv", "", "names no class"),
        ("a.csv", "id,name\n", "names no class"),
        ("a.csv", "id,name\n1,sky\n1,road\n", "an id stands twice"),
        ("a.csv", "id,name\nx,sky\n", "a value of pixels and a name"),
        ("a.csv", "id,name\n1,\n", "a value of pixels and a name"),
        ("a.csv", "1,sky\nroad\n", "some classes have an id and some have none"),
        ("a.yaml", "1: sky\n1: road\n", "'1' stands twice, in lines 1 and 2"),
        ("a.json", '{"names": {"1": "sky", "1": "road"}}', "'1' stands twice"),
        ("a.yaml", "a: [", "YAML is expected"),
        ("a.yaml", "", "is expected"),
        ("a.yaml", "a: !!python/object/apply:os.system [echo]", "has the colour echo"),
        ("a.json", "[" * 100_000, "JSON is expected"),
        ("a.json", '[{"id": NaN, "name": "sky"}]', "a category has the id nan"),
        ("a.json", '[{"id": 1, "name": ["sky"]}]', r"the name \['sky'\]"),
        ("a.json", '{"sky": 1e400}', "integer id and a name"),
        ("a.json", '{"sky": [1, 2, 300]}', "class 'sky' has the colour 1, 2, 300"),
        ("a.json", b"\xff\xfe\x00", "UTF-8"),
    ],
)
def test_a_file_without_classes_is_refused_by_name(tmp_path, name, text, words):
    file = tmp_path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=words) as error:
        read_named_ids(file)
    assert str(file) in str(error.value)


@pytest.fixture
def hub(monkeypatch, save_picture, tmp_path):
    """Two rows of maps without names, as of a dataset on the Hub; what is asked for there is listed."""
    cells = [str(save_picture(tmp_path / f"{number}.png", np.eye(4, dtype=np.uint8) * 2)) for number in range(2)]
    rows = datasets.Dataset.from_dict({"image": cells, "label": cells})
    rows = rows.cast_column("image", datasets.Image()).cast_column("label", datasets.Image())
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: datasets.DatasetDict({"train": rows}))
    monkeypatch.setattr(open_tables, "without_outside_files", lambda rows, *_: rows)
    asked = []

    def download(repo_id, filename, repo_type):
        asked.append((repo_id, filename, repo_type))
        if isinstance(file, Exception):
            raise file
        return str(file)

    file = tmp_path / "id2label.json"
    file.write_text('{"0": "sky", "2": "road"}')
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)

    def answer(with_what):
        nonlocal file
        file = with_what

    return asked, answer, file


def test_the_names_beside_a_dataset_on_the_hub_are_fetched(hub):
    asked, _, _ = hub
    assert open_dataset("someone/streets", "semantic").labels.names == ("sky", "road")
    assert asked == [("someone/streets", "id2label.json", "dataset")]
    assert open_dataset("someone/streets", "semantic", id2label={"0": "a", "2": "b"}).labels.names == ("a", "b")
    assert len(asked) == 1  # not where names are given


@pytest.mark.parametrize("error", [OfflineModeIsEnabled("offline"), EntryNotFoundError("404"), ConnectionError("net")])
def test_without_network_or_file_nothing_is_said_but_in_the_debug_log(hub, caplog, error):
    _, answer, file = hub
    answer(error)
    assert open_dataset("someone/streets", "semantic").labels.names == ("class_0", "class_2")
    assert "id2label.json" not in caplog.text
    answer(file)
    file.write_text("<html>")
    assert open_dataset("someone/streets", "semantic").labels.names == ("class_0", "class_2")


@pytest.mark.parametrize("name", ["nowhere.txt", "long" * 900, "a\0b"])
def test_a_file_that_cannot_be_there_is_said_not_to_be(name):
    with pytest.raises(DataError, match="There is no label file"):
        read_named_ids(name)
