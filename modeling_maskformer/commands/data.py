"""Shows a dataset as a training will see it: a sheet of pictures, its classes, and what was found in words.

    maskformer data --dataset data/street --task semantic --output_dir outputs/look

Written are contact_sheet.png, images with their annotations and below each a random view as training draws it;
classes.png, how many pixels each class has; and summary.txt, which is printed too. Bad samples are named, as training
would name them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from image_processing.drawing.charts import MISSING, bar_chart, can_draw_charts
from image_processing.drawing.colors import class_color

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
    data = data_arguments.open(data_arguments.task)
    train = data.training(data_arguments.train_split)
    copy_paste = choose_copy_paste(augmentation.copy_paste_probability, data, train)
    found = check_dataset(train, data_arguments.check_samples, "training images")
    check_classes(found.segments, data.labels, data.task)
    augmentation.choose_for(found.short_edge)
    folder, names = Path(arguments.output_dir), unique_labels(data.labels.id2label)
    folder.mkdir(parents=True, exist_ok=True)
    summary = found_text(found, names)
    (folder / "summary.txt").write_text(summary + "\n", encoding="utf-8")
    lines = [summary, ""]
    if arguments.num_pictures:
        views = SegmentationDataset(train, Augmentation(augmentation.config()), copy_paste)
        sheet = draw_contact_sheet(views, arguments.num_pictures, data.labels.id2label, arguments.seed)
        sheet.save(folder / "contact_sheet.png")
        lines.append(f"{folder / 'contact_sheet.png'}: images with annotations, and below each a view as in training.")
    if not can_draw_charts():
        return [*lines, MISSING]
    if found.sizes:
        draw_classes(folder / "classes.png", found, names)
        lines.append(f"{folder / 'classes.png'}: the classes by their part of the pixels.")
    return lines


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
