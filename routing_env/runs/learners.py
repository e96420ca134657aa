"""What a run trains: a router with its game, or a baseline network. To the loop they look the same."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor, nn

from routing_env.agents import ROUTERS
from routing_env.agents.base import PolicyRouter
from routing_env.agents.dispatched import DispatchedRouter
from routing_env.agents.per_layer import PerLayer
from routing_env.baselines import BASELINES, Baseline, make_baseline, plan_beside
from routing_env.data import MultiTaskData, SplitName
from routing_env.data.planted import partition_score
from routing_env.evaluations import Evaluation, Rows, measured_split
from routing_env.game.build import as_built, build_dealer, build_network, build_trainer
from routing_env.game.evaluation import Score, evaluate
from routing_env.game.routing_game import RoutingGame
from routing_env.game.settings import SettingError, Settings
from routing_env.game.training import LOSSES, BlockTrainer
from routing_env.names import counted, find, import_object, look_up, parse_options, reference
from routing_env.runs.baseline_step import BaselineStep
from routing_env.runs.behaviour import routing_measures
from routing_env.runs.compute import ComputeMeter, parameters_of
from routing_env.runs.monitor import Monitor, Probability
from routing_env.runs.routers import forgets, game_and_router
from routing_env.runs.settings import SB3_PREFIX, RunSettings
from routing_env.scenarios import best_sharing
from routing_env.state_dicts import Stateful, restore
from routing_env.types import Batch, Tick, Trace

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FINEST_SNAPSHOTS = 2000
"""The first snapshots of the policy are this share of a run apart."""

Image = NDArray[np.uint8]


class Learner(ABC):
    """A network on its way through the training samples, and all that a run needs to know of it.

    Attributes:
        settings: of the game; they describe the network as it was built.
        data: the tasks.
        trainer: of the network; it counts samples and epochs.
        pass_size: training samples in an epoch.
        pass_action: index of PASS, where something is routed and there is one.
        description: what is trained, in a few words.
        remark: settings of the router that a person might not expect; empty if there are none.
        warning: what a person should know before training starts; empty if there is nothing.
        later_epochs: epochs after those of the settings, where tasks arrive.
        compute: counts the operations of training.
    """

    settings: Settings
    data: MultiTaskData
    trainer: BlockTrainer
    pass_size: int
    pass_action: int | None = None
    description: str = ""
    remark: str = ""
    warning: str = ""
    later_epochs: int = 0
    compute: ComputeMeter

    @property
    def samples(self) -> int:
        """Training samples dealt so far."""
        return self.trainer.samples

    @property
    def parameters(self) -> int:
        """Number of trained parameters: stem, blocks or layers, and the networks of the router."""
        return parameters_of(vars(self))

    def cost(self) -> float:
        """Floating-point operations per training sample since the last call; NaN where they are not counted."""
        return self.compute.drain()

    def goal(self, epoch: int) -> int:
        """Training samples dealt when this many epochs are complete."""
        return epoch * self.pass_size

    @abstractmethod
    def play(self, samples: int, tick: Tick) -> None:
        """Train until this many more samples have been dealt."""
        ...

    @abstractmethod
    def evaluate(self, split: SplitName) -> Evaluation:
        """Measure a split without training; a router routes greedily."""
        ...

    def evaluate_drawn(self, split: SplitName) -> Evaluation | None:
        """Measure a split with actions drawn from the policy; None where nothing draws."""
        return None

    @abstractmethod
    def measures(self) -> dict[str, float]:
        """Measures of training since the last call."""
        ...

    def routing(self, evaluation: Evaluation) -> dict[str, Any]:
        """Routes of an evaluation and measures of them; none where nothing is routed."""
        return {}

    def figures(self, rows: Rows, references: Mapping[str, Rows], subject: str) -> dict[str, Figure | Image]:
        """Figures of a trained run by their names.

        Args:
            rows: metrics of the run.
            references: metrics of the routers to compare with, by their names; some may be empty.
            subject: who and on what, for the titles.
        """
        from routing_env.drawing.training_figures import learning_curve

        return {"learning_curve": learning_curve(rows, references, subject)}

    def tables(self, rows: Rows) -> list[Table]:
        """Tables of a trained run beside that of its tasks, from its metrics."""
        return []

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs; call it right after :meth:`measures`."""
        ...

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`.

        Raises:
            ValueError: the state does not fit. Nothing has changed.
        """
        ...


class GameLearner(Learner):
    """A routing game, and what is recorded while somebody plays it.

    Args:
        game: that is played; it was built from settings.
        every: training samples between two snapshots of the policy at the beginning.
        policy: who plays. Its method ``probability``, from a state to float32 [B, A], is asked for the policy where
            decisions come without probabilities.
    """

    def __init__(self, game: RoutingGame, every: int, policy: object) -> None:
        if game.settings is None:
            raise ValueError("the game was put together by hand; a run needs one that was built from settings")
        self.game = game
        self.settings = game.settings
        self.data = game.data
        self.trainer = game.trainer
        self.pass_size = game.dealer.pass_size
        self.compute = ComputeMeter(self.pass_size)
        self.pass_action = game.network.pass_action
        self.description = f"{counted(game.spec.depth, 'decision')} among {counted(game.spec.actions, 'action')}"
        probability: Probability | None = getattr(policy, "probability", None)
        self.monitor = Monitor(game.spec, every, probability)

    def measures(self) -> dict[str, float]:
        """Accuracy and loss while exploring, the policy's entropy, and what the router logged."""
        row = self.monitor.drain()
        row["policy_entropy"] = self.monitor.entropy()
        row["learning_rate"] = self.trainer.learning_rate
        return row | {f"router_{name}": value for name, value in self.game.drain_log().items()}

    def routing(self, evaluation: Evaluation) -> dict[str, Any]:
        """The routes, and how the tasks share blocks; beside the best sharing where that is known."""
        legal = self.game.spec.legal.cpu().numpy()
        best = best_sharing(self.settings.scenario, self.data.groups)
        return {
            f"{evaluation.split}_routes": evaluation.routes.tolist(),
            **routing_measures(evaluation.routes.numpy(), legal),
            **({} if best is None else {"adjusted_rand": partition_score(evaluation.routes, best)}),
        }

    def figures(self, rows: Rows, references: Mapping[str, Rows], subject: str) -> dict[str, Figure | Image]:
        """The learning curve, and the paper's Figures 9, 10 and 11; 9 and 10 only where the policy is known."""
        from routing_env.drawing.routing_map import routing_map
        from routing_env.drawing.training_figures import block_probability, policy_over_time

        samples, policies = (part.numpy() for part in self.monitor.history())
        names, spec = self.data.task_names, self.game.spec
        legal = spec.legal.cpu().numpy()
        split = measured_split(rows)
        routes = np.array(rows[-1][f"{split}_routes"])  # as the last evaluation found them
        title = f"Routing map: {subject}, {split} split"
        drawn = super().figures(rows, references, subject)
        if not np.isnan(policies).any():
            drawn["policy_over_time"] = policy_over_time(samples, policies, names, subject, legal)
            drawn["block_probability"] = block_probability(samples, policies, names, subject)
        return drawn | {"routing_map": routing_map(routes, spec, names, title=title)}


class RouterLearner(GameLearner):
    """A router and its game.

    Args:
        settings: of the run.
        data: the tasks, on their device.
        tasks: number of tasks that the router knows at first; by default all of them.
    """

    def __init__(self, settings: RunSettings, data: MultiTaskData, *, tasks: int | None = None) -> None:
        game, self.router = game_and_router(settings, data, data.tasks if tasks is None else tasks)
        super().__init__(game, settings.epochs * game.dealer.pass_size // FINEST_SNAPSHOTS, self.router)
        game.observers.append(self.monitor)
        self.remark = getattr(self.router, "remark", "")
        if forgets(self.router):
            self.warning = f"{settings.router} has no state_dict: the run can be neither resumed nor evaluated later"

    def play(self, samples: int, tick: Tick) -> None:
        """Let the router play."""

        def observe(trace: Trace) -> None:
            self.compute.deal_ended(len(trace.task))
            tick()

        self.game.observers.append(observe)
        try:
            with self.compute.training():
                self.router.play(self.game, samples)
        finally:
            self.game.observers.remove(observe)

    def evaluate(self, split: SplitName) -> Evaluation:
        """The greedy router on a split."""
        return self.game.evaluate(self.router, split)

    def evaluate_drawn(self, split: SplitName) -> Evaluation | None:
        """The router on a split, with actions drawn; None where it is not known to draw."""
        draws = isinstance(self.router, PolicyRouter | PerLayer | DispatchedRouter)
        return self.game.evaluate(self.router, split, greedy=False) if draws else None

    def state_dict(self) -> dict[str, Any]:
        """Monitor, router and game."""
        return {name: part.state_dict() for name, part in self._parts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`.

        Raises:
            ValueError: the state does not fit, or the router learns but does not say what it has learned. Nothing has
                changed.
        """
        if forgets(self.router):
            raise ValueError(
                f"{type(self.router).__name__} learns, but has no state_dict: what it has learned is not in the "
                "checkpoint; give it state_dict and load_state_dict, and train it again"
            )
        restore(self._parts, state)

    @property
    def _parts(self) -> dict[str, Stateful]:
        return {"monitor": self.monitor, "router": self.router, "game": self.game}


class BaselineLearner(Learner):
    """A baseline network with the stem, samples, order, optimiser, loss and schedule that a routed network would have.

    Args:
        settings: of the run.
        data: the tasks, on their device.
    """

    def __init__(self, settings: RunSettings, data: MultiTaskData) -> None:
        game = settings.game
        self.data = data
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(game.seed)
            routed = build_network(game, data)
            self.settings = as_built(game, routed)
            plan = plan_beside(routed, data.tasks, self.settings)
            self.network: Baseline = make_baseline(settings.router, plan, **parse_options(settings.router_options))
        self.network.to(data.device)
        self.trainer = build_trainer(game, self.network, apart=self.apart())
        self.dealer = build_dealer(game, data)
        self.pass_size = self.dealer.pass_size
        self.compute = ComputeMeter(self.pass_size)
        optimizer = f"{reference(game.optimizer)} at {self.trainer.learning_rate:g}"
        self.description = f"a network of {self.parameters:,} parameters, trained by {optimizer}"
        self.warning = self.network.warning
        self._score = Score(data, find("loss", game.loss, LOSSES))
        self.step = BaselineStep(self.network, self.trainer, self._score, data.device)
        self._clear()

    def apart(self) -> list[nn.Parameter]:
        """Parameters that are not slowed down when the others are."""
        return []

    def play(self, samples: int, tick: Tick) -> None:
        """Take one step of the optimiser per deal."""
        self.network.train()
        goal = self.samples + samples
        with self.compute.training():
            while self.samples < goal:
                batch = self.dealer.next_batch()
                loss, correct = self.step(batch)
                self.trainer.count(len(batch), self.pass_size)
                self._correct += correct
                self._loss += loss
                self._dealt += len(batch)
                self.compute.deal_ended(len(batch))
                tick()

    @torch.no_grad()
    def evaluate(self, split: SplitName) -> Evaluation:
        """The network on a split."""
        self.network.eval()

        def forward(batch: Batch) -> tuple[Tensor, Tensor]:
            return self.network(batch.x, batch.task), batch.task.new_empty(len(batch), 0)

        with self.trainer.averaged():
            return evaluate(forward, self.data, self._score, split)

    def measures(self) -> dict[str, float]:
        """Accuracy and loss on the training deals, NaN where there is none; a baseline has no policy."""
        dealt = self._dealt or nan
        judged = nan if self.data.classes is None else dealt
        row = {"train_accuracy": float(self._correct) / judged, "train_loss": float(self._loss) / dealt}
        self._clear()
        return row | {"policy_entropy": nan, "learning_rate": self.trainer.learning_rate}

    def state_dict(self) -> dict[str, Any]:
        """Network, optimiser, order of the samples."""
        return {name: part.state_dict() for name, part in self._parts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`.

        Raises:
            ValueError: the state does not fit. Nothing has changed.
        """
        restore(self._parts, state)

    @property
    def _parts(self) -> dict[str, Stateful]:
        return {"dealer": self.dealer, "trainer": self.trainer, "network": self.network}

    def _clear(self) -> None:
        self._correct = torch.zeros((), dtype=torch.int64, device=self.data.device)
        self._loss = torch.zeros((), device=self.data.device)
        self._dealt = 0


def make_learner(settings: RunSettings, data: MultiTaskData) -> Learner:
    """Build what the settings name: a router of ``ROUTERS``, a baseline of ``BASELINES``, or your own of either.

    Raises:
        ValueError: an unknown name, with the closest match, or an option that does not exist or fit.
    """
    options = parse_options(settings.router_options)
    for name in sorted({"spec", "plan", "seed"} & options.keys()):
        raise ValueError(f"{name} is not an option of {settings.router}; the run's own settings decide it")
    try:
        if settings.arrivals:
            from routing_env.runs.arrivals import StagedBaselineLearner, StagedRouterLearner  # they build on this file

            return (StagedBaselineLearner if is_baseline(settings.router) else StagedRouterLearner)(settings, data)
        return (BaselineLearner if is_baseline(settings.router) else RouterLearner)(settings, data)
    except SettingError:
        raise
    except (TypeError, AssertionError) as error:
        if not options:
            raise
        given = " ".join(settings.router_options)
        raise ValueError(f"{settings.router} cannot be made with the options {given}: {error}") from error


def is_baseline(name: str) -> bool:
    """Whether a name is a baseline's rather than a router's.

    Raises:
        ValueError: neither; the message suggests the closest match.
    """
    if name.startswith(SB3_PREFIX):
        return False
    if ":" not in name:
        look_up("router", name, ROUTERS | BASELINES)
        return name in BASELINES
    found = import_object(name)
    return inspect.isclass(found) and issubclass(found, Baseline)
