"""The fast way on a CPU: the result in tiles, most of which bounds decide without looking at their pixels.

What each of the three inferences does in tiles, it does beside it in its plain form, of batched tensor operations.
"""

from __future__ import annotations

from torch import Tensor

from ..size_tables import tensors_are_real


def use_tiles(maps: Tensor) -> bool:
    """Whether to work on these maps in tiles: on a CPU, where that was measured to be faster, and nowhere else.

    Tiles read numbers to go on, for which another device would have to be waited for, and which no graph has.
    """
    return maps.device.type == "cpu" and tensors_are_real()
