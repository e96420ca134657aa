"""EXP3 (Auer, Cesa-Bianchi, Freund & Schapire, SIAM J. Computing 32, 2002): a bandit against an adversary."""

from __future__ import annotations

import torch
from torch import Tensor

from routing_env.agents.table import Samples, TableRouter
from routing_env.types import GameSpec, State


def exp3_policy(log_weight: Tensor, legal: Tensor, exploration: float) -> Tensor:
    """(1 - gamma) w(a) / sum_b w(b) + gamma / K over the K legal actions, float32 [..., A]."""
    weights = log_weight.masked_fill(~legal, -torch.inf).softmax(-1)
    return (1 - exploration) * weights + exploration * legal / legal.sum(-1, keepdim=True)


def exp3_update(
    log_weight: Tensor, action: Tensor, reward: Tensor, probability: Tensor, actions: Tensor, exploration: float
) -> Tensor:
    """Add to the log-weights: log w(a) <- log w(a) + gamma / K times reward / p(a), for the action taken in every row.

    Args:
        log_weight: float32 [..., A].
        action: int64 [...].
        reward: float32 [...], in [0, 1].
        probability: p(a) with which the action was drawn, float32 [...].
        actions: K, [...].
        exploration: gamma.
    """
    change = exploration / actions * reward / probability
    return log_weight.scatter_add(-1, action.unsqueeze(-1), change.unsqueeze(-1))


class EXP3(TableRouter):
    """One EXP3 bandit per task and depth.

    Args:
        spec: of the game.
        seed: of exploration.
        exploration: gamma in (0, 1], also the learning rate.
        reward_range: least and greatest return, rescaled to [0, 1]; by default those seen so far.
        gamma: discount of the action rewards.
    """

    def __init__(
        self,
        spec: GameSpec,
        *,
        seed: int = 0,
        exploration: float = 0.1,
        reward_range: tuple[float, float] | None = None,
        gamma: float = 1.0,
    ) -> None:
        super().__init__(spec, seed=seed)
        if not 0 < exploration <= 1:
            raise ValueError(f"exploration is {exploration}; it must be in (0, 1]")
        self.exploration = exploration
        self.gamma = gamma
        self.adapt = reward_range is None
        self.reward_range = torch.tensor(reward_range or (torch.inf, -torch.inf), device=spec.device)
        self.log_weight = self.new_table()
        self.tables = {"log_weight": self.log_weight, "reward_range": self.reward_range}

    def probability(self, state: State) -> Tensor:
        """The bandit's own mixture."""
        return exp3_policy(self.row(self.log_weight, state), state.legal, self.exploration)

    def preference(self, state: State) -> Tensor:
        """The heaviest action."""
        return self.row(self.log_weight, state)

    def update(self, samples: Samples) -> None:
        """Every depth is a bandit of its own."""
        return_ = samples.return_
        if self.adapt:
            least, greatest = self.reward_range
            self.reward_range[0], self.reward_range[1] = least.minimum(return_.min()), greatest.maximum(return_.max())
        least, greatest = self.reward_range
        reward = ((return_ - least) / (greatest - least)).nan_to_num(0.5).clamp(0, 1)
        count = samples.legal.sum(-1)
        self.log_weight[samples.agent] = exp3_update(
            self.log_weight[samples.agent], samples.action, reward, samples.probability, count, self.exploration
        )
