"""What routes earn while the blocks stay as they are, and what tasks could gain by others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from routing_env.analysis.tree import check_own_rewards, follow, sampled
from routing_env.data import SplitName
from routing_env.game.routing_game import RoutingGame
from routing_env.torch_settings import usual_torch
from routing_env.types import Router, Tick


@dataclass(frozen=True)
class Payoffs:
    """What deterministic routes earn while the blocks stay as they are.

    Attributes:
        split: Name of the split.
        routes: int64 [N, D]. Lanes that have one legal action at a depth take it, whatever the route says there.
        reward: float64 [T, N], the mean over the task's samples of r_final and the collaboration rewards; NaN where the
            route is not legal for all of them.
        exhaustive: Whether these are all routes. Otherwise they were sampled, and then improved task by task until no
            other action at a single depth was better; the best of them bounds the best route from below.
        chance: float64 [T, N], the mean probability that the router takes the route; None without a router.
        value: float64 [T], what the router's policy earns; None without a router.
    """

    split: str
    routes: Tensor
    reward: Tensor
    exhaustive: bool
    chance: Tensor | None = None
    value: Tensor | None = None


@usual_torch()
@torch.no_grad()
def frozen_payoffs(
    game: RoutingGame,
    split: SplitName = "validation",
    *,
    router: Router | None = None,
    most: int = 20_000,
    seed: int = 0,
    tick: Tick | None = None,
) -> Payoffs:
    """What every route earns for every task with the blocks as they are now; nothing is trained or recorded.

    Args:
        game: The game. A deal under way is not disturbed.
        split: "train", "validation" or "test".
        router: Whose policy is to be valued along the way, exactly; it needs a method ``probability``.
        most: Where there may be more routes than this, this many are sampled.
        seed: Of the sampling.
        tick: Called whenever a route has been followed by up to ``LANES`` samples.

    Raises:
        ValueError: An empty split, or a final reward that depends on the other lanes of a deal, such as "team": then no
            route has its own payoff.
        NotImplementedError: The router does not say its policy, or there are too many routes to value it.
    """
    exhaustive = most_routes(game) <= most
    if router is not None and not exhaustive:
        raise NotImplementedError(
            f"there may be {most_routes(game):,} routes, more than {most:,}, so that a policy cannot be valued "
            "exactly; use earned(game, router, split, greedy=False), which draws from it"
        )
    with game.evaluating():
        check_own_rewards(game, split)
        if exhaustive:
            paths, reward, chance, value = follow(game, split, None, router, tick)
        else:
            paths, reward = sampled(game, split, most, torch.Generator().manual_seed(seed), tick)
            chance = value = None
    return Payoffs(split, torch.tensor(paths), reward, exhaustive, chance, value)


def most_routes(game: RoutingGame) -> int:
    """An upper bound of the number of routes: the product over depths of the actions that are legal somewhere."""
    return int(game.spec.legal.sum(1).to(torch.float64).prod().clamp_max(2.0**62))


def best_response(payoffs: Payoffs) -> Tensor:
    """The route that earns each task most, int64 [T], as an index of ``payoffs.routes``; the first one of equals."""
    return payoffs.reward.nan_to_num(-torch.inf).argmax(1)


def policy_value(payoffs: Payoffs, policy: Tensor | None = None) -> Tensor:
    """What policies earn each task, float64 [T].

    Args:
        payoffs: What routes earn.
        policy: Probabilities of the routes [T, N], or of the actions at each depth [T, D, A], or what a policy was
            found to earn [T]; by default the router's, as it was valued with the payoffs.

    Raises:
        ValueError: No policy is known, or the policy takes a route that is not legal.
    """
    if policy is None:
        if payoffs.value is None:
            raise ValueError("the payoffs know no policy: give one, or a router to frozen_payoffs")
        return payoffs.value
    chance = policy.to(torch.float64)
    if chance.dim() == 1:
        return chance
    if chance.dim() == 3:
        depths = torch.arange(payoffs.routes.shape[1])
        chance = chance[:, depths, payoffs.routes].prod(2)
    lost = (chance * payoffs.reward.isnan()).sum(1)
    if (lost > 1e-6).any() or ((chance.sum(1) - 1).abs() > 1e-3).any():
        raise ValueError(
            "the policy's probabilities of these routes do not sum to 1: it takes routes that are illegal, or that "
            "were not sampled"
        )
    return (chance * payoffs.reward.nan_to_num(0.0)).sum(1)


def nash_gap(payoffs: Payoffs, policy: Tensor | None = None, *, chosen: Payoffs | None = None) -> Tensor:
    """What each task would gain by its best route while all others stay as they are, float64 [T].

    The sum over tasks is the NashConv of Lanctot et al. (NeurIPS 2017). It says little alone: where every route earns
    the same, it is 0 for any policy. See :func:`near_best`.

    Args:
        payoffs: What routes earn.
        policy: As for :func:`policy_value`.
        chosen: Payoffs of the same routes on the split that the best routes are chosen on, which is not the one that
            they are measured on; by default ``payoffs``. A gap may then be negative.
    """
    best = best_response(payoffs if chosen is None else chosen)
    if chosen is not None and not chosen.routes.equal(payoffs.routes):
        raise ValueError("the payoffs are those of different routes; take both from the same game and bound")
    return payoffs.reward.gather(1, best[:, None])[:, 0] - policy_value(payoffs, policy)


def near_best(payoffs: Payoffs, tolerance: float = 0.02) -> Tensor:
    """How many routes earn a task at least its best minus a tolerance, int64 [T].

    Args:
        payoffs: What routes earn.
        tolerance: In units of the reward; 0.02 is one percentage point of accuracy where r_final is +1 or -1.
    """
    reward = payoffs.reward.nan_to_num(-torch.inf)
    return (reward >= reward.amax(1, keepdim=True) - tolerance).sum(1)


def dynamic_regret(samples: Sequence[int], gaps: Tensor) -> Tensor:
    """Gaps summed over training: what a task that always took its best route of the moment would have earned more.

    The best route of the moment is a comparator that moves with the blocks; the sum is the dynamic regret of
    Zinkevich (ICML 2003), taken over training samples by the trapezoidal rule.

    Args:
        samples: [E], training samples dealt when the gaps were measured, ascending.
        gaps: float64 [E, T], as from :func:`nash_gap`.

    Returns:
        float64 [T], in rewards.
    """
    return torch.trapezoid(gaps, torch.tensor(samples, dtype=gaps.dtype), dim=0)
