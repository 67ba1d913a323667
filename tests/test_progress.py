"""Progress: a bar on a terminal, one line a finished task elsewhere, never on standard output."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from jax_prune import progress

SCRIPT = """
from jax_prune import progress
with progress.bar("train [x]", 40) as outer:
    with progress.bar("inner", 2) as inner:
        progress.note("a [bold]note[/]")
        inner(2)
    outer(30, "loss 0.31")
    outer(10)
"""


def test_elsewhere_one_line_when_finished(capsys):
    with progress.bar("train", 40) as advance:
        advance(30, "loss 0.31")
        advance(10)
        assert capsys.readouterr().err == ""
    captured = capsys.readouterr()
    assert captured.err.startswith("train: 40/40 in ") and captured.err.endswith(" s, loss 0.31\n")
    assert captured.err.count("\n") == 1 and captured.out == ""


def test_elsewhere_a_long_task_says_how_long_it_takes(capsys, monkeypatch):
    now = iter([0.0, 20.0, 40.0, 50.0, 60.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    with progress.bar("train", 40) as advance:
        for _ in range(3):
            advance(10)
    assert capsys.readouterr().err.splitlines() == ["train: 20/40, about 40 s left", "train: 30/40 in 60.0 s"]


def test_a_task_that_raised_has_no_line(capsys):
    with pytest.raises(KeyboardInterrupt), progress.bar("train", 40) as advance:
        advance()
        raise KeyboardInterrupt
    assert capsys.readouterr().err == ""


def test_a_note_is_one_line_and_literal(capsys):
    progress.note("[bold]" + "long " * 60)
    captured = capsys.readouterr()
    assert captured.err == "[bold]" + "long " * 60 + "\n" and captured.out == ""


def test_on_a_terminal_a_bar_with_rate_and_text():
    main, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "140"}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=terminal, stdout=subprocess.PIPE, env=environment)
    os.close(terminal)
    shown = b""
    try:
        while piece := os.read(main, 4096):
            shown += piece
    except OSError:  # the terminal closes with the process
        pass
    assert process.wait() == 0 and process.stdout.read() == b""
    for part in ("train [x]", "inner", "40/40", "loss 0.31", "a [bold]note[/]"):
        assert part.encode() in shown
