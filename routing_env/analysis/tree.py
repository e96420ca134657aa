"""Following routes: the tree of all decisions, or of some, with the work of common beginnings shared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor

from routing_env.data import SplitName
from routing_env.game.measured_rewards import MeasuredReward
from routing_env.game.rewards import action_reward_of, refuse_shared_rewards
from routing_env.game.routed_model import Route
from routing_env.game.routing_game import RoutingGame
from routing_env.types import Batch, Decision, Policy, Router, State, Tick

Path = tuple[int, ...]
"""The actions of a route from the first depth on."""

LANES = 4096
"""Samples that follow the tree of routes together."""


def follow(
    game: RoutingGame, split: SplitName, paths: Sequence[Path] | None, router: Router | None, tick: Tick | None
) -> tuple[list[Path], Tensor, Tensor | None, Tensor | None]:
    """Follow routes with all samples of a split.

    Args:
        game: The game.
        split: Its split.
        paths: The routes; None: all.
        router: Whose probabilities of the routes are wanted as well.
        tick: Called after each route.

    Returns:
        The routes that some task can take, their rewards float64 [T, N], the router's chances of them [T, N], and what
        its policy earns [T].
    """
    number: dict[Path, int] = {}
    sums: list[Tensor] = []  # [3, T] for each route: reward, samples that can take it, chance
    value, samples = zeros_per_task(game), zeros_per_task(game)
    for batch in game.data.batches(split, LANES):
        samples += torch.bincount(batch.task, minlength=len(samples))
        for path, reward, alive, chance in _leaves(game.network.start(batch.x, batch.task), game, batch, paths, router):
            place = number.setdefault(path, len(number))
            if place == len(sums):
                sums.append(samples.new_zeros(3, len(samples)))
            reward = reward.to(torch.float64)
            columns = [reward, torch.ones_like(reward), torch.zeros_like(reward) if chance is None else chance]
            if alive is not None:
                columns = [column.where(alive, 0.0) for column in columns]
            sums[place].index_add_(1, batch.task, torch.stack(columns))
            if chance is not None:
                value.index_add_(0, batch.task, columns[0] * columns[2])
            if tick is not None:
                tick()
    table = torch.stack(sums, dim=2)  # [3, T, N]
    possible = table[1] == samples[:, None]
    reward = (table[0] / samples[:, None]).where(possible, torch.nan).cpu()
    if router is None:
        return list(number), reward, None, None
    return list(number), reward, (table[2] / samples[:, None]).cpu(), (value / samples).cpu()


def _leaves(
    root: Route, game: RoutingGame, batch: Batch, paths: Sequence[Path] | None, router: Router | None
) -> Iterator[tuple[Path, Tensor, Tensor | None, Tensor | None]]:
    """The ends of routes, depth first, so that routes share the work of their common beginning.

    Yields:
        The route, what the lanes earn float32 [B], the lanes that can take it bool [B] or None for all, and the
        router's probability of it, float64 [B].
    """

    def below(
        route: Route, paths: Sequence[Path] | None, alive: Tensor | None, reward: Tensor, chance: Tensor | None
    ) -> Iterator[tuple[Path, Tensor, Tensor | None, Tensor | None]]:
        depth = route.depth
        if depth == game.spec.depth:
            path = tuple(taken[i] for i in range(depth))
            yield path, reward + game.judge(route.output, batch)[1], alive, chance
            return
        state = route.observe()
        forced = state.legal.sum(1) == 1
        policy = None if router is None else _policy(router, state)
        for action, rest in _branches(state, forced, alive, paths):
            taken[depth] = action
            own = torch.where(forced, state.legal.int().argmax(1), action)
            legal = state.legal.gather(1, own[:, None])[:, 0]
            going = alive if legal.all() else legal if alive is None else alive & legal
            if going is not None and not going.any():
                continue
            fork = route.fork()
            fork.apply(Decision(own), playing=going)
            now = reward + action_reward_of(game.collaboration, depth, own)
            probable = None if chance is None or policy is None else chance * policy.gather(1, own[:, None])[:, 0]
            yield from below(fork, rest, going, now, probable)

    taken: dict[int, int] = {}
    start = torch.zeros(len(batch), device=game.spec.device)
    certain = None if router is None else torch.ones(len(batch), dtype=torch.float64, device=game.spec.device)
    yield from below(root, paths, None, start, certain)


def _policy(router: Router, state: State) -> Tensor:
    """The router's policy, float64 [B, A]."""
    probability = router.probability(state)
    if probability is None:
        raise NotImplementedError(f"{type(router).__name__} does not say its policy: its `probability` returns None")
    return probability.to(torch.float64)


def _branches(
    state: State, forced: Tensor, alive: Tensor | None, paths: Sequence[Path] | None
) -> Iterator[tuple[int, Sequence[Path] | None]]:
    """The actions to try at a depth, each with the routes that go on behind it."""
    if paths is not None:
        for action, group in groupby(paths, key=lambda path: path[state.depth]):
            yield action, list(group)
        return
    playing = torch.ones_like(forced) if alive is None else alive
    free = playing & ~forced
    if free.any():
        actions = state.legal[free].any(0).nonzero()[:, 0].tolist()
    else:  # nobody can choose: one branch for all
        actions = state.legal[playing][:1].int().argmax(1).tolist()
    for action in actions:
        yield action, None


def sampled(
    game: RoutingGame, split: SplitName, most: int, generator: torch.Generator, tick: Tick | None
) -> tuple[list[Path], Tensor]:
    """Random routes, and from the best of each task steps to better ones, one depth at a time."""
    spec = game.spec
    lanes = game.data.split(split)
    drawn: set[Path] = set()
    for rows in torch.randint(len(lanes), (most,), generator=generator).split(1024):
        batch = game.data.gather(lanes[rows.to(spec.device)])
        route = game.network.start(batch.x, batch.task)
        while route.depth < spec.depth:
            legal = route.observe().legal.cpu().to(torch.float32)
            route.apply(Decision(torch.multinomial(legal, 1, generator=generator)[:, 0].to(spec.device)))
        drawn |= {tuple(path) for path in route.actions.tolist()}
    paths, reward, _, _ = follow(game, split, sorted(drawn), None, tick)
    while True:
        best = {paths[i] for i in reward.nan_to_num(-torch.inf).argmax(1).tolist()}
        near = {
            (*path[:depth], action, *path[depth + 1 :])
            for path in best
            for depth in range(spec.depth)
            for action in spec.legal[depth].nonzero()[:, 0].tolist()
        }
        if not (near := near - drawn):
            return paths, reward
        drawn |= near
        more, theirs, _, _ = follow(game, split, sorted(near), None, tick)
        paths, reward = paths + more, torch.cat([reward, theirs], dim=1)


def check_own_rewards(game: RoutingGame, split: SplitName) -> None:
    """Refuse a final reward that is not each lane's own, or that blocks which stay as they are never give."""
    if isinstance(game.final_reward, MeasuredReward) and game.final_reward.needs_step:
        raise ValueError(
            f"{type(game.final_reward).__name__} is measured by a step of the blocks, which an analysis does not take; "
            "use final_reward 'correct' or 'negative_loss'"
        )
    batch = next(game.data.batches(split, 64))
    route = game.network.start(batch.x, batch.task)
    while route.depth < game.spec.depth:
        route.apply(Decision(route.observe().legal.int().argmax(1)))
    refuse_shared_rewards(game.final_reward, game.judge(route.output, batch)[0])


def decision_of(policy: Router | Policy | Tensor, state: State, *, greedy: bool = True) -> Decision:
    """The decision of a router, of a function, or of routes int64 [B, D]."""
    if isinstance(policy, Tensor):
        return Decision(policy[:, state.depth])
    return policy.act(state, greedy=greedy) if isinstance(policy, Router) else Decision(policy(state))


def zeros_per_task(game: RoutingGame) -> Tensor:
    """Zeros, float64 [T]."""
    return torch.zeros(game.spec.tasks, dtype=torch.float64, device=game.spec.device)
