"""WPL with function approximation, which the paper leaves to future work (section 6); the derivation is our own.

WPL moves a tabular policy by d(a) = Delta(a) w(a), where Delta(a) = Q(a) - sum_b pi(b) Q(b) and w(a) is pi(a) for
Delta(a) < 0 and 1 - pi(a) otherwise, and projects the result onto the simplex (Abdallah & Lesser, JAIR 2008). Here one
network gives pi(. | state) and another one Q(state, .). In every state visited the tabular step defines a target

    pi'(. | s) = project(pi(. | s) + eta d),

and the policy network is fitted to it by cross-entropy, with the target held constant. The gradient with respect to the
logits is pi - pi', which inside the simplex is -eta d minus its mean: the logits move in WPL's own direction, not in
the one into which the softmax would bend it. With one state and one row, the tabular rule keeps its resting points: the
gradient is zero if and only if pi' = pi. Q is fitted to the returns R_i of the actions taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from routing_env.agents.base import Rate
from routing_env.agents.gradient import SoftmaxRouter, along_routes, legal_actions
from routing_env.agents.samples import of_taken
from routing_env.agents.wpl import wpl_step
from routing_env.search_space import Choices, SearchSpace
from routing_env.types import Trace


def wpl_loss(log_policy: Tensor, value: Tensor, legal: Tensor, step: float, minimum: float) -> Tensor:
    """Cross-entropy between the policy and the policy after WPL's tabular step.

    Args:
        log_policy: float32 [..., A], -inf for illegal actions.
        value: Q, float32 [..., A].
        legal: bool [..., A].
        step: eta.
        minimum: Least probability of a legal action.

    Returns:
        float32 [...].
    """
    target = wpl_step(log_policy.detach().exp(), value.detach(), legal, step, minimum)
    return -(target * log_policy.clamp_min(torch.finfo(log_policy.dtype).min)).sum(-1)


@dataclass(eq=False, kw_only=True)
class WPLApprox(SoftmaxRouter):
    """Weighted Policy Learner whose policies and values are networks."""

    space: ClassVar[SearchSpace] = {"learning_rate": Choices((0.001, 0.002, 0.003, 0.005, 0.01))}

    learning_rate: Rate | None = 3e-3
    """Learning rate of the router, separate from that of the blocks."""
    gamma: float = 1.0
    train_blocks: bool = False
    step: Rate = 1.0
    """Step of the tabular rule, eta, whose result the policy network follows."""
    minimum: float = 0.001
    """Least probability that the tabular rule leaves a legal action."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rates("at least 0", "step")
        self.check_numbers("in [0, 1]", "minimum")
        self.value = self.add_network("value", self.spec.actions)

    def loss(self, trace: Trace) -> Tensor:
        """Cross-entropy of the policy and squared error of the values, summed over depth."""
        value = along_routes(self.value, trace.states)
        policy_loss = wpl_loss(self.log_policy(trace), value, legal_actions(trace), self.now(self.step), self.minimum)
        error = trace.returns(self.gamma) - of_taken(value, trace.actions)
        return policy_loss.sum(1) + error.square().sum(1) / 2
