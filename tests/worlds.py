"""Random little networks and data for the tests, and what they come to without a routing game."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from routing_env.data import MultiTaskData, ShuffledPass, Split, make_data
from routing_env.game.network import RoutedNetwork
from routing_env.game.rewards import Collaboration
from routing_env.game.routed_model import RoutedModel
from routing_env.game.routing_game import RoutingGame
from routing_env.game.training import BlockTrainer, Loss
from routing_env.types import Batch, Decision, State, Trace

Block = tuple[int, int]
"""Layer, and number of the block within it."""

_KINDS = ("linear", "activated", "deep", "mixed")


def make_block(kind: str, inputs: int, outputs: int, number: int) -> nn.Module:
    """A block of one of the kinds: two that the grouped path serves, and two that it does not."""
    linear = nn.Linear(inputs, outputs)
    if kind == "linear" or (kind == "mixed" and number % 2):
        return linear
    if kind == "activated":
        return nn.Sequential(linear, nn.Tanh())
    return nn.Sequential(nn.Linear(inputs, 3), nn.Tanh(), nn.Linear(3, outputs))


@dataclass(frozen=True)
class Blueprint:
    """A network in words.

    Attributes:
        widths: in front of, between and behind the layers.
        counts: blocks per layer.
        depth: decisions per sample.
        kind: of the blocks.
    """

    widths: tuple[int, ...]
    counts: tuple[int, ...]
    depth: int
    recursive: bool = False
    pass_action: bool = False
    kind: str = "linear"

    @property
    def actions(self) -> int:
        """Actions there are."""
        return (sum(self.counts) if self.recursive else max(self.counts)) + self.pass_action

    def is_pass(self, action: int) -> bool:
        """Whether the action is PASS."""
        return self.pass_action and action == self.actions - 1

    def block(self, depth: int, action: int) -> Block | None:
        """The block that an action names at a depth, if there is one; widths are not looked at."""
        layers = range(len(self.counts)) if self.recursive else [depth]
        named = [(layer, number) for layer in layers for number in range(self.counts[layer])]
        return named[action] if action < len(named) else None

    @cached_property
    def routes(self) -> tuple[tuple[int, ...], ...]:
        """Every sequence of actions that ends behind the last layer, by trying them all."""
        return tuple(self._complete((), self.widths[0]))

    def _complete(self, route: tuple[int, ...], width: int) -> Iterator[tuple[int, ...]]:
        depth, last = len(route), len(self.counts) - 1
        if depth == self.depth:
            yield route
            return
        for action in range(self.actions):
            if self.is_pass(action):
                if depth < self.depth - 1:
                    yield from self._complete((*route, action), width)
                continue
            block = self.block(depth, action)
            if block is None or self.widths[block[0]] != width:
                continue
            if not self.recursive or (block[0] == last) == (depth == self.depth - 1):
                yield from self._complete((*route, action), self.widths[block[0] + 1])

    def modules(self, seed: int = 0) -> list[list[nn.Module]]:
        """The blocks, layer by layer."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return [
                [make_block(self.kind, self.widths[layer], self.widths[layer + 1], number) for number in range(count)]
                for layer, count in enumerate(self.counts)
            ]

    def network(self, seed: int = 0, stem: nn.Module | None = None) -> RoutedNetwork:
        """The network itself."""
        return RoutedNetwork(
            stem or nn.Identity(),
            self.modules(seed),
            (self.widths[0],),
            recursive=self.recursive,
            pass_action=self.pass_action,
            depth=self.depth,
        )

    def compose(self, network: RoutedNetwork, v: Tensor, routes: Sequence[Sequence[int]]) -> list[list[Tensor]]:
        """For every lane its representation before each decision and at the end, one block after the other."""
        lanes: list[list[Tensor]] = []
        for lane, route in enumerate(routes):
            history = [v[lane : lane + 1]]
            for depth, action in enumerate(route):
                block = None if self.is_pass(action) else self.block(depth, action)
                module = nn.Identity() if block is None else network.bank(block[0]).blocks[block[1]]
                history.append(module(history[-1]))
            lanes.append(history)
        return lanes

    def output(self, network: RoutedNetwork, v: Tensor, routes: Sequence[Sequence[int]]) -> Tensor:
        """What the plain composition of the chosen blocks gives, [B, O]."""
        return torch.cat([history[-1] for history in self.compose(network, v, routes)])


@st.composite
def blueprints(draw: st.DrawFn, *, outputs: int | None = None) -> Blueprint:
    """Layered and recursive networks with and without PASS; some of them have no route at all."""
    layers = draw(st.integers(1, 3))
    recursive, pass_action = draw(st.booleans()), draw(st.booleans())
    widths = draw(st.lists(st.integers(2, 4), min_size=layers + 1, max_size=layers + 1))
    if draw(st.booleans()):  # equal widths inside, so that blocks can be repeated
        widths[1:-1] = widths[:1] * (layers - 1)
    if outputs is not None:
        widths[-1] = outputs
    counts = draw(st.lists(st.integers(1, 3), min_size=layers, max_size=layers))
    depth = draw(st.integers(1, 4)) if recursive else layers
    return Blueprint(tuple(widths), tuple(counts), depth, recursive, pass_action, draw(st.sampled_from(_KINDS)))


def playable(*, outputs: int | None = None) -> st.SearchStrategy[Blueprint]:
    """Blueprints with at least one route."""
    return blueprints(outputs=outputs).filter(lambda blueprint: len(blueprint.routes) > 0)


def legal_routes(blueprint: Blueprint, lanes: int) -> st.SearchStrategy[list[tuple[int, ...]]]:
    """A legal route for every lane."""
    return st.lists(st.sampled_from(blueprint.routes), min_size=lanes, max_size=lanes)


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Normally distributed float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def little_data(
    features: int = 3,
    classes: Sequence[int] = (2, 2, 2),
    *,
    per_task: int = 12,
    validation: float = 0.25,
    regression: int | None = None,
    seed: int = 0,
) -> MultiTaskData:
    """Tasks with separate inputs; the class follows from the input, so that there is something to learn.

    Args:
        features: of an input.
        classes: of each task.
        per_task: training samples of each task; half as many test it.
        validation: share of them that validates.
        regression: width of the target in place of classes.
        seed: of everything.
    """
    tasks = len(classes)
    task = torch.arange(tasks).repeat_interleave(per_task + per_task // 2)
    inputs = noise(len(task), features, seed=seed).float()
    if regression is None:
        target = (inputs[:, 0] * 100).long() % torch.tensor(classes)[task]
    else:
        target = torch.stack([inputs.sum(1) * (n + 1) for n in range(regression)], dim=1)
    rows = torch.arange(len(task))
    tests = rows % (per_task + per_task // 2) >= per_task
    return make_data(
        "little",
        inputs,
        Split(rows[~tests], task[~tests], target[~tests]),
        Split(rows[tests], task[tests], target[tests]),
        [f"task {number}" for number in range(tasks)],
        None if regression else list(classes),
        validation=validation,
        seed=seed,
    )


def bits(tensors: dict[str, Tensor]) -> dict[str, bytes]:
    """A copy for a bitwise comparison."""
    return {name: tensor.detach().numpy().tobytes() for name, tensor in tensors.items()}


def layered(network: RoutedModel) -> RoutedNetwork:
    """A game's network, where it consists of layers."""
    assert isinstance(network, RoutedNetwork)
    return network


def little_game(
    network: RoutedNetwork,
    data: MultiTaskData,
    *,
    batch_size: int = 5,
    rho: float = 0.0,
    seed: int = 0,
    trainer: BlockTrainer | None = None,
    loss: Loss | None = None,
    block_batch: int | None = None,
) -> RoutingGame:
    """A game over a given network and data; by default trained by SGD with step 0.1."""
    return RoutingGame(
        data,
        network,
        trainer or BlockTrainer(network.parameters(), learning_rate=0.1),
        ShuffledPass(data, batch_size, seed),
        Collaboration(network.depth, network.actions, rho=rho, pass_action=network.pass_action),
        loss=loss,
        block_batch=block_batch,
    )


def play(
    game: RoutingGame, routes: Sequence[Sequence[int]] | Tensor, batch: Batch | None = None, *, train: bool = True
) -> Trace:
    """Route one deal; lane b takes row b of the routes, from the start again where there are more lanes than rows."""
    state: State | None = game.reset(batch, train=train)
    taken = torch.as_tensor(routes)
    taken = taken[torch.arange(len(state.task)) % len(taken)]
    while state is not None:
        state = game.step(Decision(taken[:, state.depth]))
    return game.trace


def snapshot(game: RoutingGame) -> dict[str, Any]:
    """Everything that training may change, to be compared with ``==``."""
    return bits(game.network.state_dict()) | {
        "trainer": repr(game.trainer.state_dict()),
        "collaboration": repr(game.collaboration.state_dict()),
        "samples": game.samples,
    }
