"""Progress in the terminal: a bar with time left and rate, or one line a finished task elsewhere.

    with progress.bar("train", steps) as advance:
        advance(50, "loss 0.31")
    progress.note("round 1: 40x")

Everything goes to standard error, so that standard output holds results alone. Bars opened
inside one another share one display. Of several processes of one run the first alone shows anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from jax_prune import distributed

QUIET = 30.0  # seconds between two lines of a task where there is no terminal

Advance = Callable[..., None]
_display: ContextVar[Progress | None] = ContextVar("display", default=None)


@cache
def _console() -> Console:
    return Console(stderr=True, highlight=False, quiet=not distributed.is_first())


class _Rate(ProgressColumn):
    """Units a second, over the recent updates."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.3g}/s" if speed < 1000 else f"{speed:,.0f}/s")


def _new_display() -> Progress:
    what = [TextColumn("[bold]{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn()]
    when = [TimeRemainingColumn(elapsed_when_finished=True), _Rate(), TextColumn("[dim]{task.fields[text]}")]
    return Progress(*what, *when, console=_console())


@contextmanager
def bar(description: str, total: int) -> Iterator[Advance]:
    """Show a task of ``total`` units; yields ``advance(units=1, text="")``.

    On a terminal: description, bar, count, time left, rate and the latest text. Elsewhere:
    a line every QUIET seconds, and one when the task has finished (none when it raised).
    """
    show = _terminal_bar if _console().is_terminal else _quiet_bar
    with show(description, total) as advance:
        yield advance


@contextmanager
def _terminal_bar(description: str, total: int) -> Iterator[Advance]:
    outer = _display.get()
    if outer is not None:
        yield _add_task(outer, description, total)
        return
    with _new_display() as display:
        token = _display.set(display)
        try:
            yield _add_task(display, description, total)
        finally:
            _display.reset(token)


def _add_task(display: Progress, description: str, total: int) -> Advance:
    task = display.add_task(escape(description), total=total, text="")

    def advance(units: int = 1, text: str = "") -> None:
        display.advance(task, units)
        if text:
            display.update(task, text=escape(text))

    return advance


@contextmanager
def _quiet_bar(description: str, total: int) -> Iterator[Advance]:
    begin, done, latest = time.monotonic(), 0, ""
    said = begin

    def advance(units: int = 1, text: str = "") -> None:
        nonlocal done, latest, said
        done, latest, now = done + units, text or latest, time.monotonic()
        if now - said >= QUIET and 0 < done < total:
            said = now
            note(f"{description}: {done}/{total}, about {(now - begin) / done * (total - done):.0f} s left")

    yield advance
    note(f"{description}: {done}/{total} in {time.monotonic() - begin:.1f} s{', ' if latest else ''}{latest}")


def note(text: str) -> None:
    """Print one line, above any bar that is on show."""
    _console().print(text, markup=False, soft_wrap=True)


def size(count: int) -> str:
    """Bytes in the unit that reads best (1 kB is 1,000 bytes)."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:,.1f} {unit}"
    return f"{count:,} B"
