"""Results as text and as JSON."""

import json
import math

from modeling_maskformer.evaluation.results import results_table, write_results

RESULTS = {
    "pq": 0.25,
    "num_images": 3,
    "per_class": {"sky": {"pq": 0.5, "iou": math.nan}, "a car": {"pq": 0.0, "iou": 1.0}},
}


def test_the_table_has_the_totals_and_a_row_for_each_class():
    assert results_table(RESULTS).splitlines() == [
        "pq          0.2500",
        "num_images  3",
        "",
        "per class        pq       iou",
        "-----------------------------",
        "sky          0.5000         -",
        "a car        0.0000    1.0000",
    ]


def test_classes_without_a_number_are_named_in_one_line():
    none = {"pq": math.nan, "iou": math.nan}
    rows = {"bus": none, **RESULTS["per_class"], "boat\x1b": none}
    assert results_table(RESULTS | {"per_class": rows}) == f"{results_table(RESULTS)}\n\nWithout numbers: bus, boat?."
    assert results_table({"pq": math.nan, "per_class": {"bus": none}}) == "pq  -\n\nWithout numbers: bus."


def test_undefined_numbers_are_null_in_json(tmp_path):
    write_results(tmp_path / "new" / "results.json", RESULTS)
    text = (tmp_path / "new" / "results.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["per_class"]["sky"] == {"pq": 0.5, "iou": None}
