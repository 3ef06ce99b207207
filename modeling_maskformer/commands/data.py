"""Shows a dataset as a training will see it: a sheet of pictures, its classes, and what was found in words.

    maskformer data --dataset data/street --task semantic --output_dir outputs/look

Written are contact_sheet.png, images with their annotations and below each a random view as training draws it;
classes.png, how many pixels each class has; and summary.txt, which is printed too. Bad samples are named, as training
would name them, those of the validation split too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from image_processing.drawing.charts import MISSING, bar_chart, can_draw_charts
from image_processing.drawing.colors import class_color
from image_processing.drawing.signature import is_drawn_here, save_signed

from ..data.check_samples import check_classes, check_dataset
from ..data.contact_sheet import draw_contact_sheet
from ..data.statistics import DataStatistics, count_text, found_text, percent
from ..data.views.augmentation import Augmentation
from ..data.views.collate import SegmentationDataset
from ..data.views.copy_paste import choose_copy_paste
from ..evaluation.metrics.base import unique_labels
from ..training.arguments.argument_parser import ScriptArgumentParser
from ..training.arguments.augmentation_arguments import AugmentationArguments
from ..training.arguments.data_arguments import DatasetArguments

SHEET_NAME, CHART_NAME, SUMMARY_NAME = "contact_sheet.png", "classes.png", "summary.txt"


@dataclass
class SheetArguments:
    _argument_group_name = "pictures"

    output_dir: str = field(default="data_report", metadata={"help": "Folder for the pictures and the summary."})
    num_pictures: int = field(default=8, metadata={"help": "Images to show, evenly spread; 0 for none."})
    seed: int = field(default=0, metadata={"help": "Of the random views."})

    def __post_init__(self) -> None:
        if self.num_pictures < 0:
            raise ValueError(f"--num_pictures must be at least 0, got {self.num_pictures}.")


def main(argv: Sequence[str] | None = None) -> None:
    parser = ScriptArgumentParser((SheetArguments, DatasetArguments, AugmentationArguments), (), __doc__, "data")
    arguments, data_arguments, augmentation = parser.parse(argv)
    try:
        if data_arguments.streaming:
            raise ValueError(
                "Images from all of a dataset are shown, for which a stream is too long: leave --streaming out."
            )
        lines = show(arguments, data_arguments, augmentation)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(*lines, sep="\n")


def show(
    arguments: SheetArguments, data_arguments: DatasetArguments, augmentation: AugmentationArguments
) -> list[str]:
    """Writes pictures and summary; lines of text that say what was found, and what is where.

    Raises:
        ValueError, OSError: the dataset cannot be used; the message is a sentence.
    """
    if data_arguments.task is None:
        raise ValueError("--task is needed: semantic, instance or panoptic.")
    folder = Path(arguments.output_dir)
    check_folder(folder)
    data = data_arguments.open(data_arguments.task)
    train = data.training(data_arguments.train_split)
    copy_paste = choose_copy_paste(augmentation.copy_paste_probability, data, train)
    found = check_dataset(train, data_arguments.check_samples, "training images")
    check_classes(found.segments, data.labels, data.task)
    if data_arguments.validation_split is not None or data.has_validation_split:
        validation = data.evaluation(data_arguments.validation_split)
        if validation is not train:
            check_dataset(validation, data_arguments.check_samples, "validation images")
    augmentation.choose_for(found.short_edge)
    names = unique_labels(data.labels.id2label)
    folder.mkdir(parents=True, exist_ok=True)
    summary = found_text(found, names)
    (folder / SUMMARY_NAME).write_text(summary + "\n", encoding="utf-8")
    lines = [summary, ""]
    if arguments.num_pictures:
        views = SegmentationDataset(train, Augmentation(augmentation.config()), copy_paste)
        sheet = draw_contact_sheet(views, arguments.num_pictures, data.labels.id2label, arguments.seed)
        save_signed(sheet, folder / SHEET_NAME)
        lines.append(f"{folder / SHEET_NAME}: images with annotations, and below each a view as in training.")
    if not can_draw_charts():
        return [*lines, MISSING]
    if found.sizes:
        draw_classes(folder / CHART_NAME, found, names)
        lines.append(f"{folder / CHART_NAME}: the classes by their part of the pixels.")
    return lines


def check_folder(folder: Path) -> None:
    """Refuses to write over files that this command has not written.

    Raises:
        ValueError: which file is there.
    """
    for path in (folder / SHEET_NAME, folder / CHART_NAME, folder / SUMMARY_NAME):
        if path.exists() and not (is_drawn_here(path) if path.suffix == ".png" else _is_summary(path)):
            raise ValueError(
                f"{path} is already there, without the mark of this command: remove it, or pass another --output_dir."
            )


def _is_summary(path: Path) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace").startswith("Found: ")


def draw_classes(path: Path, found: DataStatistics, names: Sequence[str]) -> None:
    """Writes a bar for each class, the most frequent first, with its pixels, images and segments."""
    shares = found.shares()
    labels = sorted(range(len(names)), key=lambda label: -shares.get(label, 0.0))
    bar_chart(
        path,
        f"Classes of {count_text(found.num_looked_at, 'training images')}",
        {names[label]: 100 * shares.get(label, 0.0) for label in labels},
        {names[label]: _note(found, label, shares.get(label, 0.0)) for label in labels},
        {names[label]: class_color(label) for label in labels},
        "percent of the pixels that are not void",
    )


def _note(found: DataStatistics, label: int, share: float) -> str:
    segments, images = found.segments[label], found.images[label]
    objects = "" if segments == images else f"{count_text(segments, 'segments')} "
    return f"{percent(share)}, {objects}in {count_text(images, 'images')}" if images else "never seen"


if __name__ == "__main__":  # python -m modeling_maskformer.commands.data
    main()
