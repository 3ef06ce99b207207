"""ResultWriter: predictions -> a folder of overlays and of files that other tools read."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from pycocotools import mask as coco_mask

from image_processing.results import coco_instances, save_class_map, save_panoptic

from .draw_prediction import draw_prediction
from .inputs import Picture

FAILURES = "failures.json"


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
    - `failures.json`, if there are any: the pictures without a result, and why.

    Each file appears under its name when it is whole.

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
        self.summary = {"semantic": "classes.json", "instance": "instances.json", "panoptic": "panoptic.json"}[task]
        self._images: list[dict] = []
        self._annotations: list[dict] = []
        self.category_ids = {class_id: class_id for class_id in id2label} | dict(category_ids or {})
        self._categories = [
            {"id": self.category_ids[class_id], "name": name, "isthing": int(class_id not in stuff)}
            for class_id, name in id2label.items()
        ]

    def refuse_to_overwrite(self, names: Iterable[str]) -> None:
        """Raises a ValueError that names one if files of these pictures' results are already there."""
        planned = [self.folder / self.summary, *(path for name in names for path in self._files_of(name))]
        present = [path for path in planned if path.exists()]
        if present:
            raise ValueError(
                f"{len(present)} of the results are already there, such as {present[0]}: "
                "choose another --output_dir, or pass --overwrite."
            )

    def write(self, picture: Picture, image: Image.Image, prediction: Any) -> None:
        """Writes one picture's overlay and result."""
        self.add(picture, image, self.write_files(picture, image, prediction))

    def write_files(self, picture: Picture, image: Image.Image, prediction: Any) -> list[dict]:
        """Draws and writes one picture's own files; its annotations for `add`. Threads may do it at once."""
        files = self._files_of(picture.name)
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._write_files(picture, image, prediction, list(files))
        except BaseException:
            for file in files:  # no overlay without its result
                file.unlink(missing_ok=True)
            raise

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
            entry["file_name"] = files[0].relative_to(self.folder / "panoptic").as_posix()
            return [entry]
        return [
            {**entry, "area": int(coco_mask.area(entry["segmentation"])), "iscrowd": 0}
            for entry in coco_instances(prediction, picture.image_id, self.category_ids)
        ]

    def add(self, picture: Picture, image: Image.Image, annotations: list[dict]) -> None:
        """Lists a picture and its annotations in the file that tells of all."""
        self._images.append(
            {"id": picture.image_id, "file_name": picture.file_name, "width": image.width, "height": image.height}
        )
        for entry in annotations:
            number = {"id": len(self._annotations) + 1} if self.task == "instance" else {}
            self._annotations.append(number | entry)

    def close(self, failures: Sequence[Failure] = ()) -> None:
        """Writes the file that tells of all pictures, and the one of those that failed."""
        if self.task == "semantic":
            content: dict = self.id2label
        else:
            content = {"images": self._images, "annotations": self._annotations, "categories": self._categories}
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_json(self.summary, content)
        (self.folder / FAILURES).unlink(missing_ok=True)
        if failures:
            self._write_json(FAILURES, [asdict(failure) for failure in failures])

    def _write_json(self, name: str, content: Any) -> None:
        with whole_file(self.folder / name) as file:
            file.write_text(json.dumps(content) + "\n", encoding="utf-8")

    def _files_of(self, name: str) -> list[Path]:
        """The overlay, if any, and then the result's own file, if any."""
        overlay = [self.folder / "overlays" / f"{name}.jpg"] if self.overlays else []
        own = {"semantic": "class_ids", "panoptic": "panoptic"}.get(self.task)
        return overlay + ([self.folder / own / f"{name}.png"] if own else [])


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Where to write a file that is to appear at `path`, whole, at the end of the `with`; nowhere if that fails."""
    part = path.with_name(f".{path.name}.part{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
