"""The style that all figures share: resolution, axes and colours."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb, to_rgb
from matplotlib.figure import Figure

from routing_env.names import printable

Colour = tuple[float, float, float]

DPI = 130
"""Dots per inch of every figure that is saved."""


def shown(text: str, longest: int = 60) -> str:
    """A name as matplotlib shows it unchanged: no formulas, no control characters, not hidden, and cut if very long.

    matplotlib reads what stands between two dollar signs as a formula, and leaves labels that begin with an underscore
    out of legends.
    """
    text = printable(text)
    text = text if len(text) <= longest else text[: longest - 3] + "..."
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def folded(text: str, width: int = 28) -> str:
    """A name as :func:`shown`, in as many lines as it takes."""
    text = printable(text)
    text = text if len(text) <= 60 else text[:57] + "..."
    return "\n".join(map(shown, wrap(text, width) or [""]))


def legend_beside(figure: Figure, handles: Sequence[Artist], title: str | None = None) -> None:
    """Put a legend to the right of a figure, which grows where the legend is higher."""
    lines = sum(str(handle.get_label()).count("\n") + 1 for handle in handles)
    figure.set_figheight(max(figure.get_figheight(), 0.5 + 0.18 * lines))
    figure.legend(handles=list(handles), loc="outside right upper", frameon=False, fontsize=8, title=title)


def spread(number: int, most: int) -> list[int]:
    """At most this many of the indices of a sequence, evenly spread, the first one and the last one among them."""
    kept = min(number, most)
    return [round(i * (number - 1) / max(kept - 1, 1)) for i in range(kept)]


def plain(axes: Axes) -> None:
    """Remove the upper and the right spine and draw a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def line_colour(number: int) -> str:
    """The colour of the line with this number, from 0: matplotlib's cycle of ten, then shades of grey."""
    return f"C{number}" if number < 10 else f"{0.1 * (number % 10)}"


def task_colours(tasks: int) -> list[Colour]:
    """One colour for each task; neighbours differ in hue, and beyond ten tasks in lightness too."""
    if tasks <= 10:
        return [to_rgb(colormaps["tab10"](i)) for i in range(tasks)]
    tones = [(0.85, 0.80), (0.60, 0.95), (0.95, 0.55)]
    colours: list[Colour] = []
    for i in range(tasks):
        red, green, blue = hsv_to_rgb((i / tasks, *tones[i % len(tones)])).tolist()
        dim = min(1.0, 0.7 / lightness((red, green, blue)))
        colours.append((dim * red, dim * green, dim * blue))
    return colours


def lightness(colour: Colour) -> float:
    """Perceived lightness of a colour, in [0, 1]."""
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue
