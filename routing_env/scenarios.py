"""``routing-bench-v0``: named scenarios, each of which measures one thing. Plain data; docs/scenarios.md explains them.

A scenario settles data, network, rewards and the training of the blocks, and a budget of passes. It is part of a
benchmark that others cite, so what it settles does not change; a changed scenario gets another name.

    parallel_env(scenario="crowd-12")
    routing-env train --scenario crowd-12 --router wpl
    routing-env benchmark --scenario crowd-12 deep-3
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from routing_env.names import look_up, parse_options

VERSION = "routing-bench-v0"

FREE = frozenset({"scenario", "seed", "device", "data_dir", "batch_size", "dealer", "block_batch"})
"""Settings of a game that a scenario leaves to its users: where it runs, and how an environment deals samples."""


@dataclass(frozen=True)
class Scenario:
    """A game that measures one thing.

    Attributes:
        measures: What a router needs to do well, in one line.
        game: Settings of the game that differ from what is usual for its data.
        epochs: Passes over the training samples, which all entrants have.
        optimum: The best known routing and how it was found, in one line; empty if nothing is known.
        best: Router and options of the best known routing; None if nothing is known.
        literature: Where the question comes from.
        run: Settings of the run besides epochs, such as those of tasks that arrive.
        unseen: Tasks that do not count, because their agents have no choice.
        tells_apart: Whether random fixed routes are significantly worse than the best known routing.
    """

    measures: str
    game: Mapping[str, Any]
    epochs: int
    optimum: str = ""
    best: tuple[str, tuple[str, ...]] | None = ("oracle", ())
    literature: str = ""
    run: Mapping[str, Any] = field(default_factory=dict[str, Any])
    unseen: tuple[int, ...] = ()
    tells_apart: bool = True


def _planted(*options: str, **game: Any) -> dict[str, Any]:
    return {"data": "planted", "data_options": options, "learning_rate": 0.2, **game}


def _routes(routes: Sequence[Sequence[int]]) -> tuple[str, tuple[str, ...]]:
    """A router in which task t takes the actions ``routes[t]``."""
    return "fixed", (f"routes={json.dumps(routes)}",)


_GROUPS = "a block per group in each layer, known from how the data were made"

SCENARIOS: dict[str, Scenario] = {
    "pair-2": Scenario(
        "whether two tasks that need each other meet; four joint routes, so everything can be enumerated",
        _planted("groups=1", "tasks_per_group=2", "samples=100", blocks=2),
        epochs=24,
        optimum="both tasks in one block, either of the two",
        literature="pure coordination: Claus & Boutilier (AAAI 1998)",
    ),
    "planted-3x4": Scenario(
        "whether tasks find their partners: three groups of four, three blocks",
        _planted(),
        epochs=12,
        optimum=_GROUPS,
        literature="task grouping: Kang, Grauman & Sha (ICML 2011); Standley et al. (ICML 2020)",
    ),
    "crowd-12": Scenario(
        "whether twelve tasks that profit from sharing gather in one of six blocks",
        _planted("groups=1", "tasks_per_group=12", "samples=100", blocks=6),
        epochs=24,
        optimum="all tasks in one block, any of the six",
        literature="emergence of conventions: Shoham & Tennenholtz (AIJ 1997)",
    ),
    "deep-3": Scenario(
        "coordination over three decisions, where a block is worth what follows it",
        _planted("samples=300", layers=3),
        epochs=24,
        optimum=_GROUPS,
        literature="the paper's networks have three routed layers",
    ),
    "scarce": Scenario(
        "who shares when there are fewer blocks (two) than groups (four)",
        _planted("groups=4", "tasks_per_group=3", blocks=2),
        epochs=12,
        optimum="the second group alone and the others together: the best of all eight ways to spread the groups",
        best=_routes([[0]] * 3 + [[1]] * 3 + [[0]] * 6),
        literature="congestion: Rosenthal (IJGT 1973)",
    ),
    "uneven": Scenario(
        "whether a small group keeps a block beside larger ones: groups of one, four and seven tasks",
        _planted("sizes=[1, 4, 7]", blocks=3),
        epochs=12,
        optimum=_GROUPS + "; the best of all five ways to spread three groups over the blocks",
        literature="negative transfer: Wang et al. (CVPR 2019)",
    ),
    "overlap": Scenario(
        "whether different tasks share when that pays: five tasks whose functions correlate by 0.9, and few samples",
        _planted("groups=5", "tasks_per_group=1", "samples=60", "features=32", "overlap=0.9", blocks=5),
        epochs=48,
        optimum="all tasks in one block: the best of all 52 ways to share",
        best=_routes([[0]] * 5),
        literature="task similarity: Baxter (JAIR 2000); Standley et al. (ICML 2020)",
    ),
    "drift": Scenario(
        "whether routers let go: after half of the budget, tasks exchange their samples, and so their partners change",
        _planted(drift=12),
        epochs=24,
        optimum=_GROUPS + ", by the groups of the second half",
        literature="non-stationary bandits: Garivier & Moulines (ALT 2011)",
    ),
    "arrivals": Scenario(
        "whether tasks that come later find the blocks of their partners: one task of each group first, then the rest",
        _planted("interleaved=true"),
        epochs=6,
        optimum=_GROUPS,
        literature="the paper, section 6; lifelong learning: Lopez-Paz & Ranzato (NeurIPS 2017)",
        run={
            "arrivals": "3+3+3+3",
            "arrival_samples": 4000,
            "arrival_block_rate": 1.0,
        },
    ),
    **{
        f"scale-{tasks}": Scenario(
            f"whether {tasks} tasks find their partners: groups of {tasks // groups}, {max(4, groups)} blocks",
            _planted(
                f"groups={groups}",
                f"tasks_per_group={tasks // groups}",
                "samples=100",
                "features=32",
                blocks=max(4, groups),
                batch_size=max(24, tasks),
            ),
            epochs=epochs,
            optimum=_GROUPS,
            literature="scaling in the number of agents: Yang et al. (ICML 2018)",
        )
        for tasks, groups, epochs in ((2, 1, 24), (12, 3, 24), (100, 25, 24), (500, 125, 24))
    },
    "blind": Scenario(
        "routing by what a sample looks like: one task with three kinds of samples, and v shows the kind",
        {"data": "mixed", "data_options": ("tasks=1", "samples=1800"), "learning_rate": 0.2},
        epochs=12,
        optimum="a block per kind, known from how the data were made",
        literature="mixtures of experts: Jacobs et al. (Neural Computation 1991)",
    ),
    "mixed": Scenario(
        "routing by v where the task says nothing: four tasks that all have the same three kinds of samples",
        {"data": "mixed", "learning_rate": 0.2},
        epochs=12,
        optimum="a block per kind, known from how the data were made",
        literature="partial observability: Rashid et al. (ICML 2018)",
    ),
    **{
        f"sparse-{depth}": Scenario(
            f"credit assignment: {depth} decisions and one reward at the end, in a recursive network with PASS",
            _planted("samples=100", "features=32", layers=3, recursive=True, pass_action=True, depth=depth),
            epochs=24,
            optimum="a block per group of the first and the last layer, and PASS in between; the best of three ways to "
            "use the depth",
            best=_routes([[group, *[9] * (depth - 2), 6 + group] for group in (0, 1, 2) for _ in range(4)]),
            literature="the paper, section 7.2; temporal credit assignment: Sutton (1984)",
        )
        for depth in (5, 10, 20)
    },
    "compose": Scenario(
        "whether tasks find the order of the functions that they are made of, with PASS for the shorter ones",
        {"data": "compose"},
        epochs=50,
        optimum="each task's own program, known from how the data were made",
        literature="compositional generalisation: Andreas et al. (CVPR 2016); Chang et al. (ICLR 2019)",
    ),
    "commons": Scenario(
        "whether the reward for popular blocks (rho = 0.5) draws tasks away from where they learn best",
        _planted(rho=0.5),
        epochs=12,
        optimum=_GROUPS + "; accuracy counts, not the reward",
        literature="price of anarchy: Koutsoupias & Papadimitriou (STACS 1999); the paper, section 3.1.1",
    ),
    "visitors": Scenario(
        "whether tasks join blocks that others hold: one task of each group never moves",
        _planted(visitors=1),
        epochs=12,
        optimum="each group in the block of its visitor, known from how the data were made",
        best=_routes([[1]] * 4 + [[2]] * 4 + [[0]] * 4),
        literature="ad hoc teamwork: Stone et al. (AAAI 2010)",
        unseen=(0, 4, 8),
    ),
    "digits-10": Scenario(
        "nothing but commitment: random fixed routes are as good as learned ones, which it is here to show",
        {"data": "digits"},
        epochs=12,
        best=None,
        tells_apart=False,
    ),
    "cifar-20": Scenario(
        "accuracy on the paper's CIFAR-MTL",
        {"data": "cifar"},
        epochs=10,
        best=None,
        literature="the paper, section 4 and Figure 6",
        tells_apart=False,
    ),
    "min-10": Scenario(
        "accuracy on the paper's MIN-MTL",
        {"data": "mini_imagenet"},
        epochs=10,
        best=None,
        literature="the paper, section 4 and Figure 7",
        tells_apart=False,
    ),
    "mnist-10": Scenario(
        "accuracy on the paper's MNIST-MTL",
        {"data": "mnist"},
        epochs=10,
        best=None,
        literature="the paper, section 4 and Figure 8",
        tells_apart=False,
    ),
}


def best_sharing(scenario: str | None, groups: Sequence[int] | None) -> Sequence[int] | None:
    """For each task a number that tasks have in common which share all blocks under the best known routing.

    Args:
        scenario: Name of a scenario, whose best fixed routes count more than the groups; or None.
        groups: Group of each task, if the data know it.

    Returns:
        None where the best sharing is not known.
    """
    best = None if scenario is None else look_up("scenario", scenario, SCENARIOS).best
    if best is None or best[0] != "fixed":
        return groups
    routes = [tuple(route) for route in parse_options(best[1])["routes"]]
    return [routes.index(route) for route in routes]


def settled_by_scenario(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings of the game of the scenario that settings name, if they name one."""
    name = given.get("scenario")
    return {} if name is None else look_up("scenario", name, SCENARIOS).game


def with_scenario(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a game, with those of the scenario that they name.

    Args:
        given: settings by their names.

    Raises:
        ValueError: An unknown scenario, with the closest match, or a setting that the scenario settles.
    """
    settled, name = settled_by_scenario(given), given.get("scenario")
    for setting, value in given.items():
        if name is not None and setting not in FREE and (setting not in settled or settled[setting] != value):
            raise ValueError(
                f"{setting} is {value!r} beside scenario {name!r}, which settles it; leave it out, or make your own "
                "game from routing_env.scenarios.SCENARIOS[name].game"
            )
    return {**settled, **given}
