"""Whole deals as CUDA graphs: captured once for each shape, and replayed from then on.

A step of a small network is a few hundred kernels of a few microseconds. Started one by one from Python they cost
several milliseconds; started as one graph they cost little more than their own work. What is captured is the plain loop
itself: ``game.reset``, ``router.act``, ``game.step`` and the router's learning. It must leave the device alone while it
runs: tensors keep their shapes, nothing waits for a result, and whatever is learned is written in place.

Captured deals differ from plain ones in four ways. All blocks of a layer apply to all lanes, which keep the output of
the one that they chose, since nobody waits to hear which these are. The optimiser is told by a mask on the device which
blocks to step (:mod:`routing_env.game.masked_steps`). A table router updates all agents in every turn, and puts back
what those have learned that had no lane left. And what a plain deal refuses beforehand, an illegal action
or a loss that is not finite, is noticed before the next deal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from routing_env.capturable import CapturableRouter
from routing_env.game.blocks import BlockBank
from routing_env.game.checks import checked_batch
from routing_env.game.dropout import SeededDropout
from routing_env.game.network import RoutedNetwork
from routing_env.game.rewards import FINAL_REWARDS, OF_EACH_LANE, Collaboration
from routing_env.game.unattended import Unattended
from routing_env.types import Batch, Router, Trace

if TYPE_CHECKING:
    from routing_env.game.routing_game import RoutingGame

WARM_UP = 3
"""Steps of a shape before it is captured, in which libraries choose kernels and reserve memory."""

MANY_ACTIONS = 64
"""Actions up to which other routes are captured: all blocks then apply to all lanes of all routes."""


class Graph(Protocol):
    """Captures a step and replays it."""

    def capture(self, step: Callable[[], Any]) -> Any:
        """Capture a step, which does not run, and return the results that :meth:`replay` will fill."""
        ...

    def replay(self) -> None:
        """Run the captured step."""
        ...


MakeGraph = Callable[[Sequence[torch.Generator]], Graph]
"""Makes a graph of a step that draws from some generators."""


class CudaGraph:
    """A CUDA graph.

    Args:
        generators: Those that the step draws from, besides torch's own.
    """

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        self._graph = torch.cuda.CUDAGraph()
        for generator in generators:
            self._graph.register_generator_state(generator)

    def capture(self, step: Callable[[], Any]) -> Any:
        """Capture a step."""
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            return step()

    def replay(self) -> None:
        """Run the captured step."""
        self._graph.replay()


class CapturedStep:
    """A step that is captured once for each shape of what it is given.

    Args:
        step: From an :class:`Unattended` and tensors to whatever holds tensors; the next steps of the same shapes
            overwrite them.
        network: What the step trains.
        generators: Those that the step draws from.
        make_graph: Makes a graph.

    Attributes:
        unattended: What has happened in the steps.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        network: nn.Module,
        generators: Sequence[torch.Generator],
        make_graph: MakeGraph = CudaGraph,
    ) -> None:
        self._step = step
        self.unattended = Unattended(network)
        self._generators = generators
        self._make_graph = make_graph
        self._constant: object = None
        self._warm: dict[object, int] = {}
        self._captured: dict[object, tuple[list[Tensor], Graph, Any]] = {}

    def __call__(self, *given: Tensor, constant: object = None) -> Any:
        """Take the step.

        Args:
            given: What the step is given, for B lanes at first.
            constant: The present value of what the step reads in Python; when it changes, the step is captured anew.
        """
        if self._constant != constant:
            self._captured.clear()
            self._constant = constant
        draws = self.unattended.draws(len(given[0]))
        run, given = partial(self._run, len(draws)), (*draws, *given)
        shapes = tuple(one.shape for one in given)
        if shapes not in self._captured:
            self._warm[shapes] = self._warm.get(shapes, 0) + 1
            if self._warm[shapes] <= WARM_UP:
                return run(*given)
            held, graph = [one.clone() for one in given], self._make_graph(self._generators)
            self._captured[shapes] = held, graph, graph.capture(lambda: run(*held))
        held, graph, result = self._captured[shapes]
        for mine, one in zip(held, given, strict=True):
            mine.copy_(one)
        graph.replay()
        return result

    def _run(self, draws: int, *given: Tensor) -> Any:
        """Take the step itself, given at first what dropout has drawn for it."""
        with self.unattended.running(given[:draws]):
            return self._step(self.unattended, *given[draws:])


class CapturedDeals:
    """Deals of a game that a router plays, as graphs.

    Args:
        game: The game.
        router: Plays it.
        make_graph: Makes a graph.

    Attributes:
        router: As given.
    """

    def __init__(self, game: RoutingGame, router: CapturableRouter, make_graph: MakeGraph) -> None:
        self.router = router
        self._game = game
        generators = [one for one in vars(router).values() if isinstance(one, torch.Generator)]
        self._step = CapturedStep(self._deal, game.network, generators, make_graph)

    def play(self, samples: int) -> int:
        """Play deals, and let the router learn from them, until this many samples are dealt or a deal must be plain.

        A trace is overwritten by the deals that follow.

        Returns:
            Number of samples dealt.

        Raises:
            ValueError: The router has taken an illegal action.
            FloatingPointError: A loss was not finite.
        """
        game, router, dealt = self._game, self.router, 0
        while dealt < samples and router.capturable and can_capture(game):
            batch = checked_batch(None, game.dealer, game.data, game.network)
            plan = [one.to(batch.task.device) for one in router.plan(self._settled(batch.task))]
            constant = game.trainer.prepare_captured()
            trace, samples_dealt, told = self._step(batch.x, batch.task, batch.target, *plan, constant=constant)
            game.attend(trace, samples_dealt)
            game.logged.add(told)
            router.count(len(batch))
            dealt += len(batch)
        self._settled(torch.empty(0, dtype=torch.int64, device=game.spec.device))
        return dealt

    def _settled(self, task: Tensor) -> Tensor:
        """Tasks on the CPU: the one moment of a deal that waits for the device, and tells what was wrong before it."""
        faults = self._step.unattended.faults
        illegal, diverged, *_ = told = torch.cat([faults, task]).cpu()
        if illegal or diverged:
            faults.zero_()
        if illegal:
            raise ValueError(f"{type(self.router).__name__} has taken an illegal action; its deal has trained blocks")
        if diverged:
            raise self._game.trainer.divergence(float(self._game.trace.outcome.loss.mean()))
        return told[2:]

    def _deal(
        self, unattended: Unattended, x: Tensor, task: Tensor, target: Tensor, *plan: Tensor
    ) -> tuple[Trace, tuple[Batch, Tensor] | None, Mapping[str, Tensor]]:
        game, router = self._game, self.router
        game.unattended = unattended
        try:
            with router.planned(*plan):
                state = game.reset(Batch(x, task, target))
                while state is not None:
                    state = game.step(router.act(state))
                trace = game.trace
                if (routes := router.other_routes(trace)) is not None:
                    trace = replace(trace, route_outcomes=game.counterfactual_outcomes(routes))
                with torch.no_grad():
                    told = router.learn_captured(trace, *plan)
        finally:
            game.unattended = None
        return game.trace, game.dealt, told


def captured_deals(game: RoutingGame, router: Router, before: CapturedDeals | None) -> CapturedDeals | None:
    """The captured deals of a router, ``before`` where they are the same router's; None if the next must be plain."""
    if game.make_graph is None or not isinstance(router, CapturableRouter) or not router.capturable:
        return None
    if not can_capture(game) or (router.asks_for_routes and game.spec.actions > MANY_ACTIONS):
        return None
    if router.needs_counterfactuals and game.final_reward not in OF_EACH_LANE:
        return None
    return before if before is not None and before.router is router else CapturedDeals(game, router, game.make_graph)


def can_capture(game: RoutingGame) -> bool:
    """Whether the next deal of a game can be captured, if its router can.

    The network must consist of torch's modules and linear blocks, and the depth alone must say what is legal. The
    blocks must learn by SGD or Adam from every deal, rewards must be built-in ones that follow from the deal's outcome,
    and nobody may count operations.
    """
    network = game.network
    return (
        type(network) is RoutedNetwork
        and network.legality_follows_depth
        and network.visitors is None
        and all(bank.is_linear for bank in network.banks if isinstance(bank, BlockBank))
        and torch_alone(network.stem)
        and game.trainer.captures
        and not game.collects
        and type(game.collaboration) is Collaboration
        and game.final_reward in FINAL_REWARDS.values()
        and not is_watched()
    )


def is_watched() -> bool:
    """Whether somebody looks at every operation, such as a counter, which a graph would escape."""
    return torch._C._len_torch_dispatch_stack() > 0  # pyright: ignore[reportPrivateUsage]


def torch_alone(module: nn.Module) -> bool:
    """Whether a module consists of torch's own modules and our dropout, without hooks; these can be captured."""
    return all(
        (type(part) is SeededDropout or type(part).__module__.startswith("torch.nn.modules."))
        and not (part._forward_hooks or part._forward_pre_hooks)  # pyright: ignore[reportPrivateUsage]
        for part in module.modules()
    )
