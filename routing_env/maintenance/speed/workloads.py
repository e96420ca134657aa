"""The games to time: the shapes of CIFAR-MTL with noise for pixels, so that nothing has to be downloaded.

Routes are drawn in advance, so that the time of a game does not include the time of a router.
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
from routing_env.game.build import make_game
from routing_env.game.routing_game import RoutingGame
from routing_env.maintenance.speed.plain import ordinary_step, plain_network
from routing_env.torch_settings import find_device
from routing_env.types import Decision, Policy

ROUTES = 32
"""Number of deals whose routes are drawn in advance; after that they repeat."""

LEARNING_RATE = 0.01


@dataclass(frozen=True)
class Workload:
    """What to measure, and where; the defaults are those of CIFAR-MTL.

    Attributes:
        device: Device of the games.
        threads: CPU threads.
        image: Shape of a sample.
        hidden: Width between layers, and of a sample without convolutions.
        classes: Classes of each task.
        tasks: T, unless the number of tasks varies.
        blocks: K of each layer, unless the number of blocks varies.
        batch: Samples per deal, unless the batch size varies.
        batches: Batch sizes where they vary.
        counts: Numbers of blocks or tasks where they vary.
        samples: Training samples; the test split has a fifth of that.
        epochs: Length of a long run to time as a whole; 0 leaves it out.
        convolutional: Whether the network starts with convolutions.
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
        """Whether the games run on a CUDA device."""
        return torch.device(self.device).type == "cuda"

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the games."""
        return {
            "network": "simple_convnet" if self.convolutional else "mlp",
            "hidden": self.hidden,
            "layers": 3,
            "blocks": self.blocks,
            "learning_rate": LEARNING_RATE,
            "device": self.device,
        }

    def data(self) -> MultiTaskData:
        """Make noise with random labels: uint8 images, or float32 vectors without convolutions."""
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
        """Make a game whose deals all have ``batch`` samples."""
        return make_game(data=data or self.data(), batch_size=self.batch, dealer="endless", **self.settings)

    def routed_step(self, data: MultiTaskData | None = None, *, among: int | None = None) -> Callable[[], None]:
        """Make a training step of a game: one whole deal along random routes, from reset to the optimiser's step."""
        return deal_step(self.game(data), self.batch, among)

    def plain_step(self, data: MultiTaskData) -> Callable[[], None]:
        """Make the ordinary training step of the plain network on the same deals as the game's."""
        single = replace(self, blocks=1).game(data)
        network = plain_network(single.network)
        return ordinary_step(network, lambda batch: network(batch.x), single.dealer, learning_rate=LEARNING_RATE)


def workload_on(device: str, threads: int, *, quick: bool) -> Workload:
    """The workload of the command line: smaller if ``quick``, and of CIFAR-MTL's full size on a CUDA device.

    Raises:
        ValueError: The device is not available, or ``threads`` is less than 1.
    """
    if threads < 1:
        raise ValueError(f"threads is {threads}; it must be at least 1")
    workload = Workload(device=str(find_device(device)), threads=threads)
    if quick:
        return replace(workload, samples=2000, counts=(2, 20, 500))
    return replace(workload, samples=50_000, epochs=100) if workload.on_cuda else workload


def deal_step(game: RoutingGame, lanes: int, among: int | None = None) -> Callable[[], None]:
    """Make a step that routes and trains one deal along random routes.

    Args:
        game: The game.
        lanes: Samples per deal.
        among: Use only the first ``among`` blocks of each layer; None uses all of them.
    """
    routes = cycle(random_routes(game, lanes, among))

    def step() -> None:
        game.reset()
        for action in next(routes):
            game.step(Decision(action))

    return step


def random_routes(game: RoutingGame, lanes: int, among: int | None = None) -> tuple[Tensor, ...]:
    """Draw actions int64 [D, lanes] for ``ROUTES`` deals, uniformly among the first ``among`` actions (None: all)."""
    spec = game.spec
    generator = torch.Generator().manual_seed(1)
    shape = (ROUTES, spec.depth, lanes)
    return torch.randint(among or spec.actions, shape, generator=generator).to(spec.device).unbind()


def random_policy(game: RoutingGame, batch_size: int) -> Policy:
    """Make a policy that replays precomputed random actions, for timing a pass over a split."""
    actions = random_routes(game, batch_size)[0]
    return lambda state: actions[state.depth, : len(state.task)]
