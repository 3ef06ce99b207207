"""What every model card is made with: strict templates, commands without folders, and a mark on what a run wrote."""

import html
import math
import re
import shlex
from types import SimpleNamespace

import jinja2
import numpy as np
import pytest
from huggingface_hub import ModelCard, ModelCardData
from tiny import tiny_model
from transformers import TrainerState

from modeling_maskformer.data.samples import Sample
from modeling_maskformer.data.statistics import DataStatistics
from modeling_maskformer.evaluation.results import results_table
from modeling_maskformer.targets import segments_from_class_map
from modeling_maskformer.training.arguments.arguments import MaskFormerTrainingArguments
from modeling_maskformer.training.arguments.augmentation_arguments import AugmentationArguments
from modeling_maskformer.training.arguments.data_arguments import DataArguments
from modeling_maskformer.training.arguments.model_arguments import ModelArguments
from modeling_maskformer.training.cards.card_data import card_data
from modeling_maskformer.training.cards.card_text import (
    is_signed,
    render_card,
    shown_command,
    sign,
    table_cell,
    without_folders,
)
from modeling_maskformer.training.cards.model_card import RunDescription, trained_model_card


def test_a_card_is_front_matter_and_the_filled_template():
    card = ModelCard(render_card("# {{ name }}\n", ModelCardData(library_name="transformers"), name="street"))
    assert card.data.to_dict() == {"library_name": "transformers"}
    assert card.text.strip() == "# street"


def test_a_value_that_the_template_lacks_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="nmae"):
        render_card("# {{ nmae }}\n", ModelCardData(), name="street")


def test_no_name_breaks_a_table():
    assert table_cell("a|b\n<i>*c* _d_ mean_iou") == r"a\|b \<i\>\*c\* \_d\_ mean_iou"


@pytest.mark.parametrize(
    "label",
    [
        "![x](https://example.org/track.png)",
        "[click](javascript:alert)",
        "<img src=x onerror=alert(1)>",
        "<https://example.org>",
        "https://example.org and www.example.org",
        "&lt;b&gt; &#x3c;script&#x3e;",
        "**bold** __bold__ ~~gone~~ `code`",
        "a|b\\|c",
        "\\*not escaped\\*",
        "tree, oak_tree: tall (wild) 50% - 1. + = ;",
    ],
)
def test_a_name_is_shown_as_it_is_and_makes_no_markup(label):
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable(["table", "strikethrough"])
    rendered = markdown.render(f"| class |\n|---|\n| {table_cell(label)} |\n")
    (shown,) = re.findall("<td>(.*)</td>", rendered)
    assert "<" not in shown and html.unescape(shown) == label
    assert re.search("<p>(.*)</p>", markdown.render(f"It finds: {table_cell(label)}."))[1] == f"It finds: {shown}."


def test_addresses_mentions_formulas_and_hidden_characters_are_broken():
    text = table_cell("https://a.org WWW.a.org me@a.org @team #12 $x$ :smile: \u202egnp\u200b")
    assert text == r"https\://a.org WWW\.a.org me\@a.org \@team \#12 \$x\$ \:smile: gnp"


def test_a_text_is_signed_until_a_character_changes(tmp_path):
    path = tmp_path / "README.md"
    assert not is_signed(path)
    path.write_text(sign("# A card\n"))
    assert is_signed(path)
    signed = path.read_text()
    for edited in (signed.replace("A card", "My card"), signed + "more\n", "# A card\n", "", signed + signed):
        path.write_text(edited)
        assert not is_signed(path), edited
    path.write_bytes(b"\xff\xfe")
    assert not is_signed(path)


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("/data/street", "street"),
        ("/data/street/", "street"),
        ("~/street", "street"),
        ("../../street", "street"),
        ("runs/../../street", "street"),
        ("C:\\data\\street", "street"),
        ("\\\\server\\share\\street", "street"),
        ("file:///data/street.json", "street.json"),
        ("--dataset=/data/street", "--dataset=street"),
        ("--dataset=C:/data/street", "--dataset=street"),
        ("/", "..."),
        ("data/street", "data/street"),
        ("facebook/maskformer-swin-tiny-coco", "facebook/maskformer-swin-tiny-coco"),
        ("https://example.org/a", "https://example.org/a"),
        ("0.5", "0.5"),
        ("-1", "-1"),
        ("", ""),
    ],
)
def test_a_path_is_shown_without_the_folders_of_a_machine(argument, shown):
    assert without_folders(argument) == shown


def test_a_command_shows_each_setting_once_and_no_secret():
    flags = [
        "--dataset",
        "/data/my street",
        "--rate",
        "1",
        "--hub_token",
        "secret",
        "--api_key=secret",
        "--sizes",
        "3",
        "4",
        "--rate",
        "2",
    ]
    text = shown_command(["python", "scripts/train.py", *flags])
    assert shlex.split(text.replace("\\\n", "")) == [
        *("python", "scripts/train.py", "--dataset", "my street", "--sizes", "3", "4", "--rate", "2")
    ]


def test_a_command_has_a_line_for_each_setting():
    flags = [word for number in range(3) for word in (f"--setting_{number}", str(number))]
    text = shown_command(["python", "scripts/train.py", *flags])
    assert shlex.split(text.replace("\\\n", "")) == ["python", "scripts/train.py", *flags]
    assert [line.split()[0] for line in text.splitlines()] == ["python", "--setting_0", "--setting_1", "--setting_2"]


def found_of(*labels_of_images, num_images=None):
    """Numbers of images of 4 x 6 pixels whose rows show these classes; the last row is void."""
    found = DataStatistics(num_images or len(labels_of_images))
    for labels in labels_of_images:
        class_map = np.full((4, 6), 255)
        for row, label in enumerate(labels):
            class_map[row] = label
        found.add(Sample(None, segments_from_class_map(class_map), "0"))
    return found


def test_the_images_are_told_by_class_and_what_they_lack():
    training = found_of(*[[0, 1]] * 30, *[[0, 0, 3]] * 2)
    data = card_data(training, found_of([0], [0, 3], num_images=50), ["road", "car", "boat", "bus"])
    assert data.sentences == (
        "32 training images, all of 4x6 pixels (height x width), 2 segments in each image.",
        "50 evaluation images (numbers are of 2 of them), all of 4x6 pixels (height x width), 1 to 2 segments an "
        "image, 1.5 on average.",
    )
    assert data.classes == {
        "road": ("32", "32", "52 %", "2"),  # 34 of 66 rows
        "car": ("30", "30", "45 %", "0"),
        "boat": ("0", "0", "0 %", "0"),
        "bus": ("2", "2", "3.0 %", "1"),
    }
    assert data.limits == (
        "No training image has any of these classes, which it cannot know: boat.",
        "Fewer than 10 training images have: bus (2).",
        "No evaluation image of the 2 looked at has any of these classes, and how well it finds them was not "
        "measured: car, boat.",
    )
    assert card_data(DataStatistics(7), DataStatistics(2), ["road"]) is None


def test_of_few_images_it_is_not_said_which_classes_few_have():
    assert card_data(found_of([0, 1], [0]), found_of([0, 1]), ["road", "car"]).limits == ()


HOSTILE = "[x](https://a.org)<img src=x onerror=alert(1)> `c` **b** |\n# head\n---\nlicense: mit ``` {{ 7 * 7 }}"


def test_no_name_of_a_class_dataset_split_model_or_picture_makes_markup_in_a_card(tmp_path):
    markdown = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable(["table"])
    (tmp_path / "run").mkdir()
    training = SimpleNamespace(
        args=MaskFormerTrainingArguments(output_dir=str(tmp_path / "run"), use_cpu=True, report_to="none"),
        state=TrainerState(max_steps=1),
        model=tiny_model(id2label={0: "road", 1: HOSTILE}),
        train_dataset=None,
        eval_dataset=SimpleNamespace(samples=SimpleNamespace(split=HOSTILE)),
        evaluator=SimpleNamespace(
            task="semantic",
            num_images=2,
            results={"mean_iou": 0.5, "per_class": {HOSTILE: {"iou": 0.5}, f"no {HOSTILE}": {"iou": math.nan}}},
        ),
        run_description=RunDescription(
            DataArguments(dataset=HOSTILE),
            ModelArguments(model=HOSTILE),
            AugmentationArguments(),
            found=card_data(found_of([0]), found_of([0]), ["road", HOSTILE]),
        ),
        examples={"The best one.": tmp_path / "run" / "a b](x)<img>.png"},
        plot=None,
    )
    card = ModelCard(trained_model_card(training))
    rendered = markdown.render(card.text)
    assert "onerror=alert" in html.unescape(rendered) and "7 * 7" in rendered  # shown as it is
    assert not re.search("<img src=.?x|<strong>|<h1>head|<hr", rendered)
    links = re.findall('(?:href|src)="([^"]*)"', rendered)
    assert all("a.org" not in link for link in links), links
    assert [link for link in links if "img" in link] == ["a%20b%5D%28x%29%3Cimg%3E.png"]
    assert "Without numbers: no [x](https://a.org)" in html.unescape(rendered)
    assert "early crop" not in card.text and "short edges" not in card.text  # settings without an effect
    assert "license" not in card.data.to_dict()
    assert card.data.datasets is None and card.data.eval_results[0].dataset_type == "unknown"  # no name of the Hub's


def test_names_of_classes_do_not_steer_a_terminal():
    table = results_table({"mean_iou": 0.5, "per_class": {"car\x1b[2J\r\u202e": {"iou": 0.5}}})
    assert table.replace("\n", "").isprintable()
    assert "car?[2J??" in table
