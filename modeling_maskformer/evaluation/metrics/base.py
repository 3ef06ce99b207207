"""What the three metrics have in common: one interface, and a state that adds up over images and processes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...targets import PIXELS_AT_ONCE, Segments, void_value


class SegmentationMetric(ABC):
    """A metric over a stream of images: `update` for each, then `compute`.

    The state is a dict of arrays and lists in which merging is adding, so one evaluation can be spread over images,
    processes and machines:

        states = gather_object([metric.state()])
        metric.reset()
        for state in states:
            metric.merge(state)
        results = metric.compute()

    Args:
        id2label: class id -> name, for ids 0..K-1.
    """

    def __init__(self, id2label: Mapping[int, str]) -> None:
        self.labels = unique_labels(id2label)
        self.reset()

    @property
    def num_labels(self) -> int:
        """K, the number of classes."""
        return len(self.labels)

    @property
    def num_images(self) -> int:
        """Images taken in since the last reset, merged ones included."""
        return int(self._state["num_images"])

    def update(self, prediction: Any, reference: Segments) -> None:
        """Take in one image.

        Args:
            prediction: what the image processor's post-processing returns for the image.
            reference: its segments, crowd regions and void included, in the size of the prediction.

        Raises:
            ValueError: naming the image by its number in this metric, counted from 0.
        """
        try:
            self._check_class_ids("reference", reference.class_ids.tolist())
            self._update(prediction, reference)
        except ValueError as error:
            raise ValueError(f"{type(self).__name__}, image number {self.num_images}: {error}") from error
        self._state["num_images"] += 1

    def reset(self) -> None:
        """Forget every image."""
        self._state = {"num_images": np.zeros((), dtype=np.int64), **self._empty_state()}

    def state(self) -> dict[str, np.ndarray | list]:
        """All that was taken in so far, picklable; a copy."""
        return {name: value.copy() for name, value in self._state.items()}

    def merge(self, other: Mapping[str, np.ndarray | list]) -> None:
        """Take in the state of another metric of the same class and labels, as if its images had been seen here."""
        if set(other) != set(self._state):
            raise ValueError(
                f"{type(self).__name__} cannot merge a state with {sorted(other)}: {sorted(self._state)} is expected."
            )
        for name, value in self._state.items():
            if isinstance(value, np.ndarray) and np.shape(other[name]) != value.shape:
                raise ValueError(
                    f"{type(self).__name__} cannot merge '{name}' of shape {np.shape(other[name])} into "
                    f"{value.shape}: was the other metric made for other labels?"
                )
        for name, value in other.items():
            self._state[name] = self._state[name] + value

    @abstractmethod
    def compute(self) -> dict[str, float | dict[str, dict[str, float]]]:
        """The metric over all images: named floats in [0, 1], and `per_class`, label -> named floats.

        A value that nothing defines (a class that never occurs, no image at all) is NaN and takes no part in means.
        """

    @abstractmethod
    def _empty_state(self) -> dict[str, np.ndarray | list]:
        """The state before the first image; `+` of two such values must merge them."""

    @abstractmethod
    def _update(self, prediction: Any, reference: Segments) -> None:
        """`update` for a reference whose class ids are known to be good."""

    def _check_class_ids(self, owner: str, class_ids: Sequence[int]) -> None:
        outside = [class_id for class_id in class_ids if not 0 <= class_id < self.num_labels]
        if outside:
            raise ValueError(f"the {owner} holds class {outside[0]}; classes are 0 to {self.num_labels - 1}.")

    def _per_class(self, **values: np.ndarray) -> dict[str, dict[str, float]]:
        """label -> {name: value} of named (K,) arrays."""
        rows = zip(*(array.tolist() for array in values.values()), strict=True)
        return {label: dict(zip(values, row, strict=True)) for label, row in zip(self.labels, rows, strict=True)}


def unique_labels(id2label: Mapping[int, str]) -> list[str]:
    """K names in order of id; a name that several classes share is told apart by its id, as in `door (14)`."""
    id2label = {int(class_id): name for class_id, name in id2label.items()}  # in JSON they are strings
    if not id2label or sorted(id2label) != list(range(len(id2label))):
        raise ValueError(f"id2label must name classes 0 to K-1 without a gap, got the ids {sorted(id2label)}.")
    labels = [id2label[class_id] for class_id in range(len(id2label))]
    uses = Counter(labels)
    return [f"{label} ({class_id})" if uses[label] > 1 else label for class_id, label in enumerate(labels)]


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Elementwise quotient as float64, NaN where the denominator is 0."""
    undefined = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), math.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator != 0)


def mean_of_defined(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN if none is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else math.nan


def check_result(prediction: Any) -> None:
    """Raise ValueError unless the prediction of an image is a dict with `segmentation` and `segments_info`."""
    if not isinstance(prediction, Mapping) or not {"segmentation", "segments_info"} <= set(prediction):
        found = sorted(prediction) if isinstance(prediction, Mapping) else type(prediction).__name__
        raise ValueError(f"the prediction must be a dict with 'segmentation' and 'segments_info', got {found}.")


def integer_map(value: Any, name: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """`(H, W)` integers of a tensor (any device), array, PIL image or nested list, of this size if given.

    Whole numbers as floats are integers too, as transformers' id maps have them.
    """
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if array.dtype.kind == "f" and (np.isfinite(array) & (array == np.round(array))).all():
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu" or array.ndim != 2:
        raise ValueError(f"{name} must be an (H, W) map of integers, got shape {array.shape} and {array.dtype}.")
    if size is not None and array.shape != tuple(size):
        raise ValueError(f"{name} has shape {array.shape}; the reference is {size[0]} high and {size[1]} wide.")
    return array


def row_strips(size: tuple[int, int]) -> Iterator[slice]:
    """The rows of an `(H, W)` map, some at a time: what is computed of them takes no memory of the whole map."""
    step = max(1, PIXELS_AT_ONCE // max(1, size[1]))
    return (slice(top, top + step) for top in range(0, size[0], step))


def strips(reference: Segments, predicted: np.ndarray) -> Iterator[tuple[Segments, np.ndarray]]:
    """The segments and the int64 values of an `(H, W)` map in each strip of rows."""
    for rows in row_strips(reference.size):
        part = Segments(reference.ids[:, rows], reference.class_ids, reference.is_crowd)
        yield part, predicted[rows].astype(np.int64)


def numbered(ids: np.ndarray, listed: Sequence[int] | np.ndarray) -> np.ndarray:
    """int64 in the shape of `ids`: k where the id is `listed[k - 1]`, 0 where it is not listed."""
    listed = np.asarray(listed, dtype=np.int64)
    order = np.argsort(listed, kind="stable")
    places = np.searchsorted(listed[order], ids, side="right")  # how many listed ids are not above the pixel's
    is_listed = np.concatenate([[-1], listed[order]])[places] == ids
    return np.where(is_listed, np.concatenate([[0], order + 1])[places], 0)


def flat_map(reference: Segments, values: np.ndarray, nothing: int, void: int) -> np.ndarray:
    """`(H, W)` int64: `values[k - 1]` inside segment `k`, else `void` where the pixel is void, else `nothing`.

    Raises:
        ValueError: if two segments with different values share a pixel.
    """
    ids = reference.ids.cpu().numpy()  # (L, H, W)
    is_void = ids == void_value(reference.ids.dtype)
    ids = np.where(is_void, 0, ids).astype(np.int64)
    layers = np.concatenate([[nothing], values]).astype(np.int64)[ids]  # (L, H, W)
    flat, covered = layers[0], ids[0] > 0
    for layer, layer_ids in zip(layers[1:], ids[1:], strict=True):
        inside = layer_ids > 0
        if (inside & covered & (flat != layer)).any():
            raise ValueError("segments of the reference overlap: one value a pixel is needed here.")
        flat = np.where(inside, layer, flat)
        covered |= inside
    return np.where(is_void[0] & ~covered, void, flat)
