"""What baselines share: the plan they are built from, and fully connected layers for many tasks at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from routing_env.game.blocks import BlockBank
from routing_env.game.dropout import SeededModule, with_dropout
from routing_env.game.evaluation import Score
from routing_env.game.network import RoutedNetwork
from routing_env.game.routed_model import RoutedModel
from routing_env.game.settings import Settings
from routing_env.names import as_integer, require
from routing_env.search_space import SearchSpace
from routing_env.types import Batch


@dataclass(frozen=True)
class Plan:
    """The sizes of the routed network that a baseline is compared with.

    Attributes:
        stem: The unrouted module before the first fully connected layer, from samples to float32 [B, F].
        widths: Widths before, between and after the n fully connected layers; n + 1 numbers.
        tasks: T.
        blocks: K, the number of blocks of the largest routed layer.
        hidden: The usual width between layers, which ``widths`` does not show if there is only one layer.
        parameters: Number of parameters of all routed layers together.
        layer_blocks: Number of blocks of each routed layer; by default ``blocks`` for all of them.
    """

    stem: nn.Module
    widths: tuple[int, ...]
    tasks: int
    blocks: int
    hidden: int
    parameters: int
    layer_blocks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.layer_blocks:
            object.__setattr__(self, "layer_blocks", (self.blocks,) * (len(self.widths) - 1))

    @property
    def depth(self) -> int:
        """Number of fully connected layers, the last one included."""
        return len(self.widths) - 1

    @property
    def has_tower(self) -> bool:
        """Whether there is a last layer for each task after those that tasks share; a single layer is not one."""
        return self.depth > 1

    @property
    def before_tower(self) -> list[tuple[int, int]]:
        """Inputs and outputs of every layer that precedes the tower."""
        return list(pairwise(self.widths[:-1] if self.has_tower else self.widths))

    def resized(self, *, depth: int | None = None, width: int | None = None) -> Plan:
        """The plan with another number of layers, or another width between them.

        Args:
            depth: Number of fully connected layers, the last one included; unchanged by default.
            width: Width between them, and ``hidden``. By default the widths are unchanged, or ``hidden`` where the
                depth changes.

        Raises:
            ValueError: The depth or the width is not an integer of at least 1.
        """
        for name, value in (("depth", depth), ("width", width)):
            require(name, value, value is None or (as_integer(value) or 0) >= 1, "an integer of at least 1")
        depth = self.depth if depth is None else depth
        if width is None and depth == self.depth:
            return self
        hidden = self.hidden if width is None else width
        widths = (self.widths[0], *[hidden] * (depth - 1), self.widths[-1])
        return replace(
            self, widths=widths, hidden=hidden, layer_blocks=self.layer_blocks if depth == self.depth else ()
        )


@dataclass(frozen=True)
class SizeOptions:
    """Options of the size of a baseline, which :func:`routing_env.baselines.make_baseline` takes for all of them."""

    depth: int | None = None
    """Number of fully connected layers, the last one included; by default that of the routed network."""

    width: int | None = None
    """Width between the fully connected layers; by default that of the routed network."""

    equal_parameters: bool = False
    """Take the largest width with at most as many parameters as all routed layers together; excludes width."""


class Baseline(nn.Module, ABC):
    """A multi-task network without a router: the stem of the routed network, and a different head.

    Args:
        plan: The plan of the routed network.

    Attributes:
        usual: Settings of the optimiser that a run of this baseline takes where neither the caller nor the data set
            names an optimiser. Without them it takes those of the routed network.
        sizes: The options of ``SizeOptions`` that have a meaning for this baseline; by default all of them.
        space: What ``routing-env tune`` searches for the options that are worth it, by their names.
        warning: What a person should know before this network is trained; empty if there is nothing.
        captures: Whether training steps of this class, not of subclasses, can be captured as CUDA graphs: they do not
            wait for the device and depend on no Python value that changes.
    """

    usual: ClassVar[Mapping[str, Any]] = {}
    sizes: ClassVar[Sequence[str]] = ("depth", "width", "equal_parameters")
    space: ClassVar[SearchSpace] = {}
    captures: ClassVar[bool] = False
    warning: str = ""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.stem = plan.stem

    def forward(self, x: Tensor, task: Tensor) -> Tensor:
        """Map samples float32 [B, *input shape] of tasks int64 [B] to outputs float32 [B, O]."""
        return self.head(self.stem(x), task)

    @abstractmethod
    def head(self, v: Tensor, task: Tensor) -> Tensor:
        """Map the stem's output float32 [B, F] of tasks int64 [B] to outputs float32 [B, O]."""
        ...

    def training_loss(self, batch: Batch, score: Score) -> tuple[Tensor, Tensor]:
        """What training minimises the mean of, per lane, and whether each lane is answered correctly.

        Args:
            batch: Samples to train on.
            score: From outputs and the batch to predictions, losses and correctness.

        Returns:
            float32 [B] and bool [B].
        """
        _, loss, correct = score(self(batch.x, batch.task), batch)
        return loss, correct

    def backward(self, loss: Tensor, task: Tensor) -> None:
        """Give every parameter its gradient, by default that of the mean loss.

        Args:
            loss: float32 [B], as :meth:`training_loss` returns it.
            task: int64 [B].
        """
        loss.mean().backward()


class ParallelLinear(nn.Module):
    """K linear maps that all apply to every sample, as one batched matrix product.

    Args:
        count: K.
        inputs: Number of inputs of each map.
        outputs: Number of outputs of each map.
    """

    def __init__(self, count: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5  # the initial range of nn.Linear
        self.weight = nn.Parameter(torch.empty(count, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(count, 1, outputs).uniform_(-bound, bound))

    def forward(self, v: Tensor) -> Tensor:
        """Map float32 [B, inputs], the same for every map, or [K, B, inputs] to float32 [K, B, outputs]."""
        return torch.baddbmm(self.bias, v.expand(len(self.weight), -1, -1), self.weight)


class ParallelExperts(nn.ModuleList):
    """K experts that all apply to every sample: each consists of all layers that precede the tower.

    Args:
        plan: The plan of the routed network.
        count: K.
    """

    def __init__(self, plan: Plan, count: int) -> None:
        super().__init__(ParallelLinear(count, *pair) for pair in plan.before_tower)
        self._activated = plan.has_tower

    def forward(self, v: Tensor) -> Tensor:
        """Map float32 [B, F] to float32 [K, B, H]; every layer is followed by ReLU where a tower follows."""
        for layer in self:
            v = layer(v).relu() if self._activated else layer(v)
        return v


class Noise(SeededModule):
    """Standard normal noise."""

    def __init__(self) -> None:
        super().__init__(offset=1)

    def forward(self, like: Tensor) -> Tensor:
        """Noise of the shape of a tensor, on its device."""
        return torch.randn(like.shape, generator=self._generator, dtype=like.dtype, device="cpu").to(like.device)


class PerTask(BlockBank):
    """A bank with a block for each task, called with the tasks of the lanes.

    Where tasks arrive, the parameters of such banks keep their learning rate when that of shared ones is lowered.
    """


def per_task(tasks: int, inputs: int, outputs: int, *, activation: bool = False, bias: bool = True) -> PerTask:
    """A linear map for each task, followed by ReLU if ``activation`` is set; call it with the tasks of the lanes."""

    def block() -> nn.Module:
        linear = nn.Linear(inputs, outputs, bias=bias)
        return nn.Sequential(linear, nn.ReLU()) if activation else linear

    return PerTask([block() for _ in range(tasks)], (inputs,))


def towers(plan: Plan) -> PerTask | None:
    """The last layer for each task; None where there is only one layer."""
    return per_task(plan.tasks, *plan.widths[-2:]) if plan.has_tower else None


def fully_connected(widths: Sequence[int]) -> nn.Sequential:
    """Fully connected layers, each followed by ReLU; n + 1 widths make n layers."""
    layers = nn.Sequential()
    for inputs, outputs in pairwise(widths):
        layers += nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU())
    return layers


def count_parameters(module: nn.Module) -> int:
    """Number of parameters of a module; those that several of its parts share count once."""
    return sum(parameter.numel() for parameter in module.parameters())


def equal_width(plan: Plan, build: Callable[[Plan], nn.Module]) -> int | None:
    """The largest width at which a network has at most ``plan.parameters`` parameters besides the plan's stem.

    The network is built on the meta device, which takes no memory and draws no random numbers.

    Args:
        plan: The plan of the routed network.
        build: From a plan to the network.

    Returns:
        The width, at least 1, or None if the number of parameters does not depend on the width.
    """
    stem = deepcopy(plan.stem).to("meta")
    plan = replace(plan, stem=stem)

    def size(width: int) -> int:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            return count_parameters(build(plan.resized(width=width))) - count_parameters(stem)

    if size(1) == size(2):
        return None
    above = 2
    while size(above) <= plan.parameters:
        above *= 2
    fits = above // 2
    while above - fits > 1:
        middle = (fits + above) // 2
        fits, above = (middle, above) if size(middle) <= plan.parameters else (fits, middle)
    return fits


def plan_beside(network: RoutedModel, tasks: int, settings: Settings) -> Plan:
    """The plan of a baseline beside a routed network, whose stem it takes over.

    Where the stem does not return vectors, as in front of routed convolutions, its output is flattened, and drops the
    share of its features that the routed layers drop after it.

    Raises:
        ValueError: The network does not consist of a stem and layers.
    """
    if not isinstance(network, RoutedNetwork):
        raise ValueError(
            f"baselines take over stem and layers of a RoutedNetwork; {type(network).__name__} has none: choose "
            "another network, or compare with the routers fixed, random and all-shared"
        )
    banks = [network.bank(layer) for layer in range(len(network.banks))]
    stem = network.stem
    if len(banks[0].in_shape) != 1:
        stem = with_dropout(nn.Sequential(stem, nn.Flatten()), settings.dropout)
    return Plan(
        stem=stem,
        widths=(prod(banks[0].in_shape), *(prod(bank.out_shape) for bank in banks)),
        tasks=tasks,
        blocks=max(map(len, banks)),
        hidden=settings.hidden,
        parameters=sum(map(count_parameters, banks)),
        layer_blocks=tuple(map(len, banks)),
    )
