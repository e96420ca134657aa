"""Steps of torch's SGD and Adam in which a mask on the device says which parameters take part.

A plain step sees the parameters that have a gradient. A step that nobody waits for cannot know which blocks were
chosen: all of them have gradients, of zeros where nobody chose them, and momentum, weight decay and Adam would move
them all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn


class MaskedSteps:
    """Steps of an optimiser that leave parameters and their state bitwise alone where a mask says so.

    They are calls of torch's own fused kernels, one for each block: a kernel does nothing where its ``found_inf``, made
    for mixed precision, is 1. All state must be there beforehand. It begins with the zeros that a first step would
    begin with.

    Args:
        optimizer: The optimiser, with the options that a trainer sets and no others.
    """

    def __init__(self, optimizer: torch.optim.SGD | torch.optim.Adam) -> None:
        self._optimizer = optimizer
        self._parameters: list[nn.Parameter] = [one for group in optimizer.param_groups for one in group["params"]]
        has_state = [one in optimizer.state for one in self._parameters]
        self._stepped = torch.tensor(has_state, device=self._parameters[0].device)
        for group in optimizer.param_groups:
            for one in group["params"]:
                if one not in optimizer.state and (first := self._first_state(group, one)):
                    optimizer.state[one] = first

    def step(self, moving: Sequence[Sequence[nn.Parameter]], taking: Mapping[nn.Parameter, Tensor]) -> None:
        """Take a step.

        Args:
            moving: Of each parameter group those that have a gradient and a learning rate.
            taking: Whether a parameter takes part, bool []; those that share a tensor are stepped by one call.
        """
        these, never = {one for group in moving for one in group}, torch.zeros_like(self._stepped[0])
        takes = torch.stack([taking[one] if one in these else never for one in self._parameters])
        self._stepped.logical_or_(takes)
        counts, skips = (dict(zip(self._parameters, part.float().unbind(), strict=True)) for part in (takes, ~takes))
        for group, parameters in zip(self._optimizer.param_groups, moving, strict=True):
            if parameters and "betas" in group:
                steps = [self._optimizer.state[one]["step"] for one in parameters]
                torch._foreach_add_(steps, [counts[one] for one in parameters])  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
            together: dict[int, list[nn.Parameter]] = {}
            for one in parameters:
                together.setdefault(id(taking[one]), []).append(one)
            for members in together.values():
                self._step_unless(skips[members[0]], group, members)

    def has_stepped(self, moved: Sequence[Sequence[nn.Parameter]]) -> None:
        """Take note of a step of the optimiser itself."""
        these = {one for group in moved for one in group}
        self._stepped |= torch.tensor([one in these for one in self._parameters], device=self._stepped.device)

    def unstepped(self) -> list[int]:
        """The parameters that no step has moved yet, by their numbers in the optimiser's ``state_dict``."""
        return [number for number, stepped in enumerate(self._stepped.tolist()) if not stepped]

    def _first_state(self, group: Mapping[str, Any], parameter: nn.Parameter) -> dict[str, Tensor]:
        if "betas" in group:
            moments = {name: torch.zeros_like(parameter.data) for name in ("exp_avg", "exp_avg_sq")}
            return {"step": torch.zeros((), device=parameter.device), **moments}
        return {"momentum_buffer": torch.zeros_like(parameter.data)} if group["momentum"] else {}

    def _step_unless(self, skip: Tensor, group: Mapping[str, Any], members: list[nn.Parameter]) -> None:
        """Step parameters of a group, unless ``skip``, float32 [], is 1."""
        parameters, gradients = cast(list[Tensor], members), [cast(Tensor, one.grad) for one in members]
        rows = [self._optimizer.state[one] for one in members if one in self._optimizer.state]
        options: dict[str, Any] = {name: group[name] for name in ("lr", "weight_decay", "maximize")}
        if "betas" in group:
            torch._fused_adam_(  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
                parameters,
                gradients,
                [row["exp_avg"] for row in rows],
                [row["exp_avg_sq"] for row in rows],
                [],
                [row["step"] for row in rows],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                eps=group["eps"],
                amsgrad=False,
                found_inf=skip,
                **options,
            )
        else:
            torch._fused_sgd_(  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
                parameters,
                gradients,
                [row["momentum_buffer"] for row in rows],
                momentum=group["momentum"],
                dampening=0.0,
                nesterov=False,
                is_first_step=False,
                found_inf=skip,
                **options,
            )
