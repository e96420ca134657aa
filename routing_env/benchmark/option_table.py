"""The options of a router or baseline, as a table for a terminal."""

from __future__ import annotations

import inspect
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from routing_env.agents import router_class
from routing_env.baselines import SizeOptions, baseline_class, size_options
from routing_env.benchmark.tuning import described, space_of
from routing_env.names import field_docs, option_docs, printable
from routing_env.runs.learners import is_baseline


def show_options(name: str, console: Console) -> None:
    """Print the options of a router or baseline: name, default, meaning, and what ``routing-env tune`` searches.

    Args:
        name: A name of ``routing-env list``, or your own as ``module:Class`` or ``file.py:Class``.
        console: Where to print.

    Raises:
        ValueError: An unknown name, with the closest match.
    """
    found: Any = (baseline_class if is_baseline(name) else router_class)(name)
    docs = option_docs(found)
    searched = {option: described(one) for option, one in space_of(name).items()}
    title = f"{name} (--router-options name=value ...)"
    table = Table("option", "default", "meaning", title=Text(printable(title)), title_justify="left")
    defaults: dict[str, str] = {}
    for option, parameter in inspect.signature(found).parameters.items():
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if named and option not in ("spec", "plan", "seed"):
            defaults[option] = "" if parameter.default is parameter.empty else repr(parameter.default)
    if is_baseline(name):
        docs = {**field_docs(SizeOptions), **docs}
        defaults |= {option: repr(value) for option, value in size_options(found).items()}
    for option, default in defaults.items():
        searches = f" Tune searches {searched[option]}." if option in searched else ""
        table.add_row(option, Text(default), Text((" ".join(docs.get(option, "").split()) + searches).strip()))
    console.print((found.__doc__ or "").strip().splitlines()[0] if found.__doc__ else "", markup=False, highlight=False)
    console.print(table if table.rows else "It has no options.")
