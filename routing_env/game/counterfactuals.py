"""Other routes for the lanes of one deal: many at a time, as additional lanes, with common beginnings shared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from routing_env.game.evaluation import Score
from routing_env.game.rewards import CollaborationReward, action_reward_of
from routing_env.game.routed_model import Route, RoutedModel
from routing_env.game.training import network_mode
from routing_env.types import Batch, Counterfactuals, Decision, Outcome

Judge = Callable[[Tensor, Batch], tuple[Outcome, Tensor]]
"""From the output float32 [B, O] of some lanes and their samples to their outcome and r_final."""


@dataclass(frozen=True)
class Followed:
    """Where N lanes have come to on routes that were given to them.

    Attributes:
        output: of the network, float32 [N, O].
        actions: what was done, int64 [N, D].
        legal: whether the whole route was legal, bool [N].
    """

    output: Tensor
    actions: Tensor
    legal: Tensor


def follow_routes(start: Route, routes: Tensor, *, waits: bool = True) -> Followed:
    """Follow whole routes with the lanes of a deal. Routes that begin alike are one until they part.

    Args:
        start: the beginning of the deal.
        routes: int64 [R, D] for all lanes, or [R, B, D].
        waits: whether to wait for the device to tell which routes begin alike, or are not legal. Without waiting they
            are followed one beside the other, those that are not legal with whatever the blocks make of it.

    Returns:
        For R * B lanes: the first route with all lanes, then the second.
    """
    lanes, depths = len(start.task), start.model.depth
    number, own = len(routes), torch.arange(lanes, device=start.task.device)
    if routes.dim() == 2:
        routes = routes[:, None].expand(-1, lanes, -1)
    route, legal = start, torch.ones(lanes, dtype=torch.bool, device=own.device)
    if not waits:
        route, legal, taken = start.fork(lanes=own.repeat(number)), legal.repeat(number), list[Tensor]()
        for action in routes.flatten(0, 1).unbind(1):
            action, legal = _take(route, action, legal, waits=False)
            taken.append(action)
        return Followed(route.output, torch.stack(taken, dim=1), legal)
    actions = own.new_empty(lanes, 0)
    of_route = torch.zeros(number, dtype=torch.int64, device=own.device)  # which of the beginnings is a route's, [R]
    for depth in range(depths):
        begun = actions.view(len(actions) // lanes, lanes, depth)[of_route]
        distinct, new_of = torch.cat([begun, routes[:, :, depth, None]], dim=2).unique(dim=0, return_inverse=True)
        parent = own.new_empty(len(distinct)).scatter(0, new_of, of_route)
        of_route = new_of
        rows = (parent[:, None] * lanes + own).flatten()
        route = route.fork(lanes=rows)
        taken, legal = _take(route, distinct[:, :, depth].flatten(), legal[rows])
        actions = torch.cat([actions[rows], taken[:, None]], dim=1)
    rows = (of_route[:, None] * lanes + own).flatten()
    return Followed(route.output[rows], actions[rows], legal[rows])


def outcomes_along(
    start: Route,
    routes: Tensor,
    batch: Batch,
    judge: Judge,
    collaboration: CollaborationReward,
    *,
    waits: bool = True,
) -> Counterfactuals:
    """What the lanes of a deal meet with on whole routes, for shape [R, B].

    Args:
        start: the beginning of the deal; the network is in evaluation mode.
        routes: int64 [R, D] for all lanes, or [R, B, D].
        batch: the samples.
        judge: from the output of one route and the samples to their outcome and r_final.
        collaboration: the immediate rewards.
        waits: whether to wait for the device, see :func:`follow_routes`.
    """
    found = follow_routes(start, routes, waits=waits)
    judged = [judge(output, batch) for output in found.output.split(len(batch))]
    earned = [action_reward_of(collaboration, depth, action) for depth, action in enumerate(found.actions.unbind(1))]
    loss, final_reward = (torch.stack(parts) for parts in zip(*((o.loss, r) for o, r in judged), strict=True))
    legal = found.legal.view_as(loss)
    rewards = torch.stack(earned, dim=1).view(*loss.shape, -1).where(legal[..., None], torch.nan)
    return Counterfactuals(loss.where(legal, torch.nan), final_reward.where(legal, torch.nan), rewards)


def replay_routes(network: RoutedModel, score: Score, actions: Tensor, batch: Batch) -> Outcome:
    """The outcome of routes int64 [B, D] with other samples, lane by lane, in evaluation mode and without gradients."""
    with network_mode(network, train=False):
        found = follow_routes(network.start(batch.x, batch.task), actions[None])
        return score.outcome(found.output, batch, found.legal)[0]


def one_step_outcomes(
    route: Route, batch: Batch, judge: Judge, offers: Sequence[Tensor], *, waits: bool = True
) -> Counterfactuals:
    """What the lanes of a deal would have met with by another action at one depth, for shape [B, D, A].

    The rest of the route stays as it is. Lanes that have lost their route count as if they had taken the actions that
    stand for them.

    Args:
        route: the deal, at its end; the network is in evaluation mode.
        batch: the samples.
        judge: as for :func:`outcomes_along`; r_final must be each lane's own.
        offers: the immediate rewards of all actions, float32 [A] at each depth.
        waits: whether to wait for the device to tell which actions are legal somewhere; otherwise all are tried.
    """
    own, lanes, depths = route.actions, torch.arange(len(batch), device=batch.task.device), len(offers)
    loss = torch.full((len(batch), depths, len(offers[0])), torch.nan, device=own.device)
    found = Counterfactuals(loss, loss.clone(), loss[..., None].repeat(1, 1, 1, depths))
    for depth, state in enumerate(route.states[:depths]):
        tried = state.legal.any(0).nonzero()[:, 0] if waits else torch.arange(len(offers[0]), device=own.device)
        rows, other = lanes.repeat(len(tried)), tried.repeat_interleave(len(lanes))
        fork, actions, legal = route.fork(depth, lanes=rows), own[rows], state.legal[rows, other]
        actions[:, depth] = other
        for i in range(depth, depths):
            actions[:, i], legal = _take(fork, actions[:, i], legal, waits=waits)
        outcome, final_reward = judge(fork.output, Batch(batch.x[:0], batch.task[rows], batch.target[rows]))
        rewards = torch.stack([offered[action] for offered, action in zip(offers, actions.unbind(1), strict=True)], 1)
        found.loss[rows, depth, other] = outcome.loss.where(legal, torch.nan).to(found.loss.dtype)
        found.final_reward[rows, depth, other] = final_reward.where(legal, torch.nan)
        found.action_rewards[rows, depth, other] = rewards.where(legal[:, None], torch.nan)
    return found


def _take(route: Route, action: Tensor, legal: Tensor, *, waits: bool = True) -> tuple[Tensor, Tensor]:
    """Apply actions int64 [N] where they are legal, or a lane's only one; what was done, and who is still legal."""
    allowed = route.observe().legal
    action = torch.where(allowed.sum(1) == 1, allowed.int().argmax(1), action)
    legal = legal & allowed.gather(1, action[:, None])[:, 0]
    route.apply(Decision(action), playing=None if not waits or legal.all() else legal)
    return action, legal
