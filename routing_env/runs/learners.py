"""What a run trains: a router with its game, or a baseline network. To the loop they look the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from math import nan, prod
from typing import Any, Protocol

import torch
from torch import Tensor

from routing_env.agents import ROUTERS, make_router
from routing_env.baselines import BASELINES, Baseline, Plan, make_baseline
from routing_env.game.build import find_device, make_game, make_network, make_trainer
from routing_env.data import MultiTaskData, ShuffledPass, SplitName
from routing_env.game.evaluation import Score, evaluate
from routing_env.runs.settings import SB3_PREFIX, RunConfig, parse_options
from routing_env.runs.monitor import Recorder
from routing_env.game.routing_game import RoutingGame
from routing_env.names import import_object, look_up
from routing_env.game.network import RoutedNetwork
from routing_env.types import Batch, Evaluation, Router, State, Trace

FINEST_SNAPSHOTS = 2000
"""The first snapshots of the policy are this share of a run apart."""

Tick = Callable[[], None]
"""Called after every deal."""


class Learner(Protocol):
    """A network on its way through the training samples.

    Attributes:
        data: the tasks.
    """

    data: MultiTaskData

    @property
    def samples(self) -> int:
        """Training samples dealt so far."""
        ...

    @property
    def pass_size(self) -> int:
        """Samples that make an epoch."""
        ...

    def play(self, samples: int, tick: Tick) -> None:
        """Train until so many more samples have been dealt."""
        ...

    def evaluate(self, split: SplitName) -> Evaluation:
        """Measure a split without training."""
        ...

    def measures(self) -> dict[str, float]:
        """What training came to since the last call."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs; call it right after :meth:`measures`."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        ...


class RoutedLearner:
    """A routing game, its router, and what is recorded of them.

    Args:
        config: with nothing left open.
        data: the tasks.
    """

    def __init__(self, config: RunConfig, data: MultiTaskData) -> None:
        self.game: RoutingGame
        self.router: Router
        if config.router.startswith(SB3_PREFIX):
            self.game = make_game(config.game, data=data, deal="endless")
            self.router = _sb3_router(config, self.game)
        else:
            self.game = make_game(config.game, data=data)
            options = parse_options(config.router_options)
            self.router = make_router(config.router, self.game.spec, seed=config.game.seed, **options)
        self.data = self.game.data
        self.recorder = Recorder(self.game.spec, (config.epochs or 0) * self.pass_size // FINEST_SNAPSHOTS)
        self.game.observers.append(self.recorder)

    @property
    def samples(self) -> int:
        """Training samples dealt so far."""
        return self.game.samples

    @property
    def pass_size(self) -> int:
        """Samples that make an epoch."""
        return self.game.dealer.pass_size

    def play(self, samples: int, tick: Tick) -> None:
        """Let the router play."""

        def observe(_: Trace) -> None:
            tick()

        self.game.observers.append(observe)
        try:
            self.router.play(self.game, samples)
        finally:
            self.game.observers.remove(observe)

    def evaluate(self, split: SplitName) -> Evaluation:
        """The greedy router on a split."""

        def greedy(state: State) -> Tensor:
            return self.router.act(state, greedy=True).action

        return self.game.evaluate(greedy, split)

    def measures(self) -> dict[str, float]:
        """Accuracy and loss while exploring, the policy's entropy, and what the router logged."""
        row = self.recorder.drain()
        row["policy_entropy"] = self.recorder.entropy()
        row["learning_rate"] = self.game.trainer.learning_rate
        return row | {f"router_{name}": value for name, value in self.game.drain_log().items()}

    def state_dict(self) -> dict[str, Any]:
        """Game, router and recorder."""
        parts = {"game": self.game, "router": self.router, "recorder": self.recorder}
        return {name: part.state_dict() for name, part in parts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned.

        Raises:
            ValueError: the router learns and has not said what.
        """
        if forgets(self.router):
            raise ValueError(
                f"{type(self.router).__name__} learns, but has no state_dict: what it has learned is not in the "
                "checkpoint; give it state_dict and load_state_dict, and train it again"
            )
        self.game.load_state_dict(state["game"])
        self.router.load_state_dict(state["router"])
        self.recorder.load_state_dict(state["recorder"])


class BaselineLearner:
    """A baseline network with the stem, samples, order, optimiser and schedule that a routed network would have.

    Args:
        config: with nothing left open.
        data: the tasks.
    """

    def __init__(self, config: RunConfig, data: MultiTaskData) -> None:
        game = config.game
        device = find_device(game.device)
        self.data = data.to(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(game.seed)
            plan = plan_beside(make_network(game, data), data.tasks, hidden=game.hidden or 1)
            self.network: Baseline = make_baseline(config.router, plan, **parse_options(config.router_options))
        self.network.to(device)
        self.trainer = make_trainer(game, self.network)
        self.dealer = ShuffledPass(self.data, game.batch_size or 1, game.seed)
        self.samples = 0
        self._score = Score(self.data)
        self._clear()

    @property
    def pass_size(self) -> int:
        """Samples that make an epoch."""
        return self.dealer.pass_size

    def play(self, samples: int, tick: Tick) -> None:
        """Take one step of the optimiser per deal."""
        self.network.train()
        goal = self.samples + samples
        while self.samples < goal:
            batch = self.dealer.next_batch()
            _, loss, correct = self._score(self.network(batch.x, batch.task), batch)
            self.trainer.step(loss)
            self._correct += correct.sum()
            self._loss += loss.detach().sum()
            self._dealt += len(batch)
            passes = self.samples // self.pass_size
            self.samples += len(batch)
            for _ in range(self.samples // self.pass_size - passes):
                self.trainer.end_epoch()
            tick()

    @torch.no_grad()
    def evaluate(self, split: SplitName) -> Evaluation:
        """The network on a split."""
        self.network.eval()

        def forward(batch: Batch) -> tuple[Tensor, Tensor]:
            return self.network(batch.x, batch.task), batch.task.new_empty(len(batch), 0)

        return evaluate(forward, self.data, self._score, split)

    def measures(self) -> dict[str, float]:
        """Accuracy and loss on the training deals; there is no policy."""
        dealt = max(1, self._dealt)
        row = {"train_accuracy": float(self._correct) / dealt, "train_loss": float(self._loss) / dealt}
        self._clear()
        return row | {"policy_entropy": nan, "learning_rate": self.trainer.learning_rate}

    def state_dict(self) -> dict[str, Any]:
        """Network, optimiser, order of the samples."""
        parts = {"network": self.network, "trainer": self.trainer, "dealer": self.dealer}
        return {"samples": self.samples, **{name: part.state_dict() for name, part in parts.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self.network.load_state_dict(state["network"])
        self.trainer.load_state_dict(state["trainer"])
        self.dealer.load_state_dict(state["dealer"])
        self.samples = int(state["samples"])

    def _clear(self) -> None:
        self._correct = torch.zeros((), dtype=torch.int64, device=self.data.device)
        self._loss = torch.zeros((), device=self.data.device)
        self._dealt = 0


def make_learner(config: RunConfig, data: MultiTaskData) -> RoutedLearner | BaselineLearner:
    """Build what the settings name: a router of ``ROUTERS``, a baseline of ``BASELINES``, or one's own of either.

    Raises:
        ValueError: an unknown name, with the nearest known one, or an option that does not exist or fit.
    """
    options = parse_options(config.router_options)
    for name in sorted({"spec", "plan", "seed"} & options.keys()):
        raise ValueError(f"{name} is no option of {config.router}; the run's own settings decide it")
    try:
        return (BaselineLearner if is_baseline(config.router) else RoutedLearner)(config, data)
    except (TypeError, AssertionError) as error:
        if not options:
            raise
        given = " ".join(config.router_options)
        raise ValueError(f"{config.router} cannot be made with the options {given}: {error}") from error


def forgets(router: Router) -> bool:
    """Whether a router learns, but keeps nothing of it in a checkpoint."""
    kind: type[Any] = type(router)
    return kind.state_dict is Router.state_dict and (kind.learn is not Router.learn or kind.play is not Router.play)


def _sb3_router(config: RunConfig, game: RoutingGame) -> Router:
    from routing_env.envs.sb3_router import SB3Router  # slow to import, and most runs do without

    algorithm, lanes = config.router.removeprefix(SB3_PREFIX), config.game.batch_size or 1
    return SB3Router(game, lanes, algorithm, seed=config.game.seed, **parse_options(config.router_options))


def is_baseline(name: str) -> bool:
    """Whether a name is a baseline's rather than a router's.

    Raises:
        ValueError: neither, with the nearest known one.
    """
    if name.startswith(SB3_PREFIX):
        return False
    if ":" not in name:
        look_up("router", name, ROUTERS | BASELINES)
        return name in BASELINES
    found = import_object(name)
    return inspect.isclass(found) and issubclass(found, Baseline)


def plan_beside(network: RoutedNetwork, tasks: int, *, hidden: int) -> Plan:
    """The plan of baselines that stand beside a routed network, whose stem they take over."""
    banks = [network.bank(layer) for layer in range(len(network.banks))]
    return Plan(
        stem=network.stem,
        widths=(prod(banks[0].in_shape), *(prod(bank.out_shape) for bank in banks)),
        tasks=tasks,
        blocks=len(banks[0]),
        hidden=hidden,
        parameters=sum(parameter.numel() for bank in banks for parameter in bank.parameters()),
    )
