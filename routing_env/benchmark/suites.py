"""The benchmark's suites, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from routing_env.names import look_up
from routing_env.scenarios import SCENARIOS, VERSION

BEST_KNOWN = "best known"
"""Name of the entrant that takes the best known routing of a scenario: 1 on its scale."""

FLOOR = "random-fixed"
"""Name of the entrant on random fixed routes: 0 on a scenario's scale."""


@dataclass(frozen=True)
class Entrant:
    """A row of the leaderboard.

    Attributes:
        name: in the tables.
        router: a router or baseline, as in ``RunSettings.router``.
        options: of it, as name=value.
        game: settings that differ from the arena's.
    """

    name: str
    router: str
    options: tuple[str, ...] = ()
    game: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Arena:
    """A game in which entrants are compared: one leaderboard.

    Attributes:
        name: of the leaderboard.
        game: settings, by the names of ``Settings``.
        entrants: who takes part.
        figure: of the paper, whose numbers are drawn beside ours.
    """

    name: str
    game: Mapping[str, Any]
    entrants: tuple[Entrant, ...]
    figure: str | None = None


@dataclass(frozen=True)
class Suite:
    """What one command runs.

    Attributes:
        summary: one line.
        arenas: the leaderboards.
        epochs: passes over the training samples; None leaves them to the data set.
        seeds: runs of each entrant.
    """

    summary: str
    arenas: tuple[Arena, ...]
    epochs: int | None = 10
    seeds: int = 3


def _named(*names: str) -> tuple[Entrant, ...]:
    return tuple(Entrant(name, name) for name in names)


_PAPERS_BASELINES = ("task_specific_1_fc", "task_specific_all_fc", "cross_stitch")
_STRONG_BASELINES = (*_PAPERS_BASELINES, "shared_trunk", "mmoe", "dense")
_ON_ONE_LAYER = ("task_specific_1_fc", "shared_trunk", "mmoe", "dense")
"""On a network with one routed layer the paper's three baselines are the same network."""
_YARDSTICKS = ("dense", "linear_heads")
"""Static networks of every CIFAR arena: one wide network with all the parameters, and a linear head per task alone."""
_CIFAR = Arena("cifar", {"data": "cifar"}, _named("wpl", FLOOR, *_PAPERS_BASELINES, *_YARDSTICKS), "Figure 6")
_LEADING = Arena(
    "leading",
    {"data": "cifar", "decay_every": 30},
    (
        Entrant(
            "route-hedge",
            "route-hedge",
            ("copies=4", "own_last=true"),
            {"network": "routed_convnet", "blocks": (4, 4, 80)},
        ),
        *_named("wpl", "q-learning", "reinforce-approx", FLOOR, "linear_heads", "task_specific_1_fc"),
        Entrant("one wide layer", "task_specific_1_fc", ("depth=2", "width=460")),
        Entrant("dense", "dense"),
        Entrant("thin ensemble", "ensemble", ("of=linear_heads", "members=4"), {"filters": 16}),
        Entrant("ensemble", "ensemble", ("of=linear_heads", "members=3")),
    ),
)
"""Routers and static networks on CIFAR-MTL. The router route-hedge has 136,368 parameters, the one wide layer 134,336,
and the ensemble 125,388."""
_MIN = Arena("min", {"data": "mini_imagenet"}, _named("wpl", FLOOR, *_PAPERS_BASELINES), "Figure 7")
_MNIST = Arena("mnist", {"data": "mnist"}, _named("wpl", FLOOR, *_PAPERS_BASELINES, "soft_mixture"), "Figure 8")


def _first_tasks(tasks: int, *entrants: str) -> Arena:
    return Arena(f"cifar, first {tasks} tasks", {"data": "cifar", "tasks": tasks}, _named(*entrants))


def suite_on(data: str, *, name: str = "", epochs: int | None = None) -> Suite:
    """Two routers and all baselines on a data set, with its own settings.

    Args:
        data: Its name, or a reference to your own.
        name: Of the arena; by default that of the data set.
        epochs: Passes over the training samples; None leaves them to a data set that has a name.
    """
    entrants = _named("wpl", "q-learning", FLOOR, *_STRONG_BASELINES, "soft_mixture")
    return Suite(f"routers and baselines on {data}", (Arena(name or data, {"data": data}, entrants),), epochs=epochs)


_ROUTERS = (
    Entrant("wpl", "wpl"),
    Entrant("wpl full-vector", "wpl", ("rule=full-vector",)),
    Entrant("q-learning", "q-learning"),
    Entrant("reinforce-approx", "reinforce-approx"),
    Entrant("advantage-actor-critic", "advantage-actor-critic"),
)
_SMALL = (
    *("planted-3x4", "crowd-12", "scarce", "uneven", "overlap", "drift", "arrivals", "scale-12"),
    *("blind", "mixed", "commons", "visitors"),
)
"""The scenarios that take seconds and need no more than three seeds."""


def suite_of(scenarios: Sequence[str], routers: Sequence[Entrant] = _ROUTERS) -> Suite:
    """Scenarios with the best known routing, random fixed routes and some routers.

    Raises:
        ValueError: An unknown scenario, with the closest match.
    """
    arenas: list[Arena] = []
    for name in dict.fromkeys(scenarios):
        best = look_up("scenario", name, SCENARIOS).best
        known = () if best is None else (Entrant(BEST_KNOWN, *best),)
        arenas.append(Arena(name, {"scenario": name}, (*known, Entrant(FLOOR, FLOOR), *routers)))
    return Suite(f"the scenarios {', '.join(scenarios)}", tuple(arenas), epochs=None, seeds=10)


SUITES: dict[str, Suite] = {
    VERSION: replace(
        suite_of([name for name in SCENARIOS if name not in ("cifar-20", "min-10", "mnist-10")]),
        summary="all scenarios that need no download; see docs/scenarios.md",
    ),
    f"{VERSION}-small": replace(
        suite_of(_SMALL, [_ROUTERS[1], _ROUTERS[2], _ROUTERS[3]]),
        summary="the quick scenarios, five routers, three seeds; ten minutes on two cores",
        seeds=3,
    ),
    f"{VERSION}-paper": replace(
        suite_of(["cifar-20", "min-10", "mnist-10"]),
        summary="the scenarios on the paper's data sets",
    ),
    "digits": Suite(
        "two routers and six baselines on digits, fully connected; minutes, no download",
        (
            Arena(
                "digits",
                {"data": "digits", "network": "mlp", "learning_rate": 0.5},
                _named("wpl", "q-learning", FLOOR, *_STRONG_BASELINES),
            ),
        ),
        epochs=8,
    ),
    "planted": Suite(
        "tasks whose best sharing is known: the oracle's block per group is the goal",
        (Arena("planted", {"data": "planted"}, _named("oracle", "wpl", "q-learning", FLOOR, *_ON_ONE_LAYER)),),
        epochs=12,
    ),
    "leading": Suite(
        "routers and static networks on CIFAR-MTL, to be played with tuned settings; see docs/leading.md", (_LEADING,)
    ),
    "mnist": Suite("the paper's Figure 8", (_MNIST,)),
    "cifar": Suite("the paper's Figure 6", (_CIFAR,)),
    "min": Suite("the paper's Figure 7", (_MIN,)),
    "domains": Suite("the paper's Figures 6, 7 and 8", (_CIFAR, _MIN, _MNIST)),
    "rl-algorithms": Suite(
        "the paper's Figure 4: who decides",
        (
            Arena(
                "cifar",
                {"data": "cifar"},
                _named("wpl", "q-learning", "q-learning-approx", "reinforce-approx", FLOOR, *_YARDSTICKS),
                "Figure 4",
            ),
        ),
    ),
    "architectures": Suite(
        "the paper's Figure 5: how decisions are spread over agents",
        (
            Arena(
                "cifar",
                {"data": "cifar"},
                (
                    Entrant("wpl", "wpl"),
                    Entrant("wpl recursive", "wpl", game={"recursive": True, "pass_action": True}),
                    Entrant("wpl dispatched", "wpl", ("topology=dispatched",)),
                    Entrant("wpl single", "wpl", ("topology=single",)),
                    Entrant(FLOOR, FLOOR),
                    *_named("soft_mixture", *_YARDSTICKS),
                ),
                "Figure 5",
            ),
        ),
    ),
    "rho": Suite(
        "the paper's Figure 12: weight of the collaboration reward",
        (
            Arena(
                "cifar",
                {"data": "cifar"},
                (
                    *(Entrant(f"wpl rho {rho}", "wpl", game={"rho": rho}) for rho in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)),
                    Entrant(FLOOR, FLOOR),
                ),
            ),
        ),
    ),
    "first-tasks": Suite(
        "the paper's Figure 15: the first 2, 3, 5 and 10 tasks of CIFAR-MTL",
        tuple(_first_tasks(tasks, "wpl", FLOOR, *_PAPERS_BASELINES, *_YARDSTICKS) for tasks in (2, 3, 5, 10)),
    ),
    "cost": Suite(
        "the paper's Figure 13: training time as tasks and blocks are added; use --workers 1",
        tuple(_first_tasks(tasks, "wpl", "cross_stitch") for tasks in (2, 3, 5, 10, 20)),
        epochs=1,
        seeds=1,
    ),
}
