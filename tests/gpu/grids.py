"""Fewer cases than all pairs: each of them compiles kernels of its own, which takes seconds."""

import pytest


def sizes_and_precisions(sizes, precisions):
    """Every size in the first precision, and the first size in every precision; for `sizes` and `precision`."""
    first, *others = precisions
    pairs = [(name, first) for name in sizes] + [(next(iter(sizes)), precision) for precision in others]
    cases = [pytest.param(sizes[name], precision, id=f"{name}, {precision}") for name, precision in pairs]
    return pytest.mark.parametrize(("sizes", "precision"), cases)
