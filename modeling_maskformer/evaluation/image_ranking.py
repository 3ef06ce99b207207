"""Which images of an evaluation to show: the best, the median, the worst, and some between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BEST, MEDIAN, WORST = "best", "median", "worst"


@dataclass(frozen=True)
class RankedImage:
    """An image by its place among all that have a score.

    Attributes:
        index: in its dataset.
        score: in [0, 1].
        count: of images that have a score.
        name: "best", "median", "worst", or "" for one between them.
    """

    index: int
    score: float
    count: int
    name: str = ""

    def caption(self, score_name: str) -> str:
        """A sentence: which of the images it is, and its score."""
        which = (
            "The one image with a score"
            if self.count == 1
            else f"The {self.name} of {self.count:,} images by their own score"
        )
        return f"{which}: {score_name} {self.score:.2f}."


def spread_by_score(scores: Sequence[tuple[float, int]], count: int) -> list[RankedImage]:
    """Up to `count` images from the best to the worst, evenly spread over their ranks.

    Of one it is the median, of two the best and the worst, of more all three are among them; the median of an even
    number is the better one of the two in the middle.

    Args:
        scores: (score, index) of each image.
    """
    ranked = sorted(scores, key=lambda image: (-image[0], image[1]))
    last, middle = len(ranked) - 1, (len(ranked) - 1) // 2
    count = min(count, len(ranked))
    places = [middle] if count == 1 else [place * last // (count - 1) for place in range(count)]
    if count > 2:
        nearest = min(range(1, count - 1), key=lambda number: abs(places[number] - middle))
        places[nearest] = middle
    names = {0: BEST, last: WORST} | ({middle: MEDIAN} if count != 2 else {})
    return [RankedImage(*ranked[place][::-1], len(ranked), names.get(place, "")) for place in places]
