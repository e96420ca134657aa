"""Pages of the site that are written from the code when it is built: routers, baselines, scenarios, API and others."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from routing_env.agents import ROUTERS, router_class
from routing_env.baselines import BASELINES, baseline_class
from routing_env.benchmark.option_table import option_rows
from routing_env.envs.arriving import ArrivingParallelEnv
from routing_env.envs.parallel import RoutingParallelEnv
from routing_env.envs.world import Role
from routing_env.names import field_docs, option_docs
from routing_env.routing_v0 import parallel_env
from routing_env.scenarios import SCENARIOS, Scenario

API = {
    "Games": ("routing_env:make_game", "routing_env:RoutingGame"),
    "What passes between a game and a router": (
        *("routing_env.types:Batch", "routing_env:State", "routing_env:Decision"),
        *("routing_env.types:Outcome", "routing_env.types:Counterfactuals", "routing_env:Trace"),
        *("routing_env:GameSpec", "routing_env:Router", "routing_env.capturable:CapturableRouter"),
    ),
    "Environments": (
        *("routing_env:parallel_env", "routing_env:RoutingParallelEnv"),
        *("routing_env.envs.vector:RoutingVectorEnv", "routing_env.envs.sb3:RoutingVecEnv"),
        *("routing_env.envs.epymarl:EPyMARLEnv", "routing_env.envs.epymarl:PyMARLEnv"),
    ),
    "Routed models": (
        *("routing_env.game.routed_model:RoutedModel", "routing_env.game.choices:Choice"),
        *("routing_env.game.blocks:BlockBank", "routing_env:RoutedNetwork"),
    ),
    "Data": ("routing_env:MultiTaskData", "routing_env.data:load"),
    "Runs": (
        *("routing_env:load_run", "routing_env.runs.run:Run"),
        *("routing_env.evaluations:Evaluation", "routing_env.runs.recording:Recording"),
    ),
    "Routers and baselines": (
        *("routing_env.agents:make_router", "routing_env.baselines:make_baseline"),
        "routing_env.testing:check_router",
    ),
    "Settings": ("routing_env:Settings", "routing_env.runs.settings:RunSettings"),
}
"""Sections of the API reference."""


def write_pages(folder: Path) -> None:
    """Write all pages; files that have not changed are left alone, so that a second build is quick."""
    pages = {
        **_entrants("Router pages", "routers", {name: router_class(name) for name in ROUTERS}),
        **_entrants("Baseline pages", "baselines", {name: baseline_class(name) for name in BASELINES}),
        "scenarios.md": _scenarios(),
        "environment.md": _environment_card(),
        "results.md": _results(),
        "api.rst": _api(),
    }
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _entrants(title: str, folder: str, classes: Mapping[str, type]) -> dict[str, str]:
    """A page for each router or baseline, and one that lists them."""
    rows = [(f"[{name}]({folder}/{name}.md)", _paragraphs(found)[0]) for name, found in classes.items()]
    contents = ["```{toctree}", ":hidden:", "", *(f"{folder}/{name}" for name in classes), "```", ""]
    index = [f"# {title}", "", "The names that `--router` takes, in the order of `routing-env list`.", "", *contents]
    pages = {f"{folder}.md": "\n".join([*index, *_table(("name", "what it is"), rows)])}
    for name, found in classes.items():
        lines = [f"# {name}", "", *(f"{text}\n" for text in _paragraphs(found)), "## Options", ""]
        cells = [(f"`{o}`", f"`{default}`" if default else "", _plain(text)) for o, default, text in option_rows(name)]
        lines += _table(("option", "default", "meaning"), cells) if cells else ["None.", ""]
        lines += [f"Source: `{found.__module__.removeprefix('routing_env.').replace('.', '/')}.py`", ""]
        about = _paragraphs(inspect.getmodule(found))
        if about and about[0] not in lines:
            lines += ["## Background", "", *(f"{text}\n" for text in about)]
        pages[f"{folder}/{name}.md"] = "\n".join(lines)
    return pages


def _scenarios() -> str:
    lines = ["# Scenario cards", "", "What each scenario of [routing-bench-v0](../scenarios.md) settles.", ""]
    for name, scenario in SCENARIOS.items():
        lines += [f"## {name}", "", f"It measures {_escaped(scenario.measures)}.", ""]
        lines += _table(
            ("what", "value"), [(key, _escaped(value)) for key, value in _card(name, scenario).items() if value]
        )
    return "\n".join(lines)


def _card(name: str, scenario: Scenario) -> dict[str, str]:
    best, settings = scenario.best, {**scenario.game, **scenario.run}
    return {
        "make it": f"`parallel_env(scenario={name!r})`, `gymnasium.make('routing-bench/{name}-v0')`",
        "settings": ", ".join(f"`{key}={value!r}`" for key, value in settings.items() if value),
        "epochs": str(scenario.epochs),
        "best known routing": scenario.optimum or "not known",
        "played by": "" if best is None else " ".join(f"`{part}`" for part in (best[0], *best[1])),
        "literature": scenario.literature,
    }


def _environment_card() -> str:
    env = parallel_env(scenario="planted-3x4")
    agent = env.possible_agents[0]
    observed: Any = env.observation_space(agent)
    parts = ", ".join(
        f"`{name}`: {type(space).__name__}{space.shape} {space.dtype}" for name, space in observed.items()
    )
    state: Any = env.state_space
    rows = [
        ("import", "`from routing_env import routing_v0`"),
        ("creation", "`routing_v0.parallel_env(scenario='planted-3x4')`, `routing_v0.env(...)` turn by turn"),
        ("actions", "discrete: a block, or PASS where it is enabled"),
        ("parallel API", "yes"),
        ("manual control", "no"),
        ("agents", f"`{agent}` to `{env.possible_agents[-1]}`: one for each task; see `topology` for others"),
        ("action space", f"`{env.action_space(agent)}`"),
        ("observation space", f"{type(observed).__name__} of {parts}; the observation is v, the task and the depth"),
        ("state space", f"{type(state).__name__}{state.shape} {state.dtype}, the observations of all agents"),
        ("rewards", "+1 or -1 at the last step (`final_reward`); at every step the collaboration reward (`rho`)"),
        ("episode end", "after D decisions, by termination, for all agents together"),
        ("render modes", ", ".join(f"`{mode}`" for mode in env.metadata["render_modes"])),
        ("version history", "v0: the first version"),
    ]
    env.close()
    about = "The numbers are those of `planted-3x4`; [environment.md](../environment.md) explains all of it."
    card = ["# Environment card: `routing_v0`", "", about, "", *_table(("what", "value"), rows), "## Arguments", ""]
    card += ["The arguments of `parallel_env`, with the defaults for `planted`, the data set that is played if none is"]
    card += ["given. Other data sets have other usual settings: `routing-env list` shows them."]
    return "\n".join([*card, *_table(("argument", "default", "meaning"), _arguments())])


def _arguments() -> list[tuple[str, str, str]]:
    """The arguments of ``parallel_env``, each with its default and what it means."""
    docs, defaults = dict[str, str](), dict[str, Any]()
    for owner in (parallel_env, RoutingParallelEnv, ArrivingParallelEnv):
        for one in inspect.signature(owner).parameters.values():
            if one.kind is not one.VAR_KEYWORD:
                docs.setdefault(one.name, option_docs(owner)[one.name])
                defaults.setdefault(one.name, one.default)
    for values in (Role(), parallel_env().settings):
        docs |= field_docs(type(values))
        defaults |= {field.name: getattr(values, field.name) for field in fields(values)}
    del docs["batch_size"]  # an environment refuses it: its agents say how many samples are dealt
    return [(f"`{name}`", f"`{defaults[name]!r}`", _plain(text[:1].upper() + text[1:])) for name, text in docs.items()]


def _results() -> str:
    """The rules for submissions, with links that hold within the site."""
    text = (Path(__file__).parents[1] / "results" / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"\[([^\]]*)\]\((?!\.\./docs/\w+\.md|http)[^)]*\)", r"`results/\1`", text)
    return text.replace("](../docs/", "](../")


def _api() -> str:
    lines = ["API reference", "=============", ""]
    for section, names in API.items():
        lines += [section, "-" * len(section), ""]
        for name in names:
            module, _, thing = name.partition(":")
            found = getattr(__import__(module, fromlist=[thing]), thing)
            kind = "autoclass" if inspect.isclass(found) else "autofunction"
            lines += [f".. {kind}:: {module}.{thing}", *(["   :members:"] if kind == "autoclass" else []), ""]
    return "\n".join(lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    return ["", *(f"| {' | '.join(row)} |" for row in ([*header], ["---"] * len(header), *cells)), ""]


def _paragraphs(thing: object) -> list[str]:
    """What a docstring says before its sections."""
    text = re.split(r"^(?:Args|Attributes|Raises|Returns):$", inspect.getdoc(thing) or "", flags=re.MULTILINE)[0]
    parts = (part.strip("\n") for part in text.split("\n\n") if part.strip())
    return [_grid(part) if part.startswith("==") else _plain(part) for part in parts]


def _grid(part: str) -> str:
    """A docstring's simple table as Markdown."""
    border, header, _, *rows, _ = part.splitlines()
    columns = [column.span() for column in re.finditer("=+", border)]
    cells = [[_plain(row[start:end]) for start, end in columns] for row in (header, *rows)]
    return "\n".join(_table(cells[0], cells[1:]))


def _plain(text: str) -> str:
    """A docstring's text as Markdown."""
    return _escaped(re.sub(r":\w+:`[~.]?([^`]*)`", r"`\1`", " ".join(text.split())).replace("``", "`"))


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", "\\*")
