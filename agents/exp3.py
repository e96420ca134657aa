"""EXP3 (Auer, Cesa-Bianchi, Freund & Schapire, SIAM J. Computing 32, 2002): a bandit against an adversary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from routing_env.agents.base import Samples, TableRouter
from routing_env.names import is_number, require
from routing_env.types import State


def exp3_policy(log_weight: Tensor, legal: Tensor, exploration: float) -> Tensor:
    """(1 - gamma) w(a) / sum_b w(b) + gamma / K over the K legal actions, float32 [..., A]."""
    weights = log_weight.masked_fill(~legal, -torch.inf).softmax(-1)
    return (1 - exploration) * weights + exploration * legal / legal.sum(-1, keepdim=True)


def exp3_update(
    log_weight: Tensor, action: Tensor, reward: Tensor, probability: Tensor, actions: Tensor, exploration: float
) -> Tensor:
    """Log w(a) <- log w(a) + (gamma / K) reward / p(a) for the action taken in every row.

    Args:
        log_weight: float32 [..., A].
        action: int64 [...].
        reward: float32 [...], in [0, 1].
        probability: p(a), the probability with which the action was drawn, float32 [...].
        actions: K, the number of legal actions, [...].
        exploration: gamma.
    """
    change = exploration / actions * reward / probability
    return log_weight.scatter_add(-1, action.unsqueeze(-1), change.unsqueeze(-1))


@dataclass(eq=False, kw_only=True)
class EXP3(TableRouter):
    """EXP3: one adversarial bandit per task and depth.

    Attributes:
        log_weight: float32 [agents, D, A].
        seen_range: The least and the greatest return, float32 [2].
    """

    exploration: float = 0.1
    """Share of uniform exploration, gamma of the source in (0, 1]; also the learning rate."""
    reward_range: tuple[float, float] | None = None
    """Least and greatest return, which are rescaled to [0, 1]; defaults to those seen so far."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_numbers("in (0, 1]", "exploration")
        given = self.reward_range
        if given is not None:
            holds = len(given) == 2 and all(map(is_number, given)) and given[0] < given[1]
            require("reward_range", given, holds, "(least, greatest), in this order")
        self.seen_range = torch.tensor(given or (torch.inf, -torch.inf), device=self.spec.device)
        self.log_weight = self.new_table()
        self.tables |= {"log_weight": self.log_weight, "reward_range": self.seen_range}

    def probability(self, state: State) -> Tensor:
        """The bandit's mixture of weights and uniform exploration."""
        return exp3_policy(self.row(self.log_weight, state), state.legal, self.exploration)

    def preference(self, state: State) -> Tensor:
        """The log-weights."""
        return self.row(self.log_weight, state)

    def update(self, samples: Samples) -> None:
        """Update every depth as a separate bandit."""
        return_ = samples.return_
        if self.reward_range is None:
            least, greatest = self.seen_range
            self.seen_range[0], self.seen_range[1] = least.minimum(return_.min()), greatest.maximum(return_.max())
        least, greatest = self.seen_range
        reward = ((return_ - least) / (greatest - least)).nan_to_num(0.5).clamp(0, 1)
        count = samples.legal.sum(-1)
        self.log_weight[samples.agent] = exp3_update(
            self.log_weight[samples.agent], samples.action, reward, samples.probability, count, self.exploration
        )
