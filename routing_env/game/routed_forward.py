"""A routed network as an evaluation applies it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from routing_env.game.counterfactuals import follow_routes
from routing_env.game.evaluation import Forward, Score
from routing_env.game.routed_model import RoutedModel
from routing_env.types import Batch, Policy, Router


def routed_forward(network: RoutedModel, policy: Router | Policy, score: Score, *, greedy: bool) -> Forward:
    """The outputs and actions of a network, averaged over the routes of ``policy.mixture`` where there are some.

    Args:
        network: The network.
        policy: A router, or a function from a state to legal actions int64 [B].
        score: Averages outputs.
        greedy: Whether a router acts greedily; otherwise a copy of it draws, and it stays as it is.

    Raises:
        TypeError: ``policy`` is neither a router nor a function.
    """
    if not (isinstance(policy, Router) or callable(policy)):
        raise TypeError(
            f"policy is a {type(policy).__name__}; it must be a routing_env.Router or a function from a State to "
            "actions int64 [B]"
        )
    plays = policy if greedy or not isinstance(policy, Router) else copy.deepcopy(policy)

    def forward(batch: Batch) -> tuple[Tensor, Tensor]:
        mixture = plays.mixture(batch.task) if greedy and isinstance(plays, Router) else None
        if mixture is None:
            output, route = network(batch.x, batch.task, plays, greedy=greedy)
            return output, route.actions
        routes, weights = mixture
        followed = follow_routes(network.start(batch.x, batch.task), routes)
        if not followed.legal.all():
            raise ValueError("a route that evaluation is to average is not legal; see `mixture` of the router")
        outputs, actions = (part.unflatten(0, weights.shape) for part in (followed.output, followed.actions))
        best = actions[weights.argmax(0), torch.arange(len(batch), device=actions.device)]
        return score.average(outputs, weights, batch), best

    return forward
