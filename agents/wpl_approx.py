"""WPL with function approximation: what the paper leaves to future work (section 6); the derivation is our own.

WPL moves a tabular policy by d(a) = Delta(a) w(a), where Delta(a) = Q(a) - sum_b pi(b) Q(b) and w(a) is pi(a) for
Delta(a) < 0 and 1 - pi(a) otherwise, and projects the result onto the simplex (Abdallah & Lesser, JAIR 2008). Here a
network gives pi(. | state) and a second one Q(state, .). In every state visited the tabular step defines a target

    pi'(. | s) = project(pi(. | s) + eta d),

and the policy network is fitted to it by cross-entropy, the target held constant. Its gradient by the logits is
pi - pi', which inside the simplex is -eta d less its mean: the logits move along WPL's own direction, not along the
direction that the softmax would bend it to, and with one state and one row the tabular rule's resting points are kept:
the gradient is zero if and only if pi' = pi. Q is fitted to the returns R_i of the actions taken.
"""

from __future__ import annotations

import torch
from torch import Tensor

from routing_env.agents.base import Rate, rate_at
from routing_env.agents.gradient import OptimizerName, along_routes, legal_actions, of_taken
from routing_env.agents.networks import Network, make_network
from routing_env.agents.policy_gradient import SoftmaxRouter
from routing_env.agents.wpl import wpl_step
from routing_env.types import GameSpec, Trace


def wpl_loss(log_policy: Tensor, value: Tensor, legal: Tensor, step: float, minimum: float) -> Tensor:
    """Cross-entropy between the policy and where WPL's tabular step would take it.

    Args:
        log_policy: float32 [..., A], -inf for illegal actions.
        value: Q, float32 [..., A].
        legal: bool [..., A].
        step: eta.
        minimum: the least probability of a legal action.

    Returns:
        float32 [...].
    """
    target = wpl_step(log_policy.detach().exp(), value.detach(), legal, step, minimum)
    return -(target * log_policy.clamp_min(torch.finfo(log_policy.dtype).min)).sum(-1)


class WPLApprox(SoftmaxRouter):
    """WPL agents whose policies and values are networks.

    Args:
        spec: of the game.
        seed: of weights and exploration.
        network: of policy and values: "mlps", "mlp", "table", or one's own.
        step: eta, how far the tabular step goes that the network then follows.
        minimum: the least probability that the tabular step leaves a legal action.
        learning_rate: of the router.
        optimizer: "adam" or "sgd".
        gamma: discount of the action rewards.
        train_blocks: add this router's loss to the blocks' (section 3.1.2).
    """

    def __init__(
        self,
        spec: GameSpec,
        *,
        seed: int = 0,
        network: Network = "mlps",
        step: Rate = 1.0,
        minimum: float = 0.001,
        learning_rate: Rate = 3e-3,
        optimizer: OptimizerName = "adam",
        gamma: float = 1.0,
        train_blocks: bool = False,
    ) -> None:
        self.value = make_network(network, spec, spec.actions, seed + 1)
        super().__init__(
            spec,
            {"value": self.value},
            seed=seed,
            network=network,
            learning_rate=learning_rate,
            optimizer=optimizer,
            gamma=gamma,
            train_blocks=train_blocks,
        )
        self.step_size = step
        self.minimum = minimum

    def loss(self, trace: Trace) -> Tensor:
        """The policy's cross-entropy and the values' squared error, summed over depth."""
        value = along_routes(self.value, trace.states)
        step = rate_at(self.step_size, self.samples)
        policy_loss = wpl_loss(self.log_policy(trace), value, legal_actions(trace), step, self.minimum)
        error = trace.returns(self.gamma) - of_taken(value, trace.actions)
        return policy_loss.sum(1) + error.square().sum(1) / 2
