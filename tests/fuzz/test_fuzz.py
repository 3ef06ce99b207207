"""Some hundred generated inputs of every kind; `python -m tests.fuzz` makes as many as one likes."""

import warnings

import pytest
from hypothesis import HealthCheck, given, settings

from .own_errors import is_own
from .worker import AREAS, area_of, outcome_of

CASES = {"datasets": 60, "processor": 120, "models": 40, "post_processing": 120, "files": 160}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("area", AREAS)
def test_generated_input_gives_a_result_or_a_sentence(area):
    module = area_of(area)

    @settings(
        max_examples=CASES[area],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(module.cases)
    def check(case):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome, error = outcome_of(module.run, case)
        if outcome not in ("result", "refused"):
            raise AssertionError(f"{outcome}: {case!r}") from error

    check()


def raised_by(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:
        return error


def test_only_an_error_that_somebody_wrote_is_the_projects_own():
    from modeling_maskformer.data.labels.label_files import read_named_ids
    from modeling_maskformer.targets import Segments

    assert is_own(raised_by(read_named_ids, "{"))
    assert not is_own(raised_by(Segments, None, []))  # 'NoneType' object has no attribute 'ndim'
    assert not is_own(raised_by(int, "x"))
    assert not is_own(raised_by({}.__getitem__, "x"))
