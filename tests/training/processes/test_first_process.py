"""What the first process finds out holds for all; the others do not look."""

from types import SimpleNamespace

import pytest

from modeling_maskformer.data.errors import DataError
from modeling_maskformer.training import first_process
from modeling_maskformer.training.first_process import on_first_process


@pytest.fixture
def processes(monkeypatch):
    """Is two processes, one after the other; the second is passed what the first one broadcasts."""
    sent = []

    def broadcast(values):
        if not sent:
            sent.append(values)
        return sent[0]

    def each():
        for index in range(2):
            state = SimpleNamespace(num_processes=2, is_main_process=index == 0)
            monkeypatch.setattr(first_process, "PartialState", lambda state=state: state)
            yield index

    monkeypatch.setattr(first_process, "broadcast_object_list", broadcast)
    return each()


def test_one_process_finds_for_all(processes):
    calls = []

    def find():
        calls.append(1)
        return {"found": 3}

    assert [on_first_process(find) for _ in processes] == [{"found": 3}] * 2
    assert len(calls) == 1


def test_what_it_raises_is_raised_in_all(processes):
    def find():
        raise DataError("Sample 3 is broken.")

    for _ in processes:
        with pytest.raises(DataError, match="Sample 3 is broken"):
            on_first_process(find)


def test_a_process_alone_sends_nothing(monkeypatch):
    monkeypatch.setattr(first_process, "broadcast_object_list", None)
    assert on_first_process(lambda: 5) == 5
