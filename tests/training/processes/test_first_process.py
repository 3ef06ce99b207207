"""What the first process finds out holds for all; the others do not look."""

from types import SimpleNamespace

import pytest

from modeling_maskformer.data.errors import DataError
from modeling_maskformer.training import first_process
from modeling_maskformer.training.first_process import on_first_process


@pytest.fixture
def processes(monkeypatch):
    """Asks two processes one after the other, and passes on what the first one broadcasts."""
    sent = []

    def broadcast(values):
        if not sent:
            sent.append(values)
        return sent[0]

    monkeypatch.setattr(first_process, "broadcast_object_list", broadcast)
    return [SimpleNamespace(world_size=2, process_index=index) for index in range(2)]


def test_one_process_finds_for_all(processes):
    calls = []

    def find():
        calls.append(1)
        return {"found": 3}

    assert [on_first_process(arguments, find) for arguments in processes] == [{"found": 3}] * 2
    assert len(calls) == 1


def test_what_it_raises_is_raised_in_all(processes):
    def find():
        raise DataError("Sample 3 is broken.")

    for arguments in processes:
        with pytest.raises(DataError, match="Sample 3 is broken"):
            on_first_process(arguments, find)


def test_a_process_alone_sends_nothing(monkeypatch):
    monkeypatch.setattr(first_process, "broadcast_object_list", None)
    assert on_first_process(SimpleNamespace(world_size=1), lambda: 5) == 5
