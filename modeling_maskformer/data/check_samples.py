"""Looks at a dataset before training starts, so that a bad sample is not met after hours."""

from __future__ import annotations

from collections.abc import Mapping

from tqdm.auto import tqdm

from .errors import DataError
from .labels.label_set import LabelSet
from .samples import SampleSource
from .statistics import DataStatistics
from .streams import some_of, stream_of

MAX_REPORTED = 10  # bad samples named in one error


def check_dataset(
    samples: SampleSource, max_samples: int | None = 2000, description: str = "samples"
) -> DataStatistics:
    """Reads samples as training will, and raises one error that names the bad ones.

    Whatever makes a sample unusable (an unreadable picture, a class id outside the label set, sizes that differ, ids
    that are no integers, ...) is raised by the reading itself, so training raises the same where a check was skipped.

    Args:
        samples: the samples of a split.
        max_samples: how many to read, evenly spread, of a stream the first ones; None reads all.
        description: what the progress bar calls them.

    Returns:
        What was found in them.

    Raises:
        DataError: there is no sample; some are bad (up to ten are named); or none has a segment but crowds.
    """
    problems: list[str] = []
    found, count = DataStatistics(0), 0
    for key in tqdm(some_of(samples, max_samples), desc=f"Checking {description}", leave=False):
        count += 1
        try:
            found.add(samples[key])
        except DataError as error:
            problems.append(str(error))
            if len(problems) == MAX_REPORTED:
                break
    found.num_images = count if stream_of(samples) is not None else len(samples)
    if found.num_images == 0 and max_samples != 0:
        raise DataError(f"There are no {description}: at least one is expected.")
    if len(problems) == 1:
        raise DataError(problems[0])
    if problems:
        count = f"At least {MAX_REPORTED}" if len(problems) == MAX_REPORTED else len(problems)
        raise DataError(f"{count} {description} cannot be used:\n" + "\n".join(problems))
    if count > 0 and not found.segments:
        raise DataError(
            f"None of the {count} {description} looked at has a segment: their files list no object, or all their "
            "pixels are void or background. Where pixels hold class ids, check ignore_index and reduce_labels."
        )
    if found.crowds and found.crowds == found.segments.total():
        raise DataError(
            f"All {found.crowds} segments of the {count} {description} looked at are crowd regions (iscrowd), of "
            "which nothing is learnt: set iscrowd to 0 where they are single objects."
        )
    return found


def check_classes(found: Mapping[int, int], labels: LabelSet, task: str) -> None:
    """Refuses to train where there is nothing to tell apart: one class, and void around it.

    Objects of one class differ from what is around them, in instance segmentation, and from each other.

    Args:
        found: label -> number of segments, of the training images looked at; empty where none was.
        labels: the label set.
        task: "semantic", "instance" or "panoptic".

    Raises:
        DataError: what was found, and what mends it.
    """
    classes = set(found) or set(range(len(labels)))
    if task == "instance" or len(classes) > 1:
        return
    (label,) = classes
    if task == "panoptic" and labels.is_thing is not None and labels.is_thing[label]:
        return
    void = [] if labels.has_categories else sorted(labels.void_ids)  # of objects no flag decides
    if 0 in void:
        mend = (
            "With --reduce_labels the pixels of id 0 are void, from which nothing is learnt: leave it out, so that id "
            "0 is a class (name it background with --id2label)."
        )
    elif void:
        mend = (
            f"Pixels of id {', '.join(map(str, void))} are void (--ignore_index), from which nothing is learnt: if "
            f"they are a class, pass --annotation_format binary_mask for masks of 0 and 255, or an --ignore_index "
            "that no pixel has."
        )
    else:
        mend = "Whatever is not of this class has to be annotated as another one, such as background."
    raise DataError(
        f"All labelled pixels of the training images are of one class, '{labels.names[label]}', so there is nothing "
        f"to tell apart. {mend}"
    )
