"""model_cards/zoo.yaml -> the cards of the original's published checkpoints, and a list of them.

python scripts/make_model_cards.py           # writes model_cards/*.md
python scripts/make_model_cards.py --check   # writes nothing; names the files that differ, with exit code 1
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from modeling_maskformer.training.cards.card_text import fill_template, render_card

FOLDER = Path(__file__).resolve().parents[1] / "model_cards"
MARK = "<!-- Written by scripts/make_model_cards.py from zoo.yaml, which is what to change. -->\n"
METRICS = {"mean_iou": "mean IoU in percent", "pq": "PQ in percent"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the cards, or checks them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only tell which files are not as the table says")
    args = parser.parse_args(arguments)
    cards = make_cards(read_zoo())
    outdated = outdated_cards(cards)
    if args.check:
        if outdated:
            sys.exit(f"Not as zoo.yaml says: {', '.join(outdated)}. Run python scripts/make_model_cards.py.")
        return
    for name in outdated:
        if name in cards:
            (FOLDER / name).write_text(cards[name], encoding="utf-8")
        else:
            (FOLDER / name).unlink()
    print(f"{len(cards)} files, {len(outdated)} of them changed.")


def read_zoo() -> dict[str, Any]:
    """The table: see the comments in model_cards/zoo.yaml."""
    return yaml.safe_load((FOLDER / "zoo.yaml").read_text(encoding="utf-8"))


def make_cards(zoo: Mapping[str, Any]) -> dict[str, str]:
    """File name -> text, of the card of each model and of the list of them."""
    cards = {f"{name}.md": make_card(name, zoo) for name in zoo["models"]}
    return cards | {"README.md": make_list(zoo)}


def outdated_cards(cards: Mapping[str, str]) -> list[str]:
    """Files in model_cards/ that are missing, other than in `cards`, or of a model that the table has no more.

    A card without the mark of this script is somebody's own.
    """
    found = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
    ours = cards.keys() | {name for name, text in found.items() if text.endswith(MARK)}
    return sorted(name for name in ours if cards.get(name) != found.get(name))


def make_card(name: str, zoo: Mapping[str, Any]) -> str:
    """The card of one model of the table."""
    model = zoo["models"][name]
    data = zoo["data"][model["data"]]
    configuration = model["folder"].split("/")[-1]
    text = render_card(
        _template("card"),
        metadata_of(name, zoo),
        name=name,
        model=model,
        data=data,
        sources=zoo["sources"],
        architecture=zoo["architectures"][model["architecture"]],
        backbone=zoo["backbones"][model["backbone"]],
        training=zoo["training"][model["training"]],
        sides=model.get("sides", data["sides"]),
        metric=METRICS[data["metric"]],
        configuration=configuration,
        file=f"model_final_{model['checksum']}.pkl",
    )
    return f"{text}\n{MARK}"


def metadata_of(name: str, zoo: Mapping[str, Any]) -> ModelCardData:
    """The front matter of a model's card, whose results name their source."""
    model = zoo["models"][name]
    data = zoo["data"][model["data"]]
    scores = {"one scale": model["single"]}
    if "multi" in model:
        scores["several scales and flip"] = model["multi"]
    return ModelCardData(
        license=zoo["sources"]["weights_license"],
        library_name="transformers",
        pipeline_tag="image-segmentation",
        tags=["maskformer", "image-segmentation", f"{data['task']}-segmentation", "arxiv:2107.06278"],
        datasets=[data["hub_name"]],
        metrics=[data["metric"]],
        model_name=name,
        eval_results=[
            EvalResult(
                task_type="image-segmentation",
                task_name=f"{data['task']} segmentation",
                dataset_type=data["hub_name"],
                dataset_name=f"{data['title']}, {data['classes']} classes",
                metric_type=data["metric"],
                metric_name=f"{METRICS[data['metric']]}, {how} (published by the authors)",
                metric_value=score,
                source_name="Model zoo of the original MaskFormer",
                source_url=zoo["sources"]["model_zoo"],
            )
            for how, score in scores.items()
        ],
    )


def make_list(zoo: Mapping[str, Any]) -> str:
    """The list of all cards, in a table for each dataset and task."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for name, model in zoo["models"].items():
        data = zoo["data"][model["data"]]
        row = {"name": name, "metric": METRICS[data["metric"]], "multi": model.get("multi")} | model
        tables.setdefault(f"{data['title']}, {data['task']}, {data['classes']} classes", []).append(row)
    return fill_template(_template("README"), sources=zoo["sources"], tables=tables).rstrip("\n") + "\n"


def _template(name: str) -> str:
    return (FOLDER / f"{name}.md.jinja").read_text(encoding="utf-8")


if __name__ == "__main__":
    main()
