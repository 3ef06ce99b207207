"""Instances and panoptic segments of tiles -> those of the picture: each object once, however many tiles see it.

Segments of neighbouring tiles are joined where `linking.py` finds them to be one object, tile by tile, so that an
object may be longer than any number of tiles. Stuff is joined by its class. Where tiles overlap, the one whose middle
is nearest decides: it sees most of what is around a pixel.

Masks are kept run-length encoded, those of tiles and those of the picture; one mask of one tile is decoded at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask

from image_processing.results import encode_ids, encode_mask, encode_runs, runs_of_mask

from .grid import Box, Grid, Tile, shared
from .linking import Part, links

VOID = 0
ROWS_AT_ONCE = 256  # of the id map, when its ids are made those of the result


@dataclass(frozen=True)
class Segment:
    """A segment of one tile.

    Attributes:
        tile: where.
        info: its entry in the tile's `segments_info`.
        rle: COCO RLE of its mask, as large as the tile.
    """

    tile: Tile
    info: Mapping[str, Any]
    rle: dict

    @property
    def area(self) -> int:
        """Its pixels in this tile."""
        return int(coco_mask.area(self.rle))


class Joiner:
    """Takes in the segments of tiles in the order of the grid, and tells which of them are one object.

    Args:
        grid: the tiles of the picture.

    Attributes:
        segments: all that were added; their numbers are their places here.
    """

    def __init__(self, grid: Grid) -> None:
        self.segments: list[Segment] = []
        self._tiles = {(tile.row, tile.column): tile for tile in grid}
        self._parents: list[int] = []
        self._stuff: dict[int, int] = {}  # class -> its first segment
        self._parts: dict[tuple[Tile, Tile], list[Part]] = defaultdict(list)  # of a tile, where a later one looks too

    def add(self, tile: Tile, rles: Sequence[dict], infos: Sequence[Mapping[str, Any]]) -> None:
        """Takes in the segments of a tile: RLEs as large as it, and their entries of `segments_info`."""
        earlier, later = self._neighbours(tile, -1), self._neighbours(tile, 1)
        own: dict[Tile, list[Part]] = defaultdict(list)
        for rle, info in zip(rles, infos, strict=True):
            number = len(self.segments)
            self.segments.append(Segment(tile, info, rle))
            self._parents.append(number)
            if info["was_fused"]:
                self._join(self._stuff.setdefault(info["label_id"], number), number)
                continue
            mask = coco_mask.decode(rle).view(bool)
            for other in (*earlier, *later):
                inside = mask[tile.inside(shared(tile, other))]
                if inside.any():
                    is_cut = bool(mask[_border(tile, other)].any())
                    part = Part(number, info["label_id"], info["score"], encode_mask(inside), is_cut)
                    (own[other] if other in earlier else self._parts[tile, other]).append(part)
        for other in earlier:
            for pair in links(self._parts.pop((other, tile), []), own[other]):
                self._join(*pair)

    def objects(self) -> list[list[int]]:
        """The numbers of the segments of each object, in the order of their first ones."""
        members: dict[int, list[int]] = {}
        for number in range(len(self.segments)):
            members.setdefault(self._first(number), []).append(number)
        return list(members.values())

    def info(self, members: Sequence[int]) -> dict[str, Any]:
        """The entry of an object: stuff has the best score, a thing the mean over the pixels that its tiles see."""
        segments = [self.segments[number] for number in members]
        scores = [segment.info["score"] for segment in segments]
        if segments[0].info["was_fused"]:
            score = max(scores)
        else:
            areas = [segment.area for segment in segments]
            score = sum(score * area for score, area in zip(scores, areas, strict=True)) / sum(areas)
        return {**segments[0].info, "score": round(score, 6)}

    def _neighbours(self, tile: Tile, step: int) -> list[Tile]:
        places = ((tile.row, tile.column + step), (tile.row + step, tile.column))
        return [self._tiles[place] for place in places if place in self._tiles]

    def _first(self, number: int) -> int:
        """The first segment of the object that this one belongs to."""
        while self._parents[number] != number:
            self._parents[number] = number = self._parents[self._parents[number]]
        return number

    def _join(self, one: int, other: int) -> None:
        one, other = sorted((self._first(one), self._first(other)))
        self._parents[other] = one


def panoptic_of_tiles(grid: Grid, tiles: Iterable[tuple[Tile, Mapping[str, Any]]]) -> dict[str, Any]:
    """`segmentation`, `(H, W)` int32 ids on the CPU, 0 where there is no segment, and `segments_info`.

    Args:
        grid: the tiles of the picture.
        tiles: each tile in the order of the grid, with its panoptic result.
    """
    joiner = Joiner(grid)
    numbers = torch.zeros(grid.size, dtype=torch.int32)  # 1 + number of the segment
    areas: list[int] = []
    for tile, result in tiles:
        ids = result["segmentation"].cpu()
        infos = result["segments_info"]
        table = torch.zeros(1 + max((info["id"] for info in infos), default=0), dtype=torch.int32)
        for place, info in enumerate(infos):
            table[info["id"]] = 1 + len(joiner.segments) + place
        cell = table[ids[tile.inside(tile.cell)].long().clamp(min=0)]  # -1 is no segment either
        numbers[tile.cell] = cell
        counts = torch.bincount(cell.flatten(), minlength=1 + len(joiner.segments) + len(infos))
        areas += counts[1 + len(joiner.segments) :].tolist()
        joiner.add(tile, encode_ids(ids, [info["id"] for info in infos]), infos)

    table = torch.zeros(1 + len(areas), dtype=torch.int32)
    segments_info: list[dict] = []
    for members in joiner.objects():
        if not any(areas[number] for number in members):
            continue
        segments_info.append(joiner.info(members) | {"id": len(segments_info) + 1})
        table[[1 + number for number in members]] = len(segments_info)
    for rows in numbers.split(ROWS_AT_ONCE):
        rows.copy_(table[rows.long()])
    return {"segmentation": numbers, "segments_info": segments_info}


def instances_of_tiles(grid: Grid, tiles: Iterable[tuple[Tile, Mapping[str, Any]]]) -> dict[str, Any]:
    """`segmentation`, a list of COCO RLEs of the picture, and `segments_info`, best first.

    An instance that one tile alone sees keeps its whole mask, as long as some of it is nearest to this tile's middle.

    Args:
        grid: the tiles of the picture.
        tiles: each tile in the order of the grid, with its instances as RLEs.
    """
    joiner = Joiner(grid)
    for tile, result in tiles:
        joiner.add(tile, result["segmentation"], result["segments_info"])
    found = []
    for members in joiner.objects():
        segments = [joiner.segments[number] for number in members]
        runs = [_runs(segment, grid, segment.tile.cell) for segment in segments]
        if not any(len(starts) for starts, _ in runs):
            continue
        if len(segments) == 1:
            runs = [_runs(segments[0], grid, segments[0].tile.box)]
        starts, stops = (np.concatenate(ends) for ends in zip(*runs, strict=True))
        found.append((joiner.info(members), encode_runs(starts, stops, grid.size)))
    found.sort(key=lambda entry: -entry[0]["score"])
    return {
        "segmentation": [rle for _, rle in found],
        "segments_info": [info | {"id": number} for number, (info, _) in enumerate(found)],
    }


def _runs(segment: Segment, grid: Grid, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Where runs of the segment's pixels in a box of the picture start and stop."""
    mask = coco_mask.decode(segment.rle)[segment.tile.inside(box)]
    return runs_of_mask(mask, (box[0].start, box[1].start), grid.size[0])


def _border(tile: Tile, other: Tile) -> Box:
    """The outermost row or column of a tile that faces one of its neighbours, as a box of the tile."""
    height, width = tile.rows.stop - tile.rows.start, tile.columns.stop - tile.columns.start
    return {
        (0, 1): (slice(0, height), slice(width - 1, width)),
        (0, -1): (slice(0, height), slice(0, 1)),
        (1, 0): (slice(height - 1, height), slice(0, width)),
        (-1, 0): (slice(0, 1), slice(0, width)),
    }[other.row - tile.row, other.column - tile.column]
