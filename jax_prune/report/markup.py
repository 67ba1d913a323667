"""Small pieces of HTML; every text that comes from a report is escaped here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from jax_prune.report import style


class Html(str):
    """Text that is HTML already; a plain str is escaped wherever it is put."""


class Cell(NamedTuple):
    """A table cell with a CSS class."""

    content: str
    kind: str = ""


def text(value: Any) -> Html:
    """The value as HTML: escaped unless it is Html."""
    return value if isinstance(value, Html) else Html(escape(str(value)))


def join(parts: Iterable[Any]) -> Html:
    """The parts, one after the other."""
    return Html("\n".join(text(part) for part in parts))


def paragraph(content: Any, kind: str = "") -> Html:
    """A paragraph, or nothing for nothing."""
    return Html(f'<p class="{kind}">{text(content)}</p>') if content else Html("")


def section(title: str, explanation: str, *parts: Any) -> Html:
    """A titled box with a line of explanation; nothing where every part is empty."""
    if not any(parts):
        return Html("")
    body = join(part for part in parts if part)
    return Html(f"<section><h2>{text(title)}</h2>{paragraph(explanation, 'muted small')}{body}</section>")


def pair(*sections: Html) -> Html:
    """Sections side by side where the window is wide enough."""
    shown = [entry for entry in sections if entry]
    return Html(f'<div class="pair">{join(shown)}</div>') if shown else Html("")


def picture(svg: str, kind: str = "picture") -> Html:
    """SVG text of figures.py in a box, or nothing."""
    return Html(f'<div class="{kind}">{svg}</div>') if svg else Html("")


def keys(entries: Mapping[str, str]) -> Html:
    """A legend: label -> CSS variable of its colour."""
    marks = [f'<span style="--key: var(--{colour})">{text(label)}</span>' for label, colour in entries.items()]
    return Html(f'<div class="keys">{"".join(marks)}</div>')


def table(head: Sequence[Any], rows: Sequence[Sequence[Any]], kinds: Mapping[int, str] | None = None) -> Html:
    """A table that scrolls sideways where it is too wide; row number -> CSS class in ``kinds``."""
    if not rows:
        return Html("")
    kinds = kinds or {}
    body = [f'<tr class="{kinds.get(i, "")}">{_cells(row, "td")}</tr>' for i, row in enumerate(rows)]
    heading = f"<thead><tr>{_cells(head, 'th')}</tr></thead>"
    return Html(f'<div class="scroll"><table>{heading}<tbody>{"".join(body)}</tbody></table></div>')


def facts(entries: Mapping[str, Any]) -> Html:
    """A table of names and values."""
    rows = "".join(f"<tr><td>{text(name)}</td><td>{text(value)}</td></tr>" for name, value in entries.items())
    return Html(f'<table class="facts"><tbody>{rows}</tbody></table>') if rows else Html("")


def bar(share: float) -> Cell:
    """A cell with a bar filled to ``share`` in [0, 1]."""
    return Cell(Html(f'<div><i style="width: {100 * min(max(share, 0.0), 1.0):.2f}%"></i></div>'), "bar")


def document(title: str, *parts: Any) -> str:
    """A whole page that needs nothing from outside: style and pictures are in it."""
    head = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{style.sheet()}</style></head>"
    )
    return f"{head}\n<body><main>\n{join(part for part in parts if part)}\n</main></body></html>\n"


def _cells(row: Sequence[Any], tag: str) -> str:
    cells = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]
    return "".join(f'<{tag} class="{cell.kind}">{text(cell.content)}</{tag}>' for cell in cells)
