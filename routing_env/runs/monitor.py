"""What a run records of its training deals: accuracy, loss, and how the policy moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import nan
from typing import Any

import torch
from torch import Tensor

from routing_env.state_dicts import AnyLength, check_state
from routing_env.types import Decision, GameSpec, State, Trace

Probability = Callable[[State], Tensor | None]
"""From a state to the policy float32 [B, A] that actions are drawn from; None where it has no distribution."""


class Monitor:
    """An observer of a game.

    The policy of task t at depth i is the mean of the probabilities that the router gave for its lanes in the latest
    deal with that task. Where a decision comes without probabilities and ``probability`` does not know them either, the
    policy is NaN: the actions of one deal do not tell it. Snapshots become rarer as the run goes on, since policies
    move most at the beginning. Lanes that forfeited their route say nothing about policy and loss, because the game has
    replaced their actions; they count as not correct.

    Args:
        spec: Specification of the game.
        every: Training samples between the first snapshots of the policy; later snapshots are taken after 2 % more
            samples each.
        probability: Reads the policy where decisions come without probabilities, for loops that play through a shell.

    Attributes:
        probability: As given.
        policy: float32 [T, D, A], the latest; NaN where it is not known.
        snapshots: earlier policies, each float32 [T, D, A].
        snapshot_samples: samples dealt at each snapshot.
    """

    def __init__(self, spec: GameSpec, every: int, probability: Probability | None = None) -> None:
        self.policy = (spec.legal / spec.legal.sum(1, keepdim=True)).repeat(spec.tasks, 1, 1)
        self.snapshots: list[Tensor] = []
        self.snapshot_samples: list[int] = []
        self._every = max(1, every)
        self.probability = probability
        self._samples = 0
        self._clear()

    def __call__(self, trace: Trace) -> None:
        """Record one deal."""
        if not self._samples:
            self._keep()
        outcome, task = trace.outcome, trace.task
        played = (~outcome.forfeited).to(self.policy.dtype)
        given = [self._policy_of(*pair) for pair in zip(trace.states, trace.decisions, strict=True)]
        lanes = played.new_zeros(len(self.policy)).index_add_(0, task, played).view(-1, 1, 1)
        counted = torch.stack(given, dim=1) * played.view(-1, 1, 1)
        total = torch.zeros_like(self.policy).index_add_(0, task, counted)
        self.policy = torch.where(lanes > 0, total / lanes, self.policy)
        self._correct += outcome.correct.sum()
        self._loss += (outcome.loss.nan_to_num() * played).sum()
        self._played += played.sum()
        self._judged += 0 if outcome.prediction.is_floating_point() else len(task)
        self._samples += len(task)
        last = self.snapshot_samples[-1]
        if self._samples >= max(last + self._every, 1.02 * last):
            self._keep()

    def entropy(self) -> float:
        """Mean over tasks and depths of the policy's entropy, in nats; NaN where the policy is not known."""
        return float(torch.special.entr(self.policy).sum(-1).mean())

    def drain(self) -> dict[str, float]:
        """Accuracy and loss of the training deals since the last call, as routed while exploring.

        NaN where there is none: the accuracy of regression, and both where nothing was dealt.
        """
        judged, played = self._judged or nan, float(self._played) or nan
        means = {"train_accuracy": float(self._correct) / judged, "train_loss": float(self._loss) / played}
        self._clear()
        return means

    def history(self) -> tuple[Tensor, Tensor]:
        """Samples int64 [N] and policies float32 [N, T, D, A] of all snapshots."""
        return torch.tensor(self.snapshot_samples), torch.stack(self.snapshots)

    def state_dict(self) -> dict[str, Any]:
        """Policy and snapshots; call it right after :meth:`drain`."""
        return {
            "policy": self.policy,
            "snapshots": torch.stack(self.snapshots) if self.snapshots else self.policy.cpu()[None][:0],
            "snapshot_samples": list(self.snapshot_samples),
            "samples": self._samples,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`.

        Raises:
            ValueError: The state does not fit. Nothing has changed.
        """
        own = self.state_dict()
        check_state(state, {**own, "snapshots": AnyLength(own["snapshots"]), "snapshot_samples": AnyLength([0])})
        if len(state["snapshots"]) != len(state["snapshot_samples"]):
            raise ValueError(f"{len(state['snapshots'])} snapshots at {len(state['snapshot_samples'])} times")
        self.policy = state["policy"].to(self.policy.device)
        self.snapshots = list(state["snapshots"])
        self.snapshot_samples = list(state["snapshot_samples"])
        self._samples = state["samples"]

    def _policy_of(self, state: State, decision: Decision) -> Tensor:
        """The policy that a decision was drawn from, float32 [B, A]; NaN where it is not known."""
        policy = decision.probability
        if policy is None and self.probability is not None:
            policy = self.probability(state)
        return (
            torch.full_like(state.legal, torch.nan, dtype=self.policy.dtype)
            if policy is None
            else policy.detach().to(self.policy)
        )

    def _keep(self) -> None:
        self.snapshots.append(self.policy.cpu().clone())
        self.snapshot_samples.append(self._samples)

    def _clear(self) -> None:
        self._correct = torch.zeros((), dtype=torch.int64, device=self.policy.device)
        self._loss = torch.zeros((), device=self.policy.device)
        self._played = torch.zeros((), device=self.policy.device)
        self._judged = 0
