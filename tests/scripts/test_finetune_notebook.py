"""scripts/finetune.ipynb runs from its first cell to its last, and is kept without outputs."""

import json
import re
from pathlib import Path

import datasets
import pytest
import transformers
from PIL import Image

from modeling_maskformer import Predictor

NOTEBOOK = Path(__file__).resolve().parents[2] / "scripts" / "finetune.ipynb"


@pytest.fixture(scope="module")
def cells():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_it_is_kept_without_outputs(cells):
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in cells}) == len(cells)


@pytest.mark.filterwarnings("ignore:'pin_memory' argument")  # transformers' own Trainer, where there is no GPU
@pytest.mark.parametrize("data", ["drawn", "loaded"])
def test_every_cell_runs_one_after_the_other(data, cells, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    if data == "loaded":  # the first cell is the one that the last says to put in its place
        drawing = next(number for number, cell in enumerate(cells) if cell["cell_type"] == "code")
        exec("".join(cells[drawing]["source"]), drawn := {})
        monkeypatch.setattr(datasets, "load_dataset", {"me/street": drawn["dataset"]}.__getitem__)
        replacement = re.search(r"```python\n(.*?)```", "".join(cells[-1]["source"]), re.DOTALL)[1]
        cells = [*cells[:drawing], cells[drawing] | {"source": [replacement]}, *cells[drawing + 1 :]]
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            source = (
                "".join(cell["source"]).replace("max_steps=125", "max_steps=2").replace("max_steps=10", "max_steps=1")
            )
            exec(compile(source, f"cell {number}", "exec"), namespace)
    assert (namespace["trainer"].state.global_step, namespace["plain_trainer"].state.global_step) == (2, 1)
    assert type(namespace["plain_trainer"]) is transformers.Trainer
    plain = Predictor.from_pretrained("outputs/plain_trainer", task="semantic").model
    assert plain.config.id2label == namespace["NAMES"] and plain.config.use_auxiliary_loss
    assert Image.open(namespace["trainer"].pictures[0]).width > 2 * 64
    assert "'mean_iou': " in capsys.readouterr().out
