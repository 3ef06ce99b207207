"""Names of classes that lie beside a dataset on the Hub, in a file of the name that most of them use."""

from __future__ import annotations

import huggingface_hub
from huggingface_hub.errors import EntryNotFoundError
from transformers.utils import logging

from ..labels.label_files import read_named_ids
from ..labels.label_set import NamedIds

logger = logging.get_logger(__name__)

FILE_NAME = "id2label.json"


def names_on_hub(dataset: str) -> NamedIds | None:
    """The names in the dataset's `id2label.json`; None where there is none, or no network."""
    try:
        return read_named_ids(huggingface_hub.hf_hub_download(dataset, FILE_NAME, repo_type="dataset"))
    except (OSError, ValueError, EntryNotFoundError) as error:  # whatever the network, the Hub or the file has
        logger.debug(f"No {FILE_NAME} of '{dataset}' was fetched: {error}")
        return None
