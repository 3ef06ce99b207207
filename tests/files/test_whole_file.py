"""Files that appear under their names when they are whole."""

import pytest

from modeling_maskformer.files.whole_file import whole_file


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "result.json"
    with whole_file(path) as part:
        part.write_text("half")
        assert not path.exists() and part.suffix == ".json"
        part.write_text("whole")
    assert path.read_text() == "whole"
    with pytest.raises(OSError, match="disk full"), whole_file(path) as part:
        part.write_text("ha")
        raise OSError("disk full")
    assert path.read_text() == "whole" and list(tmp_path.iterdir()) == [path]
