"""Final and collaboration rewards (paper, section 3.1.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

FinalReward = Callable[[Tensor, Tensor], Tensor]
"""From correct bool [B] and loss float32 [B] to r_final float32 [B]."""


def correct_or_not(correct: Tensor, loss: Tensor) -> Tensor:
    """+1 where the prediction is right, -1 where it is wrong: the paper's reward for classification."""
    return torch.where(correct, 1.0, -1.0).to(loss.dtype)


def negative_loss(correct: Tensor, loss: Tensor) -> Tensor:
    """-L, the paper's reward for other domains such as regression."""
    return -loss


FINAL_REWARDS: dict[str, FinalReward] = {"correct": correct_or_not, "negative_loss": negative_loss}

FORFEIT = -1.0
"""r_final of a route that named an illegal action, unless a reward of the same deal is lower still."""


def collaboration_reward(average: Tensor, action: Tensor, rho: float) -> Tensor:
    """Rho times the average that each lane's chosen action has in history.

    Args:
        average: float32 [A], the running average of one depth.
        action: int64 [B].
        rho: the weight, in [0, 1].

    Returns:
        float32 [B].
    """
    return rho * average[action]


class Collaboration:
    """The reward for choosing blocks that were chosen before, with its history.

    One running average per (depth, action) over all tasks and samples so far: of the probability that the router gave
    to the action ("probability", the variant that the paper uses), or of how often it was chosen ("count"). A deal is
    rewarded by the history before it. PASS is no block: it earns nothing.

    Args:
        depth: D.
        actions: A.
        rho: weight in [0, 1]; 0 turns the reward off. A sequence gives each depth its own.
        kind: "probability" or "count".
        pass_action: index of PASS, if there is one.
        device: where the game's tensors are.

    Raises:
        ValueError: rho outside [0, 1], as many of them as depths are needed, or an unknown kind.
    """

    def __init__(
        self,
        depth: int,
        actions: int,
        *,
        rho: float | Sequence[float] = 0.0,
        kind: Literal["probability", "count"] = "probability",
        pass_action: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        weights = list(rho) if isinstance(rho, Sequence) else [rho] * depth
        if not all(0.0 <= weight <= 1.0 for weight in weights):
            raise ValueError(f"rho is {rho}; it must be in [0, 1]")
        if len(weights) != depth:
            raise ValueError(
                f"rho has {len(weights)} weights for {depth} depths; give one number, or one for each depth"
            )
        if kind not in ("probability", "count"):
            raise ValueError(f"collaboration is {kind!r}; it must be 'probability' or 'count'")
        self.rho = weights
        self.kind = kind
        self.average = torch.zeros(depth, actions, device=device)
        self._seen = [0] * depth
        self._pass_action = pass_action

    def reward(self, depth: int, action: Tensor) -> Tensor:
        """Reward one decision of every lane by the history so far.

        Args:
            depth: of the decision.
            action: int64 [B].

        Returns:
            float32 [B].
        """
        if not self.rho[depth]:
            return torch.zeros(len(action), device=self.average.device)
        reward = collaboration_reward(self.average[depth], action, self.rho[depth])
        return reward if self._pass_action is None else reward.where(action != self._pass_action, 0.0)

    def record(self, depth: int, action: Tensor, probability: Tensor | None) -> None:
        """Take one decision of some lanes into the history.

        Args:
            depth: of the decision.
            action: int64 [B].
            probability: float32 [B, A]; None where the router does not say: then the action had probability 1.
        """
        if not self.rho[depth] or not len(action):
            return
        average = self.average[depth]
        if self.kind == "count" or probability is None:
            probability = torch.nn.functional.one_hot(action, len(average)).to(average.dtype)
        self._seen[depth] += len(action)
        average += (probability.detach().sum(0) - len(action) * average) / self._seen[depth]

    def state_dict(self) -> dict[str, Any]:
        """The history."""
        return {"average": self.average.clone(), "seen": list(self._seen)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back a history."""
        self.average.copy_(state["average"])
        self._seen = list(state["seen"])
