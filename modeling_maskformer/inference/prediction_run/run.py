"""A prediction in an output folder: started anew or gone on with, shared by processes, joined at the end."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import logging

from ...files.whole_file import whole_file
from ..exported_model import ExportedSegmentationModel
from ..inputs import Picture
from ..result_names import RECORDS, SETTINGS
from .earlier_run import earlier_settings, refuse_earlier_run, remove_run
from .joining import Totals, write_coco, write_failures
from .records import RecordFile, Records, name_key, record_files
from .writer import Failure, ResultWriter

logger = logging.get_logger(__name__)

UNRELATED = ("_name_or_path", "transformers_version")  # to what a model computes


class ChosenPictures(Sequence[Picture]):
    """Some of the pictures: those at these places."""

    def __init__(self, pictures: Sequence[Picture], places: Sequence[int]) -> None:
        self.pictures = pictures
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: int) -> Picture:
        return self.pictures[self.places[place]]


def start_run(
    writer: ResultWriter, pictures: Sequence[Picture], settings: Mapping[str, Any], resume: bool, overwrite: bool
) -> int:
    """Makes the output folder ready, and returns which start of its run this is, counted from 1.

    Args:
        writer: whose folder it is.
        pictures: all of them.
        settings: what decides the results; a run is gone on with under the same ones alone.
        resume: whether to go on with the run in the folder, where there is one.
        overwrite: whether to replace it.

    Raises:
        ValueError: the folder holds results and neither is asked for, the run there had other settings, or what lies
            where a run has its files is no run's.
    """
    folder = writer.folder / RECORDS
    settings = json.loads(json.dumps(settings))
    earlier = earlier_settings(writer.folder) if resume else None
    if earlier is not None:
        other = sorted(name for name in settings.keys() | earlier.keys() if settings.get(name) != earlier.get(name))
        if other:
            raise ValueError(
                f"{writer.folder} holds results of a run with another {' and '.join(other)}: --resume goes on under "
                "the same settings. Choose another --output_dir, or pass --overwrite."
            )
        return 1 + max((int(file.stem.split("-")[0]) for file in record_files(folder)), default=0)
    if overwrite:
        remove_run(writer.folder, writer.task)
    else:
        refuse_earlier_run(writer.folder)
        writer.refuse_to_overwrite(picture.name for picture in pictures)
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / SETTINGS) as file:
        file.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return 1


def pictures_to_do(
    pictures: Sequence[Picture], records: Records, writer: ResultWriter, process: int = 0, num_processes: int = 1
) -> ChosenPictures:
    """The pictures of one process that have no whole result yet; those that failed are tried again.

    A result that was made of another picture than the one that has its name now is none. Where that cannot be told,
    because the picture cannot be read any more, it is kept.

    Which process has a picture follows from its name alone: where processes list a folder that changes, none writes
    what another writes.
    """
    places = array("Q")
    for place, picture in enumerate(pictures):
        if name_key(picture.name) % num_processes == process and not _has_result(picture, records, writer):
            places.append(place)
    return ChosenPictures(pictures, places)


def _has_result(picture: Picture, records: Records, writer: ResultWriter) -> bool:
    if not (records.is_done(picture.name) and writer.has_files(picture.name)):
        return False
    try:
        return records.has_stamp(picture.name, picture.stamp())
    except (OSError, ValueError):
        return True


def clear_results(share: Sequence[Picture], records: Records, writer: ResultWriter, record_file: RecordFile) -> int:
    """Removes what earlier starts left of the results of these pictures; how many of them were done before.

    However this start ends, no result then stands for another picture, nor for one that fails now.

    Args:
        share: the pictures of this process, as `pictures_to_do` gives them.
        records: of the earlier starts.
        writer: whose folder it is.
        record_file: of this start.
    """
    first, count = "", 0
    for picture in share:
        writer.remove(picture.name)
        if records.is_done(picture.name):
            record_file.add_failure(Failure(picture.name, "reading", "the run ended before its result was made again"))
            first, count = first or picture.name, count + 1
    if count:
        logger.warning(
            f"{count} of the results are made again, such as that of {first!r}: their files are not all there, or "
            "they were made of other pictures than those that have their names now."
        )
    return count


def join_results(writer: ResultWriter, pictures: Sequence[Picture]) -> Totals:
    """Writes the files that tell of all pictures, from what all processes have recorded so far."""
    records = Records(writer.folder / RECORDS)
    if writer.task == "semantic":
        with whole_file(writer.folder / writer.summary) as file:
            file.write_text(json.dumps(writer.id2label) + "\n", encoding="utf-8")
    else:
        write_coco(writer.folder / writer.summary, pictures, records, writer.categories)
    return write_failures(writer.folder, pictures, records)


def digest_of(model: PreTrainedModel, image_processor: BaseImageProcessor) -> str:
    """A text that is another one for every other model or processor, whatever the checkpoint is called."""
    config = {name: value for name, value in model.config.to_dict().items() if name not in UNRELATED}
    described = json.dumps([config, image_processor.to_dict()], sort_keys=True, default=str)
    digest = hashlib.sha256(described.encode())
    if isinstance(model, ExportedSegmentationModel):
        digest.update(model.precision.encode())  # OpenVINO's files are the same for f32 and bf16
        for file in model.graph_files():
            digest.update(file.read_bytes())
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
