"""Ctrl-C in a program: a sentence, and nothing else is changed."""

import sys

import pytest

from modeling_maskformer.commands.broken_off import saying_when_broken_off


@pytest.mark.parametrize(("rank", "said"), [("0", "\nIt was broken off.\n"), ("1", "")])
def test_the_first_process_says_the_sentence_and_other_errors_are_written_as_before(monkeypatch, capsys, rank, said):
    others = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: others.append(error[0]))
    monkeypatch.setenv("RANK", rank)
    with pytest.raises(KeyboardInterrupt), saying_when_broken_off(lambda: "It was broken off."):
        raise KeyboardInterrupt
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    sys.excepthook(ValueError, ValueError(), None)
    assert capsys.readouterr().err == said
    assert others == [ValueError]
