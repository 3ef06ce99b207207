"""ResultWriter: predictions -> a folder of overlays and of files that other tools read."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePath
from typing import Any

from PIL import Image

from image_processing.results import coco_categories, coco_instances, save_class_map, save_panoptic

from ...files.whole_file import whole_file
from ..draw_prediction import draw_prediction
from ..inputs import Picture
from ..result_names import FAILURES, FOLDERS, OVERLAYS, SUMMARIES

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
LEAST_SPACE = 1 << 20  # bytes; Pillow's errors do not tell why a picture cannot be written


@dataclass(frozen=True)
class Failure:
    """A picture without a result: its name, whether "reading", "predicting" or "writing" failed, and the cause."""

    name: str
    step: str
    cause: str

    @classmethod
    def of(cls, picture: Picture, step: str, error: Exception) -> Failure:
        return cls(picture.name, step, str(error) or type(error).__name__)


class ResultWriter:
    """Writes the predictions of one task to a folder.

    - `overlays/<name>.jpg`: the picture with its segments.
    - semantic: `class_ids/<name>.png` (the class of each pixel), and `classes.json` (id -> name).
    - instance: `instances.json`, COCO's instance annotations with run-length encoded masks and scores.
    - panoptic: `panoptic/<name>.png` (segment ids as colours) and `panoptic.json`, COCO's panoptic annotations.

    Each picture's files appear under their names when they are whole, and never outside the folder. The files that
    tell of all pictures are made of the records (joining.py).

    Args:
        folder: made if needed.
        task: "semantic", "instance" or "panoptic".
        id2label: class id -> name.
        stuff: the classes that are no things, for COCO's `isthing`.
        overlays: whether to draw them.
        category_ids: class id -> category in COCO files; None: the class ids themselves.
    """

    def __init__(
        self,
        folder: Path,
        task: str,
        id2label: Mapping[int, str],
        stuff: Collection[int] = (),
        overlays: bool = True,
        category_ids: Mapping[int, int] | None = None,
    ) -> None:
        self.folder = folder
        self.task = task
        self.id2label = dict(id2label)
        self.overlays = overlays
        self.summary = SUMMARIES[task]
        self.category_ids = {class_id: class_id for class_id in id2label} | dict(category_ids or {})
        self.categories = coco_categories(id2label, stuff, self.category_ids)

    def refuse_to_overwrite(self, names: Iterable[str]) -> None:
        """Raises a ValueError that names one if files of these pictures' results, or of all, are already there."""
        of_all = [self.folder / self.summary, self.folder / FAILURES]
        planned = chain(of_all, chain.from_iterable(map(self._files_of, names)))
        first, count = None, 0
        for path in planned:
            if os.path.lexists(path):  # also a link to nothing
                first, count = first or path, count + 1
        if count:
            raise ValueError(
                f"{count} of the results are already there, such as {first}, but no run to go on with: "
                "choose another --output_dir, or pass --overwrite."
            )

    def has_files(self, name: str) -> bool:
        """Whether all files of a picture's result are there."""
        return all(os.path.exists(path) for path in self._files_of(name))

    def paths_of(self, name: str) -> list[str]:
        """All files of a picture's result, as paths below the folder."""
        return [path.relative_to(self.folder).as_posix() for path in self._files_of(name)]

    def write(self, picture: Picture, image: Image.Image, prediction: Any) -> list[dict]:
        """Draws and writes one picture's own files; its annotations of COCO. Threads may do it at once."""
        files = self._files_of(picture.name)
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._write_files(picture, image, prediction, files)
        except BaseException:
            self.remove(picture.name)  # no overlay without its result
            raise

    def remove(self, name: str) -> None:
        """Removes a picture's own files, those that are there."""
        try:
            files = self._files_of(name)
        except ValueError:  # nothing is ever written under such a name
            return
        for file in files:
            if os.path.isfile(file) or os.path.islink(file):
                file.unlink()

    def _write_files(self, picture: Picture, image: Image.Image, prediction: Any, files: list[Path]) -> list[dict]:
        if self.overlays:
            overlay = draw_prediction(self.task, image, prediction, self.id2label)
            with whole_file(files.pop(0)) as file:
                overlay.save(file, quality=92)
        if self.task == "semantic":
            with whole_file(files[0]) as file:
                save_class_map(prediction, file, len(self.id2label))
            return []
        if self.task == "panoptic":
            with whole_file(files[0]) as file:
                entry = save_panoptic(prediction, file, picture.image_id, self.category_ids)
            entry["file_name"] = files[0].relative_to(self.folder / FOLDERS["panoptic"]).as_posix()
            return [entry]
        return coco_instances(prediction, picture.image_id, self.category_ids)

    def _files_of(self, name: str) -> list[Path]:
        """The overlay, if any, and then the result's own file, if any."""
        path = PurePath(name)
        if path.anchor or ".." in path.parts or "\0" in name:  # as from the names that a dataset gives
            raise ValueError(f"the name of its results, {name!r}, leads out of the output folder")
        overlay = [self.folder / OVERLAYS / f"{name}.jpg"] if self.overlays else []
        own = FOLDERS.get(self.task)
        return overlay + ([self.folder / own / f"{name}.png"] if own else [])


def is_full(folder: Path, error: OSError) -> bool:
    """Whether writing failed because nothing more can be written there, of this picture or any other."""
    return error.errno in NO_SPACE or shutil.disk_usage(folder).free < LEAST_SPACE
