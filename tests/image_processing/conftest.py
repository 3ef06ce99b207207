"""Both ways to a result: in tiles, as on a CPU, and plain, as on every other device and in graphs."""

import pytest

from image_processing import tiling


@pytest.fixture
def plain(monkeypatch):
    """What any device but a CPU does, done on the CPU."""
    monkeypatch.setattr(tiling, "use_tiles", lambda maps: False)


@pytest.fixture(params=["in tiles", "plain"])
def both_ways(request):
    if request.param == "plain":
        request.getfixturevalue("plain")
