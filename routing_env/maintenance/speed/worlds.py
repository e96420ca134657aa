"""Games to be timed: shapes of CIFAR-MTL and noise for pixels, so that nothing has to be downloaded.

Routes are drawn beforehand, so that no router's time is in a game's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

import torch
from torch import Tensor

from routing_env.data import MultiTaskData
from routing_env.data.base import Split, make_data
from routing_env.game.build import find_device, make_game
from routing_env.game.routing_game import RoutingGame
from routing_env.maintenance.speed.plain import ordinary_step, plain_network
from routing_env.types import Decision, Policy

ROUTES = 32
"""Deals whose routes are drawn beforehand; then they come again."""


LEARNING_RATE = 0.01


@dataclass(frozen=True)
class World:
    """What is measured, and where; the defaults are CIFAR-MTL's.

    Attributes:
        device: of the games.
        threads: of the CPU.
        image: shape of a sample.
        hidden: width of a sample for the fully connected part alone, and between layers.
        classes: of each task.
        tasks: T, where it is not what varies.
        blocks: K of each layer, where it is not what varies.
        batch: samples of a deal, where they are not what varies.
        batches: where they are.
        counts: of blocks or tasks, where these vary.
        samples: for training; a fifth of it tests.
        epochs: of a long run to be timed as a whole; 0 leaves it out.
        convolutional: whether the network has its convolutions.
    """

    device: str = "cpu"
    threads: int = 1
    image: tuple[int, ...] = (3, 32, 32)
    hidden: int = 128
    classes: int = 5
    tasks: int = 20
    blocks: int = 20
    batch: int = 64
    batches: tuple[int, ...] = (10, 64, 256)
    counts: tuple[int, ...] = (2, 5, 20, 100, 500)
    samples: int = 10_000
    epochs: int = 0
    convolutional: bool = True

    @property
    def on_cuda(self) -> bool:
        """Whether its games run on a CUDA device."""
        return torch.device(self.device).type == "cuda"

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of its games."""
        return {
            "network": "simple_convnet" if self.convolutional else "mlp",
            "hidden": self.hidden,
            "layers": 3,
            "blocks": self.blocks,
            "learning_rate": LEARNING_RATE,
            "device": self.device,
        }

    def data(self) -> MultiTaskData:
        """Noise with random labels: uint8 images, or float32 vectors where there are no convolutions."""
        generator = torch.Generator().manual_seed(0)
        tests = max(self.samples // 5, self.tasks)
        count = self.samples + tests
        if self.convolutional:
            inputs = torch.randint(256, (count, *self.image), dtype=torch.uint8, generator=generator)
        else:
            inputs = torch.randn(count, self.hidden, generator=generator)
        target = torch.randint(self.classes, (count,), generator=generator)
        rows = torch.arange(count)
        train, test = (Split(part, part % self.tasks, target[part]) for part in rows.split([self.samples, tests]))
        names = [f"task {task}" for task in range(self.tasks)]
        return make_data("noise", inputs, train, test, names, [self.classes] * self.tasks, validation=0)

    def game(self, data: MultiTaskData | None = None) -> RoutingGame:
        """A game whose deals all have ``batch`` samples."""
        return make_game(data=data or self.data(), batch_size=self.batch, dealer="endless", **self.settings)

    def routed_step(self, data: MultiTaskData | None = None, *, among: int | None = None) -> Callable[[], None]:
        """A training step of a game: a whole deal, from reset to the optimiser's step, along random routes."""
        return deal_step(self.game(data), self.batch, among)

    def plain_step(self, data: MultiTaskData) -> Callable[[], None]:
        """The ordinary training step of the plain network on the deals that the game gets."""
        single = replace(self, blocks=1).game(data)
        network = plain_network(single.network)
        return ordinary_step(network, lambda batch: network(batch.x), single.dealer, learning_rate=LEARNING_RATE)


def world_on(device: str, threads: int, *, quick: bool) -> World:
    """What ``routing-env speed`` measures: less when it must be quick, all of CIFAR-MTL on a CUDA device.

    Raises:
        ValueError: the device is not available, or fewer than one thread.
    """
    if threads < 1:
        raise ValueError(f"threads is {threads}; it must be at least 1")
    world = World(device=str(find_device(device)), threads=threads)
    if quick:
        return replace(world, samples=2000, counts=(2, 20, 500))
    return replace(world, samples=50_000, epochs=100) if world.on_cuda else world


def deal_step(game: RoutingGame, lanes: int, among: int | None = None) -> Callable[[], None]:
    """Route and train one deal along random routes, through the first so many blocks of each layer or all."""
    routes = cycle(random_routes(game, lanes, among))

    def step() -> None:
        game.reset()
        for action in next(routes):
            game.step(Decision(action))

    return step


def random_routes(game: RoutingGame, lanes: int, among: int | None = None) -> tuple[Tensor, ...]:
    """Actions int64 [D, lanes] for some deals, drawn beforehand, uniformly for each lane from the first so many."""
    spec = game.spec
    generator = torch.Generator().manual_seed(1)
    shape = (ROUTES, spec.depth, lanes)
    return torch.randint(among or spec.actions, shape, generator=generator).to(spec.device).unbind()


def random_policy(game: RoutingGame, batch_size: int) -> Policy:
    """A policy for a pass over a split that takes no time."""
    actions = random_routes(game, batch_size)[0]
    return lambda state: actions[state.depth, : len(state.task)]
