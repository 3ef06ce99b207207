"""A tiny checkpoint, loaded, and in a folder."""

import pytest
from served import small_checkpoint


@pytest.fixture(scope="session")
def checkpoint():
    return small_checkpoint()


@pytest.fixture(scope="session")
def checkpoint_folder(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    checkpoint.model.save_pretrained(folder)
    checkpoint.image_processor.save_pretrained(folder)
    return folder
