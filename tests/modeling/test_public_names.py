"""What `modeling_maskformer` exports: every name is there, documented, and not loaded before it is asked for."""

import inspect
import subprocess
import sys

import pytest

import modeling_maskformer


@pytest.mark.parametrize("name", modeling_maskformer.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name):
    found = getattr(modeling_maskformer, name)
    assert found.__name__ == name and name in dir(modeling_maskformer)
    assert inspect.getdoc(found) and found.__doc__ and not found.__doc__.startswith(f"{name}(")


def test_what_the_pages_name_without_a_module_is_public():
    assert {"Predictor", "TiledPredictor", "load_model", "open_dataset"} <= set(modeling_maskformer.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'MaskFormerTrainr'"):
        modeling_maskformer.MaskFormerTrainr  # noqa: B018


def test_a_model_alone_loads_neither_trainer_nor_datasets():
    code = (
        "import sys, modeling_maskformer; print({'datasets', 'modeling_maskformer.training.trainer'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
