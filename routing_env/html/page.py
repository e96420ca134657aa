"""One self-contained page: texts, sortable tables, charts and panels, with their styles and scripts inside.

Whatever comes from outside passes through :func:`text` or is JSON in a script element, so that a name with markup is
shown as it is. A content security policy in the page forbids every request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from routing_env.names import printable

if TYPE_CHECKING:
    import plotly.graph_objects as go


class _Page(Template):
    delimiter = "%%"


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        shown: Its text.
        value: What it is sorted by: a number or a text; None is sorted to the end.
    """

    shown: str
    value: float | str | None


def require_plotly() -> None:
    """Check that plotly is installed.

    Raises:
        ModuleNotFoundError: It is not; the message says how to install it.
    """
    try:
        import plotly  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("--html needs plotly: pip install 'routing-env[html]'") from error


def text(given: str) -> str:
    """A text as HTML that shows it as it is."""
    return escape(printable(given))


def embedded(content: Any) -> str:
    """A script element that holds JSON, or JSON that is written already, and can be closed by nothing inside it."""
    written = content if isinstance(content, str) else json.dumps(content, separators=(",", ":"))
    return '<script type="application/json">' + written.replace("<", "\\u003c") + "</script>"


def section(heading: str, note: str, *parts: str, level: int = 2) -> str:
    """Parts under a heading and a remark; the parts are HTML, the other arguments are plain texts."""
    remark = f'<p class="note">{text(note)}</p>' if note else ""
    return "\n".join([f"<section><h{level}>{text(heading)}</h{level}>{remark}", *parts, "</section>"])


def table(headings: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table that is sorted by a click on a heading."""
    head = "".join(
        f'<th scope="col"><button type="button" title="{text(heading)}">{text(heading)}</button></th>'
        for heading in headings
    )
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in rows)
    rows_in_table = f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>"
    return f'<div class="scroll tabled" tabindex="0">{rows_in_table}</div>'


def meanings(terms: Mapping[str, str]) -> str:
    """An explanation of terms, folded."""
    listed = "".join(f"<dt>{text(term)}</dt><dd>{text(meaning)}</dd>" for term, meaning in terms.items())
    return f"<details><summary>What the columns mean</summary><dl>{listed}</dl></details>"


def chart(figure: go.Figure, *, circular: bool = False) -> str:
    """A chart that is drawn when it comes into view, in the colours of the page."""
    return f'<figure class="chart{" round" if circular else ""}">{embedded(figure.to_json())}</figure>'


def charts(lines: Mapping[str, tuple[str, str]], sections: Sequence[str]) -> str:
    """Charts side by side where there is room, under one legend that switches their lines on and off.

    Args:
        lines: Colour and dash of each line, by its name.
        sections: HTML of the charts; the group of a trace is the number of its line.
    """
    chips = "".join(
        f'<button type="button" class="chip" aria-pressed="true" data-group="{number}" title="{text(name)}">'
        f'<svg width="26" height="4"><line x1="0" x2="26" y1="2" y2="2" stroke="{colour}" stroke-width="3" '
        f'stroke-dasharray="{_DASHES[dash]}"/></svg><span>{text(name)}</span></button>'
        for number, (name, (colour, dash)) in enumerate(lines.items())
    )
    return "\n".join(
        ['<div class="charted">', f'<div class="legend">{chips}</div><div class="charts">', *sections, "</div></div>"]
    )


def choices(label: str, panels: Mapping[str, str]) -> str:
    """Panels of which a select shows one; without a select where there is a single one."""
    if len(panels) == 1:
        return next(iter(panels.values()))
    options = "".join(f'<option value="{number}">{text(name)}</option>' for number, name in enumerate(panels, 1))
    select = f'<p><label>{text(label)} <select class="choice">{options}</select></label></p>'
    shown = (f'<div data-panel="{number}">{panel}</div>' for number, panel in enumerate(panels.values(), 1))
    return "\n".join([f'<div class="choices">{select}', *shown, "</div>"])


def save_page(path: Path, title: str, subtitle: str, body: str) -> Path:
    """Write a page with one copy of plotly's script.

    Args:
        path: File to write.
        title: Of the page, as plain text.
        subtitle: Below it, as plain text.
        body: HTML.

    Raises:
        OSError: The file cannot be written.
    """
    from plotly.offline import get_plotlyjs

    parts = {name: (files("routing_env.html") / name).read_text("utf-8") for name in _PARTS}
    page = _Page(parts["page.html"]).substitute(
        title=text(title),
        subtitle=text(subtitle),
        body=body,
        style=parts["page.css"],
        plotly=get_plotlyjs(),
        script=parts["replay.js"] + parts["page.js"],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path


_PARTS = ("page.html", "page.css", "page.js", "replay.js")
_DASHES = {"solid": "none", "dash": "8 5", "dot": "2 4", "dashdot": "8 4 2 4", "longdash": "13 4"}
"""SVG's dash patterns for plotly's names of them."""


def _cell(cell: Cell) -> str:
    missing = cell.value is None or cell.value != cell.value
    value = "" if missing else text(str(cell.value))
    return f'<td data-value="{value}" title="{text(cell.shown)}">{text(cell.shown)}</td>'
