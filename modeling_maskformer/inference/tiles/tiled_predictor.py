"""TiledPredictor: pictures of any size -> predictions, in memory bounded by a tile and the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from transformers import PreTrainedModel

from .blending import class_map_of_tiles
from .grid import Grid, Tile
from .joining import instances_of_tiles, panoptic_of_tiles

Picture = Image.Image | Tensor


class TilePredictor(Protocol):
    """What predicts tiles: `Predictor`, or for semantic segmentation `MultiScalePredictor`."""

    task: str
    model: PreTrainedModel

    def __call__(self, images: Sequence[Picture]) -> list[Any]: ...

    def score_strips(self, images: Sequence[Picture]) -> Iterator[Iterator[tuple[slice, Tensor]]]: ...


class TiledPredictor:
    """Callable on pictures like `Predictor`; those larger than a tile are predicted in tiles that overlap.

    Each tile is a picture of its own to the image processor, which resizes it as it does all others. So a tile should
    show about as many pixels as the pictures of the training did, or the objects in it come in another size.

    - Semantic: the scores of tiles fade into each other where they overlap.
    - Instance, panoptic: segments that two tiles see are joined by the overlap of their masks; stuff by its class.
    - A picture that one tile covers gets what the predictor gives for it.

    Args:
        predictor: makes the predictions of tiles.
        tile: the largest height and width of a tile, in pixels of the picture.
        overlap: pixels that neighbours share at least. None: an eighth of the tile.
        batch_size: tiles that are predicted at once.

    Raises:
        ValueError: tiles that do not overlap, or are nothing but overlap.
    """

    def __init__(
        self, predictor: TilePredictor, tile: int = 1024, overlap: int | None = None, batch_size: int = 1
    ) -> None:
        self.predictor = predictor
        self.tile = tile
        self.overlap = overlap_of(tile, overlap)
        self.batch_size = batch_size
        self.task = predictor.task

    @property
    def model(self) -> PreTrainedModel:
        return self.predictor.model

    @torch.inference_mode()
    def __call__(self, images: Sequence[Picture]) -> list[Any]:
        """One prediction per picture (RGB, or (3, H, W) uint8), each at the picture's own size, as of `Predictor`.

        Class maps of several tiles are uint8, or int16 above 256 classes.
        """
        return [self._predict(image) for image in images]

    def _predict(self, image: Picture) -> Any:
        grid = Grid.of(tuple(F.get_size(image)), self.tile, self.overlap)
        if len(grid) == 1:
            return self.predictor([image])[0]
        if self.task == "semantic":
            return class_map_of_tiles(grid, self._predicted(image, grid, self.predictor.score_strips))
        join = instances_of_tiles if self.task == "instance" else panoptic_of_tiles
        return join(grid, self._predicted(image, grid, self.predictor))

    def _predicted(
        self, image: Picture, grid: Grid, predict: Callable[[Sequence[Picture]], Any]
    ) -> Iterator[tuple[Tile, Any]]:
        tiles = list(grid)
        for start in range(0, len(tiles), self.batch_size):
            batch = tiles[start : start + self.batch_size]
            yield from zip(batch, predict([_crop(image, tile) for tile in batch]), strict=True)


def _crop(image: Picture, tile: Tile) -> Picture:
    return F.crop(
        image,
        tile.rows.start,
        tile.columns.start,
        tile.rows.stop - tile.rows.start,
        tile.columns.stop - tile.columns.start,
    )


@dataclass
class TileArguments:
    """The flags of scripts that predict in tiles on request."""

    _argument_group_name = "tiles"

    tile: int | None = field(
        default=None,
        metadata={
            "help": "Predict larger pictures in tiles of this height and width, in pixels of the picture: about as "
            "many as the pictures of the training had. The results of tiles are joined."
        },
    )
    overlap: int | None = field(
        default=None, metadata={"help": "Pixels that neighbouring tiles share at least. Default: an eighth of --tile."}
    )

    def __post_init__(self) -> None:
        if self.tile is not None:
            self.overlap = overlap_of(self.tile, self.overlap)
        elif self.overlap is not None:
            raise ValueError("--overlap goes with --tile: pass it too.")

    def tiled(self, predictor: TilePredictor, batch_size: int = 1) -> TilePredictor | TiledPredictor:
        """The predictor in tiles, or as it is where none were asked for."""
        return predictor if self.tile is None else TiledPredictor(predictor, self.tile, self.overlap, batch_size)


def overlap_of(tile: int, overlap: int | None) -> int:
    """The overlap asked for, or an eighth of the tile.

    Raises:
        ValueError: tiles that do not overlap, or are nothing but overlap.
    """
    overlap = max(1, tile // 8) if overlap is None else overlap
    if not 1 <= overlap < tile:
        raise ValueError(
            f"Tiles of {tile} pixels (--tile) must overlap (--overlap) by 1 to {tile - 1} of them, got {overlap}."
        )
    return overlap
