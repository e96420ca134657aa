"""What can be named on the command line, and the options of a router or baseline, as tables for a terminal."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from routing_env.agents import ROUTERS, router_class
from routing_env.baselines import BASELINES, SizeOptions, baseline_class, size_options
from routing_env.benchmark.suites import SUITES
from routing_env.benchmark.tuning import described, space_of
from routing_env.data import DATASETS
from routing_env.envs.sb3_algorithms import ALGORITHMS
from routing_env.names import field_docs, option_docs, printable
from routing_env.runs.learners import is_baseline
from routing_env.runs.run import resolve_run
from routing_env.runs.settings import SB3_PREFIX
from routing_env.runs.zoo import zoo_entries


def show_everything(console: Console) -> None:
    """Print data sets, routers, baselines, suites and the zoo, each with what it is."""

    def first_line(found: type) -> str:
        return (found.__doc__ or "").strip().splitlines()[0]

    lists = {
        "data sets (--data)": {name: f"{info.summary}\n{_usual(info.usual)}" for name, info in DATASETS.items()},
        "routers (--router)": {name: first_line(router_class(name)) for name in ROUTERS},
        "baselines (--router too)": {name: first_line(baseline_class(name)) for name in BASELINES},
        "algorithms of Stable-Baselines3 and sb3-contrib (--router too)": {
            f"{SB3_PREFIX}{name}": summary for name, (_, summary) in ALGORITHMS.items()
        },
        "suites (routing-env benchmark)": {name: suite.summary for name, suite in SUITES.items()},
        "the zoo (routing-env evaluate zoo:NAME)": zoo_entries(),
    }
    for title, entries in lists.items():
        table = Table("name", "what it is", title=title, title_justify="left")
        for name, summary in entries.items():
            table.add_row(name, summary)
        console.print(table)
    console.print("Your own router or baseline: --router module:Class or --router file.py:Class")


def _usual(usual: Mapping[str, Any]) -> str:
    """The usual settings of a data set in a line."""
    return "usually " + " ".join(f"--{name.replace('_', '-')} {value}" for name, value in usual.items())


def show_options(name: str, console: Console) -> None:
    """Print the options of a router or baseline: name, default, meaning, and what ``routing-env tune`` searches.

    Args:
        name: A name of ``routing-env list``, or your own as ``module:Class`` or ``file.py:Class``. The options of an
            algorithm of Stable-Baselines3 are those of ``routing-env train``, with digits.
        console: Where to print.

    Raises:
        ValueError: An unknown name, with the closest match.
    """
    title = f"{name} (--router-options name=value ...)"
    table = Table("option", "default", "meaning", title=Text(printable(title)), title_justify="left")
    for row in option_rows(name):
        table.add_row(*map(Text, row))
    console.print(_summary(name), markup=False, highlight=False)
    console.print(table if table.rows else "It has no options.")


def option_rows(name: str) -> list[tuple[str, str, str]]:
    """The options of a router or baseline, each with its default and what it means.

    Raises:
        ValueError: An unknown name, with the closest match.
    """
    if name.startswith(SB3_PREFIX):
        return _rows_of_sb3(name)
    found = _class_of(name)
    docs = option_docs(found)
    searched = {option: described(one) for option, one in space_of(name).items()}
    defaults: dict[str, str] = {}
    for option, parameter in inspect.signature(found).parameters.items():
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if named and option not in ("spec", "plan", "seed"):
            defaults[option] = "" if parameter.default is parameter.empty else repr(parameter.default)
    if is_baseline(name):
        docs = {**field_docs(SizeOptions), **docs}
        defaults |= {option: repr(value) for option, value in size_options(found).items()}
    rows: list[tuple[str, str, str]] = []
    for option, default in defaults.items():
        searches = f" `routing-env tune` searches {searched[option]}." if option in searched else ""
        rows.append((option, default, (" ".join(docs.get(option, "").split()) + searches).strip()))
    return rows


def _rows_of_sb3(name: str) -> list[tuple[str, str, str]]:
    from routing_env.envs.sb3_router import described_options  # slow to import

    run, data = resolve_run({"router": name})
    lanes, depth = run.game.batch_size, run.game.depth
    rows = described_options(name.removeprefix(SB3_PREFIX), tasks=data.tasks, depth=depth, lanes=lanes)
    return [(option, default, re.sub(r":\w+:`([^`]*)`|``", r"\1", meaning)) for option, default, meaning in rows]


def _summary(name: str) -> str:
    if name.startswith(SB3_PREFIX):
        about = ALGORITHMS[name.removeprefix(SB3_PREFIX)][1]
        return f"{about} The defaults are those for digits; some follow from the tasks, the depth and the batch size."
    return ((_class_of(name).__doc__ or "").strip().splitlines() or [""])[0]


def _class_of(name: str) -> Any:
    return (baseline_class if is_baseline(name) else router_class)(name)
