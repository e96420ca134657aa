"""What other actions and other routes would have led to, for single samples, and for tasks once the blocks adapt."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from routing_env.analysis.tree import LANES, decision_of, zeros_per_task
from routing_env.data import SplitName
from routing_env.game.build import build_game
from routing_env.game.counterfactuals import one_step_outcomes
from routing_env.game.rewards import action_reward_of
from routing_env.game.routing_game import RoutingGame
from routing_env.torch_settings import usual_torch
from routing_env.types import Batch, Decision, Policy, Router, State, Tick


@usual_torch()
@torch.no_grad()
def counterfactuals(game: RoutingGame, batch: Batch, policy: Router | Policy | Tensor) -> Tensor:
    """What each sample would have earned if one action of its route had been another one, float32 [B, D, A].

    The rest of the route stays as it is. Where that is not legal after the other action, and where the action itself
    is not, the entry is NaN.

    Args:
        game: The game, whose blocks stay as they are.
        batch: B samples.
        policy: A router, which acts greedily, a function from a state to actions int64 [B], or routes int64 [B, D].
    """
    every = torch.arange(game.spec.actions, device=game.spec.device)
    offers = [action_reward_of(game.collaboration, depth, every) for depth in range(game.spec.depth)]
    with game.evaluating():
        route = game.network.start(batch.x, batch.task)
        while route.depth < game.spec.depth:
            route.apply(decision_of(policy, route.observe()))
        found = one_step_outcomes(route, batch, game.judge, offers)
    return found.final_reward + found.action_rewards.sum(-1)


@usual_torch()
@torch.no_grad()
def earned(game: RoutingGame, policy: Router | Policy, split: SplitName = "test", *, greedy: bool = True) -> Tensor:
    """What each task earns on a split with its samples on the routes that a policy takes, float64 [T].

    Args:
        game: The game; nothing is trained or recorded.
        policy: A router, or a function from a state to actions.
        split: "train", "validation" or "test".
        greedy: Whether a router acts greedily. Otherwise a copy of it draws, so that the router stays as it is, and the
            same call draws the same again.
    """
    if isinstance(policy, Router) and not greedy:
        policy = copy.deepcopy(policy)
    total, count = zeros_per_task(game), zeros_per_task(game)
    with game.evaluating():
        for batch in game.data.batches(split, LANES):
            route, reward = game.network.start(batch.x, batch.task), torch.zeros(len(batch), device=game.spec.device)
            while route.depth < game.spec.depth:
                decision = decision_of(policy, route.observe(), greedy=greedy)
                reward += action_reward_of(game.collaboration, route.depth, decision.action)
                route.apply(decision)
            reward += game.judge(route.output, batch)[1]
            total.index_add_(0, batch.task, reward.to(torch.float64))
            count += torch.bincount(batch.task, minlength=len(count))
    return (total / count).cpu()


@usual_torch()
def adapted_gap(
    game: RoutingGame,
    router: Router,
    routes: Tensor,
    *,
    samples: int,
    split: SplitName = "test",
    tasks: Sequence[int] | None = None,
    tick: Tick | None = None,
) -> Tensor:
    """What a task gains by another route once the blocks have adapted to it, float64 [len(tasks)].

    For each task the game is copied, the task takes its route, the others draw from the router's policy, which no
    longer learns, and the blocks are trained. The gain is over a copy trained as long in which nobody deviates.

    Args:
        game: A game that was built from settings; it stays as it is.
        router: Whose policies the tasks have; it stays as it is.
        routes: int64 [T, D], the other route of each task, such as ``payoffs.routes[best_response(payoffs)]``.
        samples: Training samples of each copy.
        split: What is measured.
        tasks: Who deviates, one at a time; by default all.
        tick: Called after every deal.
    """
    if game.settings is None:
        raise ValueError("the game was put together by hand and cannot be copied; build it by make_game")
    routes = routes.to(game.spec.device)

    def after(deviating: int | None) -> Tensor:
        twin, drawing = build_game(game.settings, game.data), copy.deepcopy(router)  # pyright: ignore[reportArgumentType]
        twin.load_state_dict(game.state_dict())

        def decide(state: State) -> Decision:
            decision = drawing.act(state)
            own = routes[state.task, state.depth]
            takes = (state.task == deviating) & state.legal.gather(1, own[:, None])[:, 0]
            if deviating is None or not takes.any():
                return decision
            certain = torch.nn.functional.one_hot(own, state.legal.shape[1]).to(torch.float32)
            probability = decision.probability
            if probability is not None:
                probability = torch.where(takes[:, None], certain, probability)
            return replace(decision, action=torch.where(takes, own, decision.action), probability=probability)

        dealt = 0
        while dealt < samples:
            state: State | None = twin.reset()
            dealt += len(state.task)
            while state is not None:
                state = twin.step(decide(state))
            if tick is not None:
                tick()
        return earned(twin, _Rule(decide), split, greedy=False)

    usual = after(None)
    deviating = range(game.spec.tasks) if tasks is None else tasks
    return torch.stack([after(task)[task] - usual[task] for task in deviating])


class _Rule(Router):
    """A function from states to decisions as a router."""

    def __init__(self, decide: Callable[[State], Decision]) -> None:
        self._decide = decide

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        return self._decide(state)
