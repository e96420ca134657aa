"""The zoo: trained runs that come with the package, such as ``load_run("zoo:wpl-digits")``.

An entry is a run directory without figures, and ``card.md``: how it was trained, on which data, and what it reached.
"""

from __future__ import annotations

from pathlib import Path

from routing_env.names import look_up

ZOO = Path(__file__).resolve().parents[1] / "zoo"
"""Folder of the entries."""

PREFIX = "zoo:"
"""What the name of an entry begins with where a path may be given too."""

CARD = "card.md"
"""File that describes an entry; its first paragraph says what it is in one line."""


def zoo_entries(zoo: Path = ZOO) -> dict[str, str]:
    """What each entry is, in one line, by its name."""
    cards = {path.parent.name: path.read_text(encoding="utf-8") for path in sorted(zoo.glob(f"*/{CARD}"))}
    return {name: card.split("\n\n")[1] for name, card in cards.items()}


def run_folder(run: Path | str) -> Path:
    """The folder of a run.

    Args:
        run: Its path, or the name of an entry of the zoo as ``zoo:NAME``.

    Raises:
        ValueError: There is no such entry; the message suggests the closest match.
    """
    prefix, name = str(run)[: len(PREFIX)], str(run)[len(PREFIX) :]
    if prefix != PREFIX:
        return Path(run)
    look_up("entry of the zoo", name, zoo_entries())
    return ZOO / name
