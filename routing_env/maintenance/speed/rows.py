"""What ``routing-env speed`` measures, one function per row of its table."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from routing_env.agents import ROUTERS, make_router, router_class
from routing_env.agents.base import TableRouter
from routing_env.baselines import make_baseline
from routing_env.game.build import make_game
from routing_env.game.routing_game import RoutingGame
from routing_env.maintenance.speed.measure import Comparison, Side, Timed
from routing_env.maintenance.speed.plain import ordinary_evaluation, ordinary_step, plain_network
from routing_env.maintenance.speed.processes import memory, start_up
from routing_env.maintenance.speed.seeds import many_seeds
from routing_env.maintenance.speed.worlds import LEARNING_RATE, World, deal_step, random_policy, random_routes
from routing_env.runs.directory import RunDirectory
from routing_env.runs.learners import plan_beside
from routing_env.runs.run import Run
from routing_env.types import Router, Trace

STEP_BARS = {(True, 10): 1.5, (True, 64): 1.15, (True, 256): 1.08, (False, 256): 3.0}
"""Routed over plain training step, by convolutions and batch size."""
GROWTH_BAR = 1.15
"""500 blocks over 20, and 500 tasks over 20."""
ROUTER_BAR = 0.15
"""A table router's share of the block training step."""
SHELL_BAR = 1.15
"""Environment loop over game loop."""
EPOCH_BAR = 1.2
"""An epoch of a run with WPL over one with the plain network."""
EVALUATION_BATCH = 1024
SEEDS = (3, 10)

PLAIN = "routing_env.maintenance.speed.plain:Plain"


def steps(world: World) -> list[Comparison]:
    """a) The routed training step over the plain network's; with convolutions, and the fully connected part alone."""
    comparisons: list[Comparison] = []
    for convolutional in (True, False):
        for batch in world.batches:
            own = replace(world, batch=batch, convolutional=convolutional)
            title = f"training step, {_kind(own)}, batch {batch}"
            bar = STEP_BARS.get((convolutional, batch))
            comparisons.append(Comparison("a", title, partial(_step_sides, own, bar)))
    return comparisons


def _step_sides(world: World, bar: float | None) -> list[Side]:
    data = world.data()
    return [
        Side("plain", _timed(world, world.plain_step(data))),
        Side("routed", _timed(world, world.routed_step(data)), bar),
    ]


def growth(world: World) -> list[Comparison]:
    """b) The training step as blocks and tasks are added, beside networks whose every sample visits all (Figure 13)."""
    counts, title = len(world.counts), f"training step, batch {world.batch}"
    return [
        Comparison("b", f"{title}, blocks added", partial(_block_sides, world), weight=2 * counts),
        Comparison("b", f"{title}, tasks added", partial(_task_sides, world), weight=3 * counts),
    ]


def _block_sides(world: World) -> list[Side]:
    data = world.data()
    routed = _timed(world, world.routed_step(data))
    sides = [Side(f"{world.blocks} blocks", routed, point=("routed", world.blocks))]
    for count in world.counts:
        own = replace(world, blocks=count)
        if count != world.blocks:
            routed = _timed(own, own.routed_step(data))
            sides.append(Side(f"routed, {count} blocks", routed, _growth_bar(own, count), ("routed", count)))
        if count > world.blocks:
            few = _timed(own, own.routed_step(data, among=world.blocks))
            name = f"{world.blocks} in use"
            sides.append(
                Side(f"routed, {count} blocks, {name}", few, _growth_bar(own, count), (f"routed, {name}", count))
            )
        mixed = _timed(own, _baseline_step(own, "soft_mixture"))
        sides.append(Side(f"soft mixture, {count} blocks", mixed, point=("soft mixture", count)))
    return sides


def _task_sides(world: World) -> list[Side]:
    routed = _timed(world, world.routed_step())
    sides = [Side(f"{world.tasks} tasks", routed, point=("routed", world.tasks))]
    for count in world.counts:
        own = replace(world, tasks=count)
        if count != world.tasks:
            routed = _timed(own, own.routed_step())
            sides.append(Side(f"routed, {count} tasks", routed, _growth_bar(own, count), ("routed", count)))
        wpl = _timed(own, _wpl_step(replace(own, blocks=count)))
        sides.append(Side(f"WPL, {count} tasks, a block each", wpl, point=("WPL, a block per task", count)))
        stitched = _timed(own, _baseline_step(own, "cross_stitch"))
        sides.append(Side(f"cross-stitch, {count} tasks", stitched, point=("cross-stitch", count)))
    return sides


def _growth_bar(world: World, count: int) -> float | None:
    return GROWTH_BAR if count == max(world.counts) else None


def _wpl_step(world: World) -> Callable[[], None]:
    """A deal routed by WPL, which learns from it."""
    game = world.game()
    router = make_router("wpl", game.spec)
    return lambda: router.play(game, world.batch)


def _baseline_step(world: World, name: str) -> Callable[[], None]:
    game = world.game()
    assert game.settings is not None
    plan = plan_beside(game.network, game.data.tasks, game.settings)
    network = make_baseline(name, plan).to(game.data.device)
    return ordinary_step(network, lambda batch: network(batch.x, batch.task), game.dealer, learning_rate=LEARNING_RATE)


def routers(world: World) -> list[Comparison]:
    """c) What a table router takes to act and learn, over the training step of the blocks."""
    title = f"act and learn, batch {world.batch}"
    return [Comparison("c", title, partial(_router_sides, world), weight=10)]


def _router_sides(world: World) -> list[Side]:
    game = world.game()
    sides = [Side("training step", _timed(world, deal_step(game, world.batch)))]
    for name in ROUTERS:
        if issubclass(router_class(name), TableRouter):
            router = make_router(name, game.spec)
            sides.append(Side(name, _timed(world, _act_and_learn(router, game)), ROUTER_BAR))
    return sides


def _act_and_learn(router: Router, game: RoutingGame, deals: int = 8) -> Callable[[], None]:
    """What a router does for one deal, without the game; on deals played before."""
    traces: list[Trace] = []
    game.observers.append(traces.append)
    for _ in range(deals):
        router.play(game, 1)
    game.observers.remove(traces.append)
    dealt = cycle(traces)

    def step() -> None:
        trace = next(dealt)
        for state in trace.states:
            router.act(state)
        router.learn(trace)

    return step


def shells(world: World) -> list[Comparison]:
    """d) The loops of PettingZoo and of a Stable-Baselines3 VecEnv over the game's own; a sample of each task."""
    worlds = [replace(world, batch=world.tasks, convolutional=convolutional) for convolutional in (True, False)]
    return [Comparison("d", f"episode, {_kind(own)}, {own.tasks} agents", partial(_shell_sides, own)) for own in worlds]


def _shell_sides(world: World) -> list[Side]:
    from routing_env.envs.parallel import parallel_env
    from routing_env.envs.sb3 import RoutingVecEnv  # slow to import, and no other row needs it

    data, bar = world.data(), SHELL_BAR if world.convolutional else None
    settings = world.settings
    game = make_game(data=data, batch_size=world.tasks, dealer="per_task", **settings)
    parallel, lanes = parallel_env(data=data, **settings), RoutingVecEnv(data=data, **settings)
    routes = [route.cpu().numpy() for route in random_routes(game, world.tasks)]
    agents = parallel.possible_agents
    named = cycle([[dict(zip(agents, row.tolist(), strict=True)) for row in route] for route in routes])
    unnamed = cycle(routes)
    lanes.reset()

    def episode() -> None:
        parallel.reset()
        for actions in next(named):
            parallel.step(actions)

    def vector_episode() -> None:  # deals the next samples by itself
        for actions in next(unnamed):
            lanes.step(actions)

    return [
        Side("game", _timed(world, deal_step(game, world.tasks))),
        Side("PettingZoo", _timed(world, episode), bar),
        Side("Stable-Baselines3 VecEnv", _timed(world, vector_episode), bar),
    ]


def evaluation(world: World) -> list[Comparison]:
    """e) A greedy pass over the test split, routed over plain."""
    return [Comparison("e", f"evaluation, batch {EVALUATION_BATCH}", partial(_evaluation_sides, world))]


def _evaluation_sides(world: World) -> list[Side]:
    data = world.data()
    game, single = world.game(data), replace(world, blocks=1).game(data)
    plain = ordinary_evaluation(plain_network(single.network), single.data, EVALUATION_BATCH)
    policy = random_policy(game, EVALUATION_BATCH)

    def routed() -> None:
        game.evaluate(policy, batch_size=EVALUATION_BATCH)

    return [Side("plain", _timed(world, plain)), Side("routed", _timed(world, routed))]


def epochs(world: World) -> list[Comparison]:
    """h) A run's epoch, end to end: data, routing, learning, evaluation, files. And a long run against the clock."""
    title = f"epoch of {world.samples:,} samples, batch {world.batch}"
    comparisons = [Comparison("h", title, partial(_epoch_sides, world), weight=14)]
    if world.epochs:
        long = replace(world, batch=max(world.batches))
        title = f"{world.epochs} epochs of {world.samples:,} samples, batch {long.batch}"
        comparisons.append(Comparison("h", title, partial(_run_sides, long), warm_up=False, rounds=1, weight=30))
    return comparisons


def _epoch_sides(world: World) -> list[Side]:
    return [
        Side("plain", _timed(world, _epoch(world, PLAIN))),
        Side("WPL", _timed(world, _epoch(world, "wpl")), EPOCH_BAR),
    ]


def _run_sides(world: World) -> list[Side]:
    epoch = _epoch(world, "wpl")

    def run() -> None:
        for _ in range(world.epochs):
            epoch()

    return [Side("one minute", lambda: 60_000.0), Side("WPL", Timed(run), 1.0)]


def _epoch(world: World, router: str) -> Callable[[], None]:
    """An epoch as ``routing-env train`` has it, with its files in a folder that goes when the epochs have gone."""
    own = {"router": router, "epochs": 10, "threads": world.threads, "reference": False, "batch_size": world.batch}
    run, folder = Run.of({**own, "data": world.data(), **world.settings}), TemporaryDirectory()
    directory = RunDirectory.create(Path(folder.name), "speed", run.settings)

    def epoch() -> None:
        started = time.perf_counter()
        assert folder
        run.learner.play(run.learner.pass_size, lambda: None)
        run.end_epoch(directory, started)

    return epoch


def seeds(world: World) -> list[Comparison]:
    """i) A deal of several seeds in one computation, shared among them, over a deal of one seed."""
    return [
        Comparison("i", f"a seed's deal with WPL, {_kind(own)}, batch {own.batch}", partial(_seed_sides, own), weight=3)
        for convolutional in (True, False)
        for own in (replace(world, convolutional=convolutional, batch=batch) for batch in world.batches[:2])
    ]


def _seed_sides(world: World) -> list[Side]:
    def share(seeds: int) -> Callable[[], float]:
        game, router = many_seeds(world, seeds)
        timed = _timed(world, lambda: router.play(game, seeds * world.batch))
        return lambda: timed() / seeds

    return [Side("alone", share(1)), *(Side(f"{seeds} seeds at once", share(seeds)) for seeds in SEEDS)]


def _timed(world: World, step: Callable[[], object]) -> Timed:
    """Where one thread of the CPU does it all, its own clock is the fairest."""
    alone = world.threads == 1 and not world.on_cuda
    return Timed(step, torch.device(world.device), time.process_time if alone else time.perf_counter)


def _kind(world: World) -> str:
    return "conv + fc" if world.convolutional else "fc alone"


ROWS: dict[str, Callable[[World], Sequence[Comparison]]] = {
    "a": steps,
    "b": growth,
    "c": routers,
    "d": shells,
    "e": evaluation,
    "f": memory,
    "g": start_up,
    "h": epochs,
    "i": seeds,
}
