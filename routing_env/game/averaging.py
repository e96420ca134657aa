"""An exponential moving average of a network's weights, for evaluation."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from routing_env.game.settings import Settings, check
from routing_env.state_dicts import check_state


class WeightAverage:
    """Moving averages of parameters and of running statistics, as of batch norm (Polyak & Juditsky, SICON 1992).

    In its n-th step, from 0, a parameter's average moves towards the parameter by 1 - min(decay, n / (n + 1)): at first
    it is the mean over all steps so far, and the initial weights have no part in it. Only steps that train a parameter
    count for it; running statistics are averaged in every step.

    Args:
        parameters: The parameters to average.
        statistics: Floating-point buffers to average.
        decay: Decay of the averages, in [0, 1).

    Raises:
        ValueError: ``decay`` is out of range.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], statistics: Iterable[Tensor], decay: float) -> None:
        check({"weight_average": decay}, Settings)
        self._decay = decay
        self._weights: list[Tensor] = [*parameters, *(one for one in statistics if one.is_floating_point())]
        self._averages = [weight.detach().clone() for weight in self._weights]
        self._steps = [0] * len(self._weights)

    @torch.no_grad()
    def update(self, trained: Iterable[nn.Parameter]) -> None:
        """Move the averages after a step that has trained these parameters."""
        these = {id(parameter) for parameter in trained}
        for number, (weight, average) in enumerate(zip(self._weights, self._averages, strict=True)):
            if isinstance(weight, nn.Parameter) and id(weight) not in these:
                continue
            steps = self._steps[number]
            average.lerp_(weight, 1 - min(self._decay, steps / (steps + 1)))
            self._steps[number] = steps + 1

    @contextmanager
    def applied(self) -> Generator[None]:
        """Inside, the network has the averages as its weights."""
        own = [weight.data for weight in self._weights]
        for weight, average in zip(self._weights, self._averages, strict=True):
            weight.data = average
        try:
            yield
        finally:
            for weight, data in zip(self._weights, own, strict=True):
                weight.data = data

    def state_dict(self) -> dict[str, Any]:
        """The averages, and the number of steps of each."""
        return {"averages": [average.clone() for average in self._averages], "steps": list(self._steps)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`.

        Raises:
            ValueError: The state does not fit. Nothing has changed.
        """
        check_state(state, self.state_dict())
        for average, value in zip(self._averages, state["averages"], strict=True):
            average.copy_(value)
        self._steps = list(state["steps"])
