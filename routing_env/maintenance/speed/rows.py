"""What the speed table measures, one function per row."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from torch.nn import functional as F

from routing_env.agents import ROUTERS, make_router, router_class
from routing_env.agents.base import TableRouter
from routing_env.baselines import make_baseline, plan_beside
from routing_env.game.build import make_game
from routing_env.game.captured import CapturedStep
from routing_env.game.routing_game import RoutingGame
from routing_env.game.unattended import Unattended
from routing_env.maintenance.speed.measure import Contest, Side, Timed
from routing_env.maintenance.speed.plain import ordinary_evaluation, ordinary_step, plain_network
from routing_env.maintenance.speed.processes import memory, start_up
from routing_env.maintenance.speed.seeds import many_seeds
from routing_env.maintenance.speed.workloads import LEARNING_RATE, Workload, deal_step, random_policy, random_routes
from routing_env.runs.directory import RunDirectory
from routing_env.runs.run import Run
from routing_env.types import Router, Trace

STEP_BARS = {(True, 10): 1.4, (True, 64): 1.15, (True, 256): 1.05, (False, 256): 3.0}
"""Routed over plain training step, by (convolutional, batch size)."""
GROWTH_BAR = 1.15
"""500 blocks over 20, and 500 tasks over 20, also where WPL routes them."""
ROUTER_BAR = 0.15
"""Time of a table router over the training step of the blocks."""
SHELL_BAR = 1.15
"""Environment loop over game loop."""
EPOCH_BAR = 1.2
"""An epoch of a run with WPL over an epoch with the plain network."""
EVALUATION_BATCH = 1024
SEEDS = (3, 10)
CAPTURED_DEALS = 100
"""Deals before captured ones are timed, after which nearly all shapes have been captured."""

PLAIN = "routing_env.maintenance.speed.plain:Plain"


def steps(workload: Workload) -> list[Contest]:
    """a) The routed training step over the plain one, with convolutions and for the fully connected part alone."""
    contests: list[Contest] = []
    for convolutional in (True, False):
        for batch in workload.batches:
            own = replace(workload, batch=batch, convolutional=convolutional)
            title = f"training step, {_kind(own)}, batch {batch}"
            bar = STEP_BARS.get((convolutional, batch))
            contests.append(Contest("a", title, partial(_step_sides, own, bar)))
    return contests


def _step_sides(workload: Workload, bar: float | None) -> list[Side]:
    data = workload.data()
    return [
        Side("plain", _timed(workload, workload.plain_step(data))),
        Side("routed", _timed(workload, workload.routed_step(data)), bar),
    ]


def growth(workload: Workload) -> list[Contest]:
    """b) The training step as blocks and tasks are added, beside networks that apply every block (Figure 13)."""
    counts, title = len(workload.counts), f"training step, batch {workload.batch}"
    return [
        Contest("b", f"{title}, blocks added", partial(_block_sides, workload), weight=2 * counts),
        Contest("b", f"{title}, tasks added", partial(_task_sides, workload), weight=3 * counts),
    ]


def _block_sides(workload: Workload) -> list[Side]:
    data = workload.data()
    routed = _timed(workload, workload.routed_step(data))
    sides = [Side(f"{workload.blocks} blocks", routed, point=("routed", workload.blocks))]
    for count in workload.counts:
        own = replace(workload, blocks=count)
        if count != workload.blocks:
            routed = _timed(own, own.routed_step(data))
            sides.append(Side(f"routed, {count} blocks", routed, _growth_bar(own, count), ("routed", count)))
        if count > workload.blocks:
            few = _timed(own, own.routed_step(data, among=workload.blocks))
            name = f"{workload.blocks} in use"
            sides.append(
                Side(f"routed, {count} blocks, {name}", few, _growth_bar(own, count), (f"routed, {name}", count))
            )
        mixed = _timed(own, _baseline_step(own, "soft_mixture"))
        sides.append(Side(f"soft mixture, {count} blocks", mixed, point=("soft mixture", count)))
    return sides


def _task_sides(workload: Workload) -> list[Side]:
    routed = _timed(workload, workload.routed_step())
    sides = [Side(f"{workload.tasks} tasks", routed, point=("routed", workload.tasks))]
    for count in workload.counts:
        own = replace(workload, tasks=count)
        if count != workload.tasks:
            routed = _timed(own, own.routed_step())
            sides.append(Side(f"routed, {count} tasks", routed, _growth_bar(own, count), ("routed", count)))
        wpl = _timed(own, _wpl_step(replace(own, blocks=count)))
        sides.append(
            Side(f"WPL, {count} tasks, a block each", wpl, _growth_bar(own, count), ("WPL, a block per task", count))
        )
        stitched = _timed(own, _baseline_step(own, "cross_stitch"))
        sides.append(Side(f"cross-stitch, {count} tasks", stitched, point=("cross-stitch", count)))
    return sides


def _growth_bar(workload: Workload, count: int) -> float | None:
    return GROWTH_BAR if count == max(workload.counts) else None


def _wpl_step(workload: Workload) -> Callable[[], None]:
    """Make a step that deals, routes with WPL, and lets WPL learn."""
    game = workload.game()
    router = make_router("wpl", game.spec)
    return lambda: router.play(game, workload.batch)


def _baseline_step(workload: Workload, name: str) -> Callable[[], None]:
    game = workload.game()
    assert game.settings is not None
    plan = plan_beside(game.network, game.data.tasks, game.settings)
    network = make_baseline(name, plan).to(game.data.device)
    return ordinary_step(network, lambda batch: network(batch.x, batch.task), game.dealer, learning_rate=LEARNING_RATE)


def routers(workload: Workload) -> list[Contest]:
    """c) The time a table router takes to act and learn, over the training step of the blocks."""
    title = f"act and learn, batch {workload.batch}"
    return [Contest("c", title, partial(_router_sides, workload), weight=10)]


def _router_sides(workload: Workload) -> list[Side]:
    game = workload.game()
    sides = [Side("training step", _timed(workload, deal_step(game, workload.batch)))]
    for name in ROUTERS:
        if issubclass(router_class(name), TableRouter):
            router = make_router(name, game.spec)
            sides.append(Side(name, _timed(workload, _act_and_learn(router, game)), ROUTER_BAR))
    return sides


def _act_and_learn(router: Router, game: RoutingGame, deals: int = 8) -> Callable[[], None]:
    """Make a step with a router's own work for one deal, without the game, on deals recorded in advance."""
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


def shells(workload: Workload) -> list[Contest]:
    """d) The loops of environments over the game's own: one sample per task, and in Gymnasium's one per lane."""
    contests: list[Contest] = []
    for convolutional in (True, False):
        own = replace(workload, convolutional=convolutional)
        per_task = replace(own, batch=own.tasks)
        title = f"episode, {_kind(own)}"
        contests.append(Contest("d", f"{title}, {own.tasks} agents", partial(_shell_sides, per_task), weight=3))
        contests.append(Contest("d", f"{title}, {own.batch} lanes", partial(_vector_sides, own)))
    return contests


def _shell_sides(workload: Workload) -> list[Side]:
    from routing_env.envs.sb3 import RoutingVecEnv  # slow to import, and no other row needs it
    from routing_env.routing_v0 import parallel_env

    data, settings = workload.data(), workload.settings
    game = make_game(data=data, batch_size=workload.tasks, dealer="per_task", **settings)
    parallel, lanes = parallel_env(data=data, **settings), RoutingVecEnv(data=data, **settings)
    routes = [route.cpu().numpy() for route in random_routes(game, workload.tasks)]
    agents = parallel.possible_agents
    named = cycle([[dict(zip(agents, row.tolist(), strict=True)) for row in route] for route in routes])
    unnamed = cycle(routes)
    lanes.reset()

    def episode() -> None:
        parallel.reset()
        for actions in next(named):
            parallel.step(actions)

    def vector_episode() -> None:  # resets itself at the end of an episode
        for actions in next(unnamed):
            lanes.step(actions)

    return [
        Side("game", _timed(workload, deal_step(game, workload.tasks))),
        Side("PettingZoo", _timed(workload, episode), SHELL_BAR),
        Side("Stable-Baselines3 VecEnv", _timed(workload, vector_episode), SHELL_BAR),
    ]


def _vector_sides(workload: Workload) -> list[Side]:
    from routing_env.envs.vector import RoutingVectorEnv

    data = workload.data()
    game = workload.game(data)
    lanes = RoutingVectorEnv(workload.batch, data=data, autoreset_mode="SameStep", **workload.settings)
    routes = cycle([route.cpu().numpy() for route in random_routes(game, workload.batch)])
    lanes.reset()

    def episode() -> None:
        for actions in next(routes):
            lanes.step(actions)

    step = _timed(workload, deal_step(game, workload.batch))
    return [Side("game", step), Side("Gymnasium's make_vec", _timed(workload, episode), SHELL_BAR)]


def evaluation(workload: Workload) -> list[Contest]:
    """e) A greedy pass over the test split, routed over plain."""
    return [Contest("e", f"evaluation, batch {EVALUATION_BATCH}", partial(_evaluation_sides, workload))]


def _evaluation_sides(workload: Workload) -> list[Side]:
    data = workload.data()
    game, single = workload.game(data), replace(workload, blocks=1).game(data)
    plain = ordinary_evaluation(plain_network(single.network), single.data, EVALUATION_BATCH)
    policy = random_policy(game, EVALUATION_BATCH)

    def routed() -> None:
        game.evaluate(policy, batch_size=EVALUATION_BATCH)

    return [Side("plain", _timed(workload, plain)), Side("routed", _timed(workload, routed))]


def epochs(workload: Workload) -> list[Contest]:
    """h) An epoch of a run, end to end: data, routing, learning, evaluation, files; and a long run against a limit."""
    title = f"epoch of {workload.samples:,} samples, batch {workload.batch}"
    contests = [Contest("h", title, partial(_epoch_sides, workload), weight=14)]
    if workload.epochs:
        long = replace(workload, batch=max(workload.batches))
        title = f"{workload.epochs} epochs of {workload.samples:,} samples, batch {long.batch}"
        contests.append(Contest("h", title, partial(_run_sides, long), warm_up=False, rounds=1, weight=30))
    return contests


def _epoch_sides(workload: Workload) -> list[Side]:
    return [
        Side("plain", _timed(workload, _epoch(workload, PLAIN))),
        Side("WPL", _timed(workload, _epoch(workload, "wpl")), EPOCH_BAR),
    ]


def _run_sides(workload: Workload) -> list[Side]:
    epoch = _epoch(workload, "wpl")

    def run() -> None:
        for _ in range(workload.epochs):
            epoch()

    return [Side("one minute", lambda: 60_000.0), Side("WPL", Timed(run), 1.0)]


def _epoch(workload: Workload, router: str) -> Callable[[], None]:
    """Make an epoch as ``routing-env train`` runs it, with its files in a temporary folder."""
    own = {"router": router, "epochs": 10, "threads": workload.threads, "batch_size": workload.batch}
    run, folder = Run.of({**own, "data": workload.data(), **workload.settings}), TemporaryDirectory()
    directory = RunDirectory.create(Path(folder.name), "speed", run.settings)

    def epoch() -> None:
        started = time.perf_counter()
        assert folder  # the closure keeps the temporary folder alive
        run.learner.play(run.learner.pass_size, lambda: None)
        run.end_epoch(run.epoch + 1, directory, started)

    return epoch


def seeds(workload: Workload) -> list[Contest]:
    """i) A deal of several seeds in one computation, per seed, over a deal of one seed."""
    return [
        Contest("i", f"a seed's deal with WPL, {_kind(own)}, batch {own.batch}", partial(_seed_sides, own), weight=3)
        for convolutional in (True, False)
        for own in (replace(workload, convolutional=convolutional, batch=batch) for batch in workload.batches[:2])
    ]


def _seed_sides(workload: Workload) -> list[Side]:
    def share(seeds: int) -> Callable[[], float]:
        game, router = many_seeds(workload, seeds)
        timed = _timed(workload, lambda: router.play(game, seeds * workload.batch))
        return lambda: timed() / seeds

    return [Side("alone", share(1)), *(Side(f"{seeds} seeds at once", share(seeds)) for seeds in SEEDS)]


def captured(workload: Workload) -> list[Contest]:
    """j) On a CUDA device: a deal with WPL, and the plain network's step, started kernel by kernel and captured."""
    if not workload.on_cuda:
        return []
    both = [replace(workload, convolutional=convolutional) for convolutional in (True, False)]
    return [
        Contest("j", f"deal with WPL, {_kind(own)}, batch {batch}", partial(_captured_sides, replace(own, batch=batch)))
        for own in both
        for batch in workload.batches
    ]


def _captured_sides(workload: Workload) -> list[Side]:
    data = workload.data()
    network = plain_network(replace(workload, blocks=1).game(data).network)
    dealer = workload.game(data).dealer
    optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)

    def step(_: Unattended, x: Tensor, target: Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(x), target).backward()
        optimizer.step()

    recorded = CapturedStep(step, network, [])

    def captured_step() -> None:
        batch = dealer.next_batch()
        recorded(batch.x, batch.target)

    eager, fast = workload.game(data), workload.game(data)
    eager.make_graph = None
    routers = [make_router("wpl", game.spec) for game in (eager, fast)]
    routers[1].play(fast, CAPTURED_DEALS * workload.batch)
    return [
        Side("plain network", _timed(workload, workload.plain_step(data))),
        Side("plain network, captured", _timed(workload, captured_step)),
        Side("WPL", _timed(workload, lambda: routers[0].play(eager, workload.batch))),
        Side("WPL, captured", _timed(workload, lambda: routers[1].play(fast, workload.batch))),
    ]


def _timed(workload: Workload, step: Callable[[], object]) -> Timed:
    """Time a step: by CPU time on a single CPU thread, which ignores other processes, else by wall-clock time."""
    alone = workload.threads == 1 and not workload.on_cuda
    return Timed(step, torch.device(workload.device), time.process_time if alone else time.perf_counter)


def _kind(workload: Workload) -> str:
    return "conv + fc" if workload.convolutional else "fc alone"


ROWS: dict[str, Callable[[Workload], Sequence[Contest]]] = {
    "a": steps,
    "b": growth,
    "c": routers,
    "d": shells,
    "e": evaluation,
    "f": memory,
    "g": start_up,
    "h": epochs,
    "i": seeds,
    "j": captured,
}
