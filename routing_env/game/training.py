"""How blocks learn. Only here do their parameters change."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from inspect import unwrap
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from routing_env.game.averaging import WeightAverage
from routing_env.game.masked_steps import MaskedSteps
from routing_env.game.own_parts import own_part
from routing_env.game.settings import SettingError, Settings, check
from routing_env.game.unattended import Unattended
from routing_env.names import as_integer, is_number
from routing_env.state_dicts import check_state, like_optimizer, load_optimizer

Loss = Callable[[Tensor, Tensor], Tensor]
"""From output [B, O] and target [B] or [B, O] to a loss float32 [B] per lane."""

OptimizerFactory = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy per lane, for classification."""
    return F.cross_entropy(output, target, reduction="none")


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over the outputs, per lane, for regression."""
    return (output - target).square().mean(1)


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "squared_error": squared_error}


class SGD(torch.optim.SGD):
    """SGD whose bookkeeping does not load torch's compiler, which takes as long to import as torch itself.

    Torch decorates these methods so that the compiler leaves them alone, and loads it at their first call.
    """

    add_param_group = unwrap(torch.optim.SGD.add_param_group)
    state_dict = unwrap(torch.optim.SGD.state_dict)
    load_state_dict = unwrap(torch.optim.SGD.load_state_dict)


class BlockTrainer:
    """One optimiser step per deal on the routes that were taken.

    Parameters of blocks on no route have no gradient and are left bitwise alone, also under momentum, weight decay and
    Adam. The learning rate is divided in regular intervals (paper, section 4: by 10 every 20 epochs).

    Args:
        parameters: of the network.
        optimizer: "sgd", "adam", or a function from the parameters to your own optimiser, which then has its own rates.
        learning_rate: initial learning rate of the named optimisers.
        momentum: of SGD.
        weight_decay: of the named optimisers.
        decay_every: epochs between decays; 0 never decays.
        decay_factor: what the learning rate is multiplied by.
        apart: those of the parameters that :meth:`slow_down` leaves alone, in a parameter group of the named
            optimisers.
        average: of the weights, for evaluation; it moves with every step.

    Attributes:
        samples: training samples dealt so far.
        epoch: passes over the training samples that are complete.

    Raises:
        ValueError: a rate, factor or name out of range, momentum beside Adam, or a function that returns no optimiser
            that can step the parameters.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        optimizer: Literal["sgd", "adam"] | OptimizerFactory = "sgd",
        learning_rate: float = 1e-2,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        decay_every: int = 20,
        decay_factor: float = 0.1,
        apart: Iterable[nn.Parameter] = (),
        average: WeightAverage | None = None,
    ) -> None:
        check({"learning_rate": learning_rate, "momentum": momentum, "weight_decay": weight_decay}, Settings)
        if optimizer == "adam" and momentum:
            raise SettingError(f"momentum is {momentum} beside adam, which has none; leave it out, or use sgd")
        every = as_integer(decay_every)
        if every is None or every < 0 or not is_number(decay_factor, "in (0, 1]"):
            raise ValueError(
                f"decay_every is {decay_every} and decay_factor {decay_factor}; they must be at least 0 and in (0, 1]"
            )
        self._parameters = list(parameters)
        apart = set(apart)
        groups: list[dict[str, Any]] = [{"params": [one for one in self._parameters if one not in apart]}]
        if apart:
            groups.append({"params": [one for one in self._parameters if one in apart]})
        self._own_optimizer = callable(optimizer)
        self._alike = len({(one.dtype, one.device) for one in self._parameters}) == 1
        if callable(optimizer):
            self.optimizer = own_part("optimizer", optimizer(self._parameters), torch.optim.Optimizer)
            if set(self._parameters).isdisjoint(
                one for group in self.optimizer.param_groups for one in group["params"]
            ):
                raise SettingError("the optimizer function left all parameters out; give the list on to the optimiser")
            if isinstance(self.optimizer, torch.optim.LBFGS):
                raise SettingError("LBFGS evaluates a loss several times in a step, which a deal cannot; use another")
        elif optimizer == "sgd":
            self.optimizer = SGD(
                groups,
                lr=learning_rate,
                momentum=momentum,
                weight_decay=weight_decay,
                fused=not momentum,  # fused momentum takes all buffers for new as long as one is
            )
        elif optimizer == "adam":
            self.optimizer = torch.optim.Adam(groups, lr=learning_rate, weight_decay=weight_decay, fused=True)
        else:
            raise ValueError(f"optimizer is {optimizer!r}; it must be 'sgd', 'adam' or a function of the parameters")
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self._average = average
        self._masked: MaskedSteps | None = None
        self._loads = 0
        self.samples = 0
        self.epoch = 0
        self._decay_every = decay_every
        self._decay_factor = decay_factor
        self._pace = 1.0

    def slow_down(self, factor: float) -> None:
        """Multiply the learning rate by a factor from now on, in place of an earlier one (paper, section 6).

        Parameters in ``apart`` keep their rate. The factor is not part of :meth:`state_dict`.

        Args:
            factor: 0 leaves the parameters bitwise as they are, also under momentum and weight decay.

        Raises:
            ValueError: The factor is negative.
        """
        if not factor >= 0:
            raise ValueError(f"the factor of the learning rate is {factor}; it must be at least 0")
        self._pace = factor
        self._set_rates()

    @property
    def captures(self) -> bool:
        """Whether a step can be captured as a CUDA graph: with the named optimisers."""
        return not self._own_optimizer and self._alike

    def prepare_captured(self) -> object:
        """Prepare for steps that are captured, outside of them.

        Returns:
            What such steps hold as Python values: when it changes, they must be captured anew.
        """
        optimizer = self.optimizer
        if self._masked is None and not self._is_plain and isinstance(optimizer, torch.optim.SGD | torch.optim.Adam):
            self._masked = MaskedSteps(optimizer)
        return self._loads, *(group["lr"] for group in optimizer.param_groups)

    @property
    def _is_plain(self) -> bool:
        """Whether a step is p - lr grad for every parameter, and nothing else."""
        plain = isinstance(self.optimizer, torch.optim.SGD) and not self._own_optimizer and self._alike
        return plain and not any(group["momentum"] or group["weight_decay"] for group in self.optimizer.param_groups)

    def step(
        self, loss: Tensor, backward: Callable[[], None] | None = None, *, unattended: Unattended | None = None
    ) -> None:
        """Backpropagate along the routes taken and step their blocks (Algorithm 2, line 3).

        Args:
            loss: float32 [B], of the lanes that train; their mean is minimised.
            backward: gives the parameters their gradients, where these are not those of the mean.
            unattended: where given, the step does not wait for the device: it notes there whether the loss is not
                finite, and reads there which blocks were chosen. It needs :meth:`prepare_captured`.

        Raises:
            FloatingPointError: the loss is not finite; nothing has been changed.
        """
        mean = loss.mean()
        if unattended is not None:
            unattended.diverged.logical_or_(~mean.isfinite())
        elif not torch.isfinite(mean):
            raise self.divergence(mean.item())
        if not mean.requires_grad:
            return
        for parameter in [one for one in self._parameters if one.grad is not None]:
            parameter.grad = None
        if backward is None:
            mean.backward()
        else:
            backward()
        if self._own_optimizer:
            if self._pace > 0:
                self.optimizer.step()
        elif self._is_plain:
            self._descend()
        elif self._masked is not None and unattended is not None:
            self._masked.step(self._moving(), unattended.taking(self._parameters))
        else:
            self._step_what_has_gradients()
        if self._average is not None:
            moved = [one for group in self._moving() for one in group]
            if unattended is None:
                self._average.update(moved)
            else:
                self._average.update_masked(unattended.taking(moved))

    def divergence(self, loss: float) -> FloatingPointError:
        """What to raise for a loss that is not finite."""
        return FloatingPointError(
            f"the loss is {loss}: training has diverged; lower learning_rate (now {self.learning_rate:g}), check the "
            "scale of the data, or let your own loss accept -inf, the output for classes a task lacks"
        )

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the network has the average of its weights, for evaluation; without an average its own weights."""
        return nullcontext() if self._average is None else self._average.applied()

    def _moving(self) -> list[list[nn.Parameter]]:
        """For each parameter group those that this step changes."""
        groups: list[list[nn.Parameter]] = []
        for number, group in enumerate(self.optimizer.param_groups):
            moves = self._pace > 0 or (number > 0 and not self._own_optimizer)
            groups.append([one for one in group["params"] if one.grad is not None] if moves else [])
        return groups

    def _descend(self) -> None:
        """The step of plain SGD, bit for bit, in the one call that torch's optimiser comes to in the end."""
        for group, moving in zip(self.optimizer.param_groups, self._moving(), strict=True):
            if moving:
                gradients = [cast(Tensor, one.grad) for one in moving]
                torch._fused_sgd_(  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
                    cast(list[Tensor], moving),
                    gradients,
                    [],
                    weight_decay=0.0,
                    momentum=0.0,
                    lr=group["lr"],
                    dampening=0.0,
                    nesterov=False,
                    maximize=False,
                    is_first_step=False,
                )

    def _step_what_has_gradients(self) -> None:
        """Step as if there were no other parameters: the optimiser's own work then follows the blocks on the routes."""
        groups, moving = self.optimizer.param_groups, self._moving()
        parameters = [group["params"] for group in groups]
        if self._masked is not None:
            self._masked.has_stepped(moving)
        for group, part in zip(groups, moving, strict=True):
            group["params"] = part
        try:
            self.optimizer.step()
        finally:
            for group, whole in zip(groups, parameters, strict=True):
                group["params"] = whole

    def count(self, samples: int, pass_size: int) -> None:
        """Count the samples of a deal, and move the schedule on with every pass that they complete.

        Args:
            samples: in the deal.
            pass_size: training samples in a pass.
        """
        self.samples += samples
        while self.epoch < self.samples // pass_size:
            self.end_epoch()

    def end_epoch(self) -> None:
        """Move the schedule on by an epoch."""
        self.epoch += 1
        self._set_rates()

    def _set_rates(self) -> None:
        decays = self.epoch // self._decay_every if self._decay_every else 0
        for number, group in enumerate(self.optimizer.param_groups):
            pace = 1.0 if number and not self._own_optimizer else self._pace
            group["lr"] = group["initial_lr"] * self._decay_factor**decays * pace

    @property
    def learning_rate(self) -> float:
        """The current learning rate."""
        return float(self.optimizer.param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        """Optimiser, samples, schedule and, where there is one, the average of the weights."""
        optimizer = deepcopy(self.optimizer.state_dict())
        for number in [] if self._masked is None else self._masked.unstepped():
            optimizer["state"].pop(number, None)
        state = {"optimizer": optimizer, "samples": self.samples, "epoch": self.epoch}
        return state if self._average is None else {**state, "average": self._average.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`.

        Raises:
            ValueError: The state does not fit. Nothing has changed.
        """
        average = {} if self._average is None else {"average": self._average.state_dict()}
        check_state(state, {"optimizer": like_optimizer(self.optimizer), "samples": 0, "epoch": 0, **average})
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        load_optimizer(self.optimizer, deepcopy(dict(state["optimizer"])))
        self._masked, self._loads = None, self._loads + 1
        self.samples, self.epoch = state["samples"], state["epoch"]


@contextmanager
def network_mode(network: nn.Module, *, train: bool) -> Generator[None]:
    """A network in training or evaluation mode, with or without a graph."""
    if network.training != train:
        network.train(train)
    try:
        with torch.set_grad_enabled(train):
            yield
    except ValueError as error:
        if "Expected more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            "batch norm outside the blocks cannot train on a single sample, and this deal has come down to one: "
            "deal more samples at a time, or collect them with block_batch"
        ) from error
    except RuntimeError as error:
        types = {str(one.dtype) for one in network.parameters() if one.is_floating_point()}
        if "type" not in str(error) or not types or "torch.float32" in types:
            raise
        raise ValueError(
            f"the network is of {' and '.join(sorted(types))} and does not take samples of torch.float32; use "
            "network.float()"
        ) from error
