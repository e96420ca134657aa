"""Final rewards that the outcome of a deal does not tell: the game plays the deal's routes again to measure them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from routing_env.data import MultiTaskData
from routing_env.game.rewards import FORFEIT, FinalReward, correct_or_not, negative_loss
from routing_env.state_dicts import check_state, restore_generator
from routing_env.types import Batch, Outcome

Replay = Callable[[Batch], Outcome]
"""The outcome of the deal's routes with B samples of the same tasks, lane by lane, with the present weights and in
evaluation mode. A lane whose route is not legal for its sample has forfeited it."""


class MeasuredReward(ABC):
    """A final reward of training deals that is measured before and after the step of the blocks.

    Subclass it for one of your own; the game builds it as ``Class(data, seed)``.

    Attributes:
        needs_step: whether every deal must be a step of the blocks.
    """

    needs_step: ClassVar[bool] = False

    @abstractmethod
    def __init__(self, data: MultiTaskData, seed: int) -> None:
        """Built with the tasks and the seed of the game."""
        ...

    @abstractmethod
    def begin(self, batch: Batch, replay: Replay) -> Callable[[], Tensor]:
        """Measure before the step.

        Args:
            batch: the samples of the deal.
            replay: plays its routes again.

        Returns:
            What gives r_final, float32 [B], when it is called after the step.
        """
        ...

    @abstractmethod
    def __call__(self, outcome: Outcome) -> Tensor:
        """r_final of deals that train nothing, float32 [B]."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs; by default nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`.

        Raises:
            ValueError: The state does not fit. Nothing has changed.
        """
        check_state(state, self.state_dict())


class ValidationReward(MeasuredReward):
    """What a lane's route does for another sample: one of the same task, drawn from the validation split.

    r_final is +1 where that sample is classified correctly and -1 where it is not; for regression it is the negative
    loss. It is measured before the step of the blocks. Deals that train nothing are rewarded by their own samples.

    Args:
        data: the tasks.
        seed: of the draws.

    Raises:
        ValueError: a task has no validation samples.
    """

    def __init__(self, data: MultiTaskData, seed: int) -> None:
        split = data.validation
        self._data = data
        self._count = torch.bincount(split.task, minlength=data.tasks)
        if not self._count.all():
            task = int((self._count == 0).nonzero()[0])
            raise ValueError(
                f"final_reward is 'validation', but task {data.task_names[task]!r} of {data.name} has no validation "
                "samples; set validation above 0, or use another final reward"
            )
        self._first = self._count.cumsum(0) - self._count
        self._rows = split.task.argsort(stable=True)
        self._generator = torch.Generator(data.device).manual_seed(seed)

    def begin(self, batch: Batch, replay: Replay) -> Callable[[], Tensor]:
        """Measure with one validation sample for each lane."""
        drawn = torch.rand(len(batch), dtype=torch.float64, generator=self._generator, device=batch.task.device)
        place = self._first[batch.task] + (drawn * self._count[batch.task]).long()
        reward = self(replay(self._data.gather(self._data.validation[self._rows[place]])))
        return lambda: reward

    def __call__(self, outcome: Outcome) -> Tensor:
        """+1/-1, or the negative loss."""
        reward = negative_loss(outcome) if outcome.prediction.is_floating_point() else correct_or_not(outcome)
        return reward.where(~outcome.forfeited, FORFEIT)

    def state_dict(self) -> dict[str, Any]:
        """The generator of the draws."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`."""
        super().load_state_dict(state)
        restore_generator(self._generator, state["generator"])


class ImprovementReward(MeasuredReward):
    """By how much the step of the blocks has lowered the loss of the lane's own sample on its route.

    Both losses are measured in evaluation mode. Every deal runs the network twice more for it. Deals that train
    nothing improve nothing: their r_final is 0.
    """

    needs_step = True

    def __init__(self, data: MultiTaskData, seed: int) -> None:
        """Needs neither; they are what every measured reward is given."""

    def begin(self, batch: Batch, replay: Replay) -> Callable[[], Tensor]:
        """Measure the loss before the step, and again after it."""
        before = replay(batch).loss
        return lambda: before - replay(batch).loss

    def __call__(self, outcome: Outcome) -> Tensor:
        """Zeros."""
        return torch.zeros_like(outcome.loss)


def check_together(final_reward: FinalReward, collects: bool, counterfactuals: bool, router_loss: bool) -> None:
    """Refuse what does not go together in a training deal.

    Args:
        final_reward: of the game.
        collects: whether deals are collected before the blocks take a step.
        counterfactuals: whether somebody needs them.
        router_loss: whether the blocks minimise the loss of a router.

    Raises:
        ValueError: two of them exclude each other.
    """
    measured = isinstance(final_reward, MeasuredReward)
    if collects and router_loss:
        raise ValueError("router_loss needs every deal to be a step of the blocks; leave block_batch out")
    if collects and measured and final_reward.needs_step:
        name = type(final_reward).__name__
        raise ValueError(f"{name} needs every deal to be a step of the blocks; leave block_batch out")
    if measured and (counterfactuals or router_loss):
        what = "counterfactuals need" if counterfactuals else "a router's loss on the blocks needs"
        raise ValueError(
            f"{what} a final reward that follows from the outcome of a deal, which {type(final_reward).__name__} does "
            "not; use final_reward 'correct' or 'negative_loss'"
        )


MEASURED_REWARDS: dict[str, type[MeasuredReward]] = {
    "validation": ValidationReward,
    "improvement": ImprovementReward,
}
