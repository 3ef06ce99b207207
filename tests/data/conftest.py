"""Small datasets on disk, and a cache of their own for the tests of this folder."""

import datasets
import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session", autouse=True)
def _dataset_cache(tmp_path_factory):
    """What `datasets` and the scan of class ids keep goes into a folder that is gone afterwards."""
    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("datasets_cache")
    yield
    datasets.config.HF_DATASETS_CACHE = before


@pytest.fixture
def save_picture():
    """Writes an array as a picture and makes the folder it goes to."""

    def save(path, array):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(array)).save(path)
        return path

    return save


@pytest.fixture
def paired_folder(tmp_path, save_picture):
    """`images/` and `masks/` of 5 pictures, 8 x 6 (height x width), with class ids 0 to 2 and void (255)."""

    def make(prefixes=("",)):
        rng = np.random.default_rng(0)
        for prefix in prefixes:
            for number in range(5):
                save_picture(
                    tmp_path / "data" / prefix / "images" / f"{number}.jpg", rng.integers(0, 255, (8, 6, 3), np.uint8)
                )
                mask = rng.choice(np.uint8([0, 1, 2, 255]), (8, 6))
                mask[0, :4] = (0, 1, 2, 255)
                save_picture(tmp_path / "data" / prefix / "masks" / f"{number}.png", mask)
        return tmp_path / "data"

    return make
