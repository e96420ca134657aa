"""Final and collaboration rewards (paper, section 3.1.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from routing_env.game.own_parts import own_values
from routing_env.state_dicts import Stateful, check_state
from routing_env.types import GameSpec, Outcome

FinalReward = Callable[[Outcome], Tensor]
"""From the outcome of B routes to r_final, float32 [B]. It may look at the whole deal, as a team's reward does."""

FORFEIT = -1.0
"""r_final of a route that was lost by an illegal action, unless a reward of the same deal is lower still."""


def correct_or_not(outcome: Outcome) -> Tensor:
    """+1 where the prediction is right, -1 where it is wrong: the paper's reward for classification."""
    return torch.where(outcome.correct, 1.0, -1.0).to(outcome.loss.dtype)


def negative_loss(outcome: Outcome) -> Tensor:
    """-L, the paper's reward for other domains such as regression."""
    return -outcome.loss


def team_reward(outcome: Outcome) -> Tensor:
    """The mean of the deal for everyone: of +1/-1, or of -L for regression. A forfeited route counts as -1."""
    own = negative_loss(outcome) if outcome.prediction.is_floating_point() else correct_or_not(outcome)
    return own.where(~outcome.forfeited, FORFEIT).mean().expand_as(own)


FINAL_REWARDS: dict[str, FinalReward] = {
    "correct": correct_or_not,
    "negative_loss": negative_loss,
    "team": team_reward,
}
OF_EACH_LANE = (correct_or_not, negative_loss)
"""Those of them in which a lane's reward does not depend on the other lanes."""


def reward_of(final_reward: FinalReward, outcome: Outcome, playing: Tensor | None = None) -> Tensor:
    """r_final of every lane, float32 [B].

    Args:
        final_reward: from an outcome.
        outcome: of a deal.
        playing: bool [B], the lanes that have not forfeited their route; None: all.

    Raises:
        ValueError: a final reward of your own that is not float [B] and finite.
    """
    reward = final_reward(outcome)
    if final_reward not in FINAL_REWARDS.values():
        reward = own_values("final_reward", reward, outcome.loss.shape, ~outcome.forfeited)
    reward = reward.to(torch.float32)
    if playing is None:
        return reward
    lost = reward[playing].min().clamp_max(FORFEIT) if playing.any() else FORFEIT
    return reward.where(playing, lost)


def refuse_shared_rewards(final_reward: FinalReward, outcome: Outcome) -> None:
    """Refuse a final reward that is not each lane's own.

    Args:
        final_reward: from an outcome.
        outcome: of a deal, for the trial.

    Raises:
        ValueError: the reward of some lanes changes when others fail or succeed.
    """
    if final_reward in OF_EACH_LANE:
        return
    first = torch.arange(len(outcome.task), device=outcome.task.device) < len(outcome.task) // 2
    for others in (first, ~first):  # once they all fail, once they all succeed
        bad = replace(outcome, correct=outcome.correct & ~others, loss=outcome.loss + others)
        good = replace(outcome, correct=outcome.correct | others)
        one, other = (final_reward(which)[~others] for which in (bad, good))
        if not torch.allclose(one, other):
            raise ValueError(
                "the final reward of a lane depends on the other lanes of its deal, as that of 'team' does, so that "
                "routes have no payoffs of their own; use final_reward 'correct' or 'negative_loss'"
            )


@runtime_checkable
class CollaborationReward(Stateful, Protocol):
    """An immediate reward for each decision, by what was chosen before."""

    def reward(self, depth: int, action: Tensor) -> Tensor:
        """The reward float32 [B] of the actions int64 [B] at a depth, by the history so far."""
        ...

    def record(self, depth: int, action: Tensor, probability: Tensor | None) -> None:
        """Add the decisions of some lanes to the history: actions int64 [N], probabilities float32 [N, A] or None."""
        ...


def action_reward_of(collaboration: CollaborationReward, depth: int, action: Tensor) -> Tensor:
    """The immediate reward of actions int64 [N] at a depth, float32 [N].

    Raises:
        ValueError: a collaboration reward of your own that is not float [N] and finite.
    """
    reward = collaboration.reward(depth, action)
    if type(collaboration) is Collaboration:
        return reward
    return own_values("collaboration", reward, action.shape, torch.ones_like(action, dtype=torch.bool)).to(
        torch.float32
    )


def collaboration_reward(average: Tensor, action: Tensor, rho: float) -> Tensor:
    """Rho times the historical average of the action that each lane chose.

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

    There is one running average per (depth, action) over all tasks and samples so far: of the probability that the
    router gave to the action ("probability", the variant that the paper uses), or of how often it was chosen
    ("count"). A deal is rewarded by the history before it. PASS is not a block and earns nothing.

    Args:
        depth: D.
        actions: A.
        rho: weight in [0, 1]; 0 turns the reward off. A sequence gives each depth its own.
        kind: "probability" or "count".
        pass_action: index of PASS, if there is one.
        device: where the game's tensors are.

    Raises:
        ValueError: rho outside [0, 1], a sequence whose length is not D, or an unknown kind.
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
        self._seen = torch.zeros(depth, dtype=torch.int64, device=device)
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
        """Add one decision of some lanes to the history.

        Args:
            depth: of the decision.
            action: int64 [B].
            probability: float32 [B, A]; None where the router does not give any: the action then counts as certain.
        """
        if not self.rho[depth] or not len(action):
            return
        average = self.average[depth]
        if self.kind == "count" or probability is None:
            probability = torch.zeros(len(action), len(average), device=average.device)
            probability.scatter_(1, action[:, None], 1.0)
        self._seen[depth] += len(action)
        average += (probability.detach().sum(0) - len(action) * average) / self._seen[depth]

    def state_dict(self) -> dict[str, Any]:
        """The history."""
        return {"average": self.average.clone(), "seen": self._seen.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`.

        Raises:
            ValueError: The state does not fit. Nothing has changed.
        """
        check_state(state, self.state_dict())
        self.average.copy_(state["average"])
        self._seen.copy_(torch.tensor(state["seen"]))


def by_probability(spec: GameSpec, rho: float | Sequence[float]) -> Collaboration:
    """The paper's collaboration reward: rho times the average historical probability of the block."""
    return Collaboration(
        spec.depth, spec.actions, rho=rho, kind="probability", pass_action=spec.pass_action, device=spec.device
    )


def by_count(spec: GameSpec, rho: float | Sequence[float]) -> Collaboration:
    """Rho times the share of historical decisions that chose the block."""
    return Collaboration(
        spec.depth, spec.actions, rho=rho, kind="count", pass_action=spec.pass_action, device=spec.device
    )


COLLABORATIONS: dict[str, Callable[[GameSpec, float | Sequence[float]], CollaborationReward]] = {
    "probability": by_probability,
    "count": by_count,
}
"""From a game's spec and rho, one number or one for each depth, to its collaboration reward."""
