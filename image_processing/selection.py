"""Some of the queries of each image of a batch, packed, without a wait for the device."""

from __future__ import annotations

import torch
from torch import Tensor


def selected_first(selected: Tensor, count: int) -> Tensor:
    """`(B, count)` int64: of the queries that `selected` `(B, Q)` bool marks the numbers in order, then of others."""
    return selected.to(torch.int32).argsort(dim=1, descending=True, stable=True)[:, :count]


def maps_of(maps: Tensor, queries: Tensor) -> Tensor:
    """`(B, S, h, w)`: the maps of some queries `(B, S)`, of `(B, Q, h, w)`."""
    return maps.gather(1, queries[:, :, None, None].expand(-1, -1, *maps.shape[2:]))
