"""The label set of an opened dataset, from the first source that knows it; in the end, from its annotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from datasets import Dataset
from transformers.utils import logging

from ..columns import Columns, class_names
from ..errors import DataError
from ..formats.binary_mask import BinaryMaskFormat
from ..formats.colour_map import ColourMapFormat
from ..formats.instance_ids import InstanceIdsFormat
from ..formats.objects.objects_format import ObjectsFormat
from ..layouts.hub_labels import names_on_hub
from ..layouts.tables import Tables, annotated_splits
from ..samples import AnnotationFormat
from .class_ids import scan_class_ids
from .label_files import read_named_ids
from .label_set import LabelSet, NamedIds, is_background, make_label_set, summarize

logger = logging.get_logger(__name__)

HIGHEST_OF_16_BITS = 65535
BACKGROUND = "background"
MAX_UNNAMED = 200  # classes that nobody named; ADE20K has 150, COCO with stuff 171
LABEL_COLUMNS = ("id2label", "label2id", "semantic_class_to_id", "class_to_id")


def choose_labels(
    tables: Tables,
    columns: Columns,
    reader: AnnotationFormat,
    task: str,
    given: NamedIds | None,
    reduce_labels: bool,
    ignore_index: int | None,
    background: bool = False,
) -> LabelSet:
    """The classes of a dataset: from the caller, its files, its features, a column, or the ids in its annotations.

    Args:
        tables: the splits, and the names that the dataset's files tell.
        columns: of the tables.
        reader: the annotation format.
        task: "semantic", "instance" or "panoptic"; instance segmentation leaves stuff out.
        given: the caller's names; None looks for the dataset's own.
        reduce_labels, ignore_index, background: as in `open_dataset`.
    """
    if reduce_labels and background:
        raise DataError(
            "Either background or reduce_labels is expected: pixels of id 0 are of a class called background, or "
            "unlabelled, so that nothing is learnt of them."
        )
    if reader.has_categories and (reduce_labels or background):
        flag = "reduce_labels" if reduce_labels else "background"
        raise DataError(f"{flag} is for class ids in pixels; these annotations have COCO categories.")
    _check_same_names(tables.splits, columns)
    named = _names(tables, columns, given)
    if reader.names is not None:
        named = _names_of_form(reader, named, task)
    void_ids, background_ids = set(), set()
    if not reader.has_categories:
        void_ids = set() if ignore_index is None else {ignore_index}
        if named is not None and (reduce_labels or background or (task == "instance" and not _has_class_map(reader))):
            named = _names_by_annotated_ids(named, tables, columns, reader, void_ids | tables.void_ids)
        if task == "instance" and _has_class_map(reader):
            background_ids = {0} if named is not None and (reduce_labels or 0 not in named.names) else set()
        elif task == "instance":
            reduce_labels, background_ids = True, {0}
        elif reduce_labels:
            void_ids.add(0)
    if background:
        named = named and _with_background(named)
    void_ids |= tables.void_ids - (named.names.keys() if named is not None else set())
    if named is None:
        named = _names_of_found_ids(_scan(tables, columns, reader), void_ids | background_ids, background)
    rest = None
    if isinstance(reader, ObjectsFormat) and task != "instance":
        named, rest = _with_rest(named)
    labels = replace(
        make_label_set(named, void_ids, background_ids, reduce_labels), has_categories=reader.has_categories
    )
    if rest is not None:
        labels = replace(labels, rest_label=labels.dataset_ids.index(rest))
    if labels.is_thing is None:
        labels = _tell_things_from_stuff(labels, tables, columns, reader, task)
    if task == "instance":
        labels = labels.things()
    return labels


def _has_class_map(reader: AnnotationFormat) -> bool:
    """Whether a map of its own tells the classes of objects: its id 0 may be a class like all others."""
    return isinstance(reader, InstanceIdsFormat) and reader.class_format is not None


def _names(tables: Tables, columns: Columns, given: NamedIds | None) -> NamedIds | None:
    if given is None:
        named = tables.named or _names_in_table(next(iter(annotated_splits(tables.splits).values())), columns)
        return names_on_hub(tables.hub_name) if named is None and tables.hub_name is not None else named
    if given.things is None and tables.named is not None and tables.named.things is not None:
        return NamedIds(given.names, {raw: tables.named.things.get(raw, True) for raw in given.names})
    return given


def _with_rest(named: NamedIds) -> tuple[NamedIds, int]:
    """The names of objects and of what none covers, which is stuff; and the id of that.

    It is the class called background, where there is one; else one more class, of the id 0 if that is free.
    """
    names = dict(named.names)
    rest = next((raw for raw, name in names.items() if name.lower().strip("_ ") in (BACKGROUND, "bg")), None)
    if rest is None:
        rest = 0 if 0 not in names else max(names) + 1
        names[rest] = BACKGROUND
    return NamedIds(names, {raw: raw != rest and (named.things or {}).get(raw, True) for raw in names}), rest


def _names_of_form(reader: AnnotationFormat, named: NamedIds | None, task: str) -> NamedIds:
    """The names of the classes that a form of annotations has by itself: 0 is background, and 1 is not."""
    own = reader.names
    if named is None:
        what = "Nothing tells the classes of objects: all are of the class 'object'."
        if isinstance(reader, BinaryMaskFormat):
            what = "The masks hold 0 and 255: these become the classes 'background' and 'foreground'."
        logger.warning(f'{what} A label file (id2label) names them, as {{"1": "crack"}}.')
        names = own.names
    else:
        names = dict(named.names)
        if isinstance(reader, BinaryMaskFormat) and 255 in names and 1 not in names:
            names = {raw // 255: name for raw, name in names.items()}
        if list(names) == [0] and not is_background(names[0]):  # the only name is not that of the background
            names = {1: names[0]}
        names = {raw: name for raw, name in names.items() if raw in own.names or not is_background(name)}
        names = own.names | names
        if names.keys() - own.names.keys() - {0}:
            several = ", ".join(f"'{names[raw]}'" for raw in sorted(names) if raw)
            raise DataError(
                f"Several classes are named ({several}), but nothing in these annotations tells which object is "
                "of which: name one, or take annotations that tell it."
            )
    if task == "instance":
        names = {raw: name for raw, name in names.items() if raw != 0}
    things = own.things and {raw: own.things.get(raw, True) for raw in names}
    return NamedIds(names, things)


def _names_by_annotated_ids(
    named: NamedIds, tables: Tables, columns: Columns, reader: AnnotationFormat, void_ids: set[int]
) -> NamedIds:
    """The names by the ids in the annotations, where 0 is background or void: names may leave that out.

    Two customs exist. If the name of 0 is missing or like that of a background, names are of these ids; otherwise they
    may also be of the classes from id 1 on, counted from 0. The ids that occur tell which, where only one custom has a
    name for each, or there are as many names as ids.
    """
    names = named.names
    if 0 not in names or is_background(names[0]) or isinstance(reader, ColourMapFormat) or reader.names is not None:
        return named  # tables of colours, and forms with names of their own, are of the ids in the annotations
    shifted = NamedIds(
        {raw + 1: name for raw, name in names.items()},
        named.things and {raw + 1: thing for raw, thing in named.things.items()},
    )
    ids = set() if tables.are_heads else {0} | _scan(tables, columns, reader).keys() - void_ids
    have_names, have_names_shifted = ids <= names.keys(), ids <= {0} | shifted.names.keys()
    if have_names != have_names_shifted:
        return named if have_names else shifted
    as_many = have_names and len(ids) == len(names) > 1
    chosen = named if as_many else shifted
    first = min(chosen.names.keys() - {0})
    why = "as there are as many ids" if as_many else "which nothing else tells"
    logger.warning(
        f"The first of {len(names)} names, '{names[0]}', does not sound like background: it is taken for that of id "
        f"{0 if as_many else 1}, {why}, so that {first} is '{chosen.names[first]}' and {max(chosen.names)} is "
        f"'{chosen.names[max(chosen.names)]}'. If that is wrong, name the ids from 1 on alone (id2label, as "
        '{"1": "road", "2": "sky"}).'
    )
    return chosen


def _with_background(named: NamedIds) -> NamedIds:
    """The names with that of id 0, called background where it has none."""
    return NamedIds({0: BACKGROUND} | named.names, named.things and {0: False} | named.things)


def _names_in_features(rows: Dataset, columns: Columns) -> list[str] | None:
    annotations = [columns.map, columns.info, columns.objects, columns.classes if columns.masks else None]
    return class_names(rows.features, [name for name in annotations if name in rows.features])


def _check_same_names(splits: Mapping[str, Dataset], columns: Columns) -> None:
    """Raises a DataError where an id is another class in another split, as of tables that were loaded one by one."""
    names = {split: _names_in_features(rows, columns) or [] for split, rows in splits.items()}
    first = next(iter(names))
    for split in names:
        for raw, (here, there) in enumerate(zip(names[first], names[split], strict=False)):
            if here != there:
                raise DataError(
                    f"Id {raw} is '{here}' in split '{first}' and '{there}' in split '{split}': a ClassLabel with the "
                    "same names in the same order is expected in all."
                )


def _names_in_table(rows: Dataset, columns: Columns) -> NamedIds | None:
    names = _names_in_features(rows, columns)
    if names is not None:
        return NamedIds(dict(enumerate(names)))
    column = next((name for name in LABEL_COLUMNS if name in rows.column_names), None)
    return None if column is None else read_named_ids(rows.select_columns([column])[0][column])


def _scan(tables: Tables, columns: Columns, reader: AnnotationFormat) -> dict[int, bool]:
    """Ids in the annotations of all splits but test splits."""
    if tables.are_heads:
        raise DataError(
            "Neither the columns of the stream nor --id2label tell its classes, and a stream is not searched to its "
            'end for them: pass --id2label with their names ({"0": "sky"}); for panoptic segmentation as COCO '
            "categories whose 'isthing' says which are things."
        )
    return scan_class_ids(annotated_splits(tables.splits), reader, columns.image)


def _names_of_found_ids(found: Mapping[int, bool], special: set[int], background: bool) -> NamedIds:
    """ "class_<id>" for each id found. Only these are numbered: ids may have gaps, as 0, 20, 40 or 0, 1, 65535.

    Of 0 and 1, as of black and white, and with `background`, 0 is called background.
    """
    ids = sorted(found.keys() - special)
    if not found:
        raise DataError("The annotations list no object, and nothing names their classes.")
    if not ids:
        raise DataError(
            f"The annotations have no class id but {', '.join(map(str, sorted(found)))}, which mean void or "
            "background: check ignore_index and reduce_labels."
        )
    if ids[-1] == HIGHEST_OF_16_BITS:
        raise DataError(
            f"The annotations have the id {ids[-1]}, the highest of 16 bits, which mostly marks unlabelled pixels: "
            f"pass --ignore_index {ids[-1]} if it does, or name all classes with --id2label."
        )
    if len(ids) > MAX_UNNAMED:
        raise DataError(
            f"The annotations have {len(ids)} ids, {summarize(ids)}, and no names of classes. So many are seldom "
            "classes, but grey values of a mask that was resized or saved as JPEG, or numbers of objects. If they are "
            "classes, name them with --id2label."
        )
    unused = sorted(found.keys() & special)
    meaning = f" Pixels of id {', '.join(map(str, unused))} are void or background." if unused else ""
    names = {raw: f"class_{raw}" for raw in ids}
    if ids == [0, 1] and not any(found.values()):
        names = {0: BACKGROUND, 1: "foreground"}
    elif background:
        names[0] = BACKGROUND
    become = f"the {len(ids)} ids found, {summarize(ids)}, become the classes '{names[ids[0]]}' to '{names[ids[-1]]}'"
    if len(ids) == 1:
        become = f"the only id found, {ids[0]}, becomes the class '{names[ids[0]]}'"
    logger.warning(f"The dataset does not name its classes: {become}.{meaning} A label file (id2label) names them.")
    return NamedIds(names)


def _tell_things_from_stuff(
    labels: LabelSet, tables: Tables, columns: Columns, reader: AnnotationFormat, task: str
) -> LabelSet:
    if task == "instance" and not _has_class_map(reader):
        return replace(labels, is_thing=(True,) * len(labels))
    if task == "semantic":
        return labels
    if reader.has_categories:
        logger.warning(
            "Nothing tells which classes are stuff, so no segments are fused in panoptic results. "
            "A label file of COCO categories with 'isthing' tells it."
        )
        return labels
    found = _scan(tables, columns, reader)
    return replace(labels, is_thing=tuple(found.get(raw, False) for raw in labels.dataset_ids))
