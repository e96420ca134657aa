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
        self._steps = torch.zeros(len(self._weights), dtype=torch.int64, device=self._weights[0].device)

    @torch.no_grad()
    def update(self, trained: Iterable[nn.Parameter]) -> None:
        """Move the averages after a step that has trained these parameters."""
        these = {id(parameter) for parameter in trained}
        moving = [not isinstance(weight, nn.Parameter) or id(weight) in these for weight in self._weights]
        for weight, average, moves, steps in zip(
            self._weights, self._averages, moving, self._steps.tolist(), strict=True
        ):
            if moves:
                average.lerp_(weight, 1 - min(self._decay, steps / (steps + 1)))
        self._steps += torch.tensor(moving, device=self._steps.device)

    @torch.no_grad()
    def update_masked(self, taking: Mapping[nn.Parameter, Tensor]) -> None:
        """Move the averages after a step in which these parameters took part where bool [] says so, without waiting."""
        never, always = torch.zeros_like(self._steps[0]).bool(), torch.ones_like(self._steps[0]).bool()
        moving = torch.stack(
            [taking.get(weight, never) if isinstance(weight, nn.Parameter) else always for weight in self._weights]
        )
        steps = self._steps.double()
        shares = (1 - (steps / (steps + 1)).clamp_max(self._decay)) * moving
        for weight, average, share in zip(self._weights, self._averages, shares.unbind(), strict=True):
            average.lerp_(weight, share.to(average.dtype))
        self._steps += moving

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
        return {"averages": [average.clone() for average in self._averages], "steps": self._steps.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`.

        Raises:
            ValueError: The state does not fit. Nothing has changed.
        """
        check_state(state, self.state_dict())
        for average, value in zip(self._averages, state["averages"], strict=True):
            average.copy_(value)
        self._steps.copy_(torch.tensor(state["steps"]))
