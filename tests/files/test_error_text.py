"""What is said of the errors of libraries."""

import pytest

from modeling_maskformer.files.error_text import first_line
from modeling_maskformer.files.hub_names import hub_hint


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError("No space left."), "No space left"),
        (RuntimeError("\n  Connection closed by peer\nException raised from x.cpp:1"), "Connection closed by peer"),
        (RuntimeError(), "RuntimeError"),
        (RuntimeError("\n"), "RuntimeError"),
    ],
)
def test_an_error_is_named_in_one_line(error, expected):
    assert first_line(error) == expected


def test_what_is_no_folder_was_looked_up_on_the_hub(tmp_path):
    assert hub_hint(tmp_path) == "" != hub_hint(tmp_path / "street")
