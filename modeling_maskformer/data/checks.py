"""Looks at a dataset before training starts, so that a bad sample is not met after hours."""

from __future__ import annotations

from tqdm.auto import tqdm

from .errors import DataError
from .samples import SampleSource

MAX_REPORTED = 10  # bad samples named in one error


def check_dataset(samples: SampleSource, max_samples: int | None = 2000, description: str = "samples") -> None:
    """Reads samples as training will, and raises one error that names the bad ones.

    Whatever makes a sample unusable (an unreadable picture, a class id outside the label set, sizes that differ, ids
    that are no integers, ...) is raised by the reading itself, so training raises the same where a check was skipped.

    Args:
        samples: the samples of a split.
        max_samples: how many to read, evenly spread; None reads all.
        description: what the progress bar calls them.

    Raises:
        DataError: there is no sample; some are bad (up to ten are named); or none has a segment.
    """
    if len(samples) == 0:
        raise DataError(f"There are no {description}: at least one is expected.")
    count = len(samples) if max_samples is None else min(max_samples, len(samples))
    problems: list[str] = []
    num_segments = 0
    for number in tqdm(range(count), desc=f"Checking {description}", leave=False):
        try:
            num_segments += len(samples[number * len(samples) // count].segments)
        except DataError as error:
            problems.append(str(error))
            if len(problems) == MAX_REPORTED:
                break
    if len(problems) == 1:
        raise DataError(problems[0])
    if problems:
        count = f"At least {MAX_REPORTED}" if len(problems) == MAX_REPORTED else len(problems)
        raise DataError(f"{count} {description} cannot be used:\n" + "\n".join(problems))
    if count > 0 and num_segments == 0:
        raise DataError(
            f"None of the {count} {description} looked at has a segment: all their pixels are void or background. "
            "Check ignore_index, reduce_labels and the annotation column."
        )
