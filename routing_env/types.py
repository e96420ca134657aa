"""What passes between the game, its routers and its shells.

Axis letters, used everywhere in this package:

==  =====================================================
B   lanes: the samples that are routed together
T   tasks
D   depth: the number of routing decisions for one sample
A   actions: every block that can be named, and PASS
F   features of the widest representation
O   outputs of the network
==  =====================================================

Depth counts from 0 in code and from 1 in anything printed, as in the paper.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from routing_env.search_space import SearchSpace
from routing_env.torch_settings import usual_torch


@dataclass(frozen=True)
class Batch:
    """Samples dealt together.

    Attributes:
        x: float32 [B, *input shape], standardised.
        task: int64 [B].
        target: int64 [B] class within the task, or float32 [B, O] for regression.
    """

    x: Tensor
    task: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.task)


@dataclass(frozen=True)
class State:
    """What a router sees of each lane at one depth: the paper's (v, t, i), and which actions are legal.

    Attributes:
        v: float32 [B, F], detached, flattened and zero-padded to the widest representation.
        task: int64 [B].
        depth: number of decisions taken so far.
        legal: bool [B, A].
        agent: int64 [B], the agent that decides for each lane if a dispatcher has picked it (Figure 3c), else None. The
            agent that a :class:`Decision` names stays with its lane in the states that follow.
    """

    v: Tensor
    task: Tensor
    depth: int
    legal: Tensor
    agent: Tensor | None = None


@dataclass(frozen=True)
class Decision:
    """A router's answer to a :class:`State`.

    Attributes:
        action: int64 [B].
        probability: float32 [B, A], the policy that the action was drawn from, for the collaboration reward and the
            logs. Without it the collaboration reward counts the action as certain, and the logs leave the policy out.
        gate: float32 [B] of value 1, which multiplies the output of the chosen block. If it is a leaf that requires a
            gradient, ``gate.grad`` holds the effect of the choice on the mean loss of the network when the router
            learns (Gumbel-softmax).
        agent: int64 [B], the agent that decided for each lane, if the router dispatched it (Figure 3c); else None.
        info: What the router itself needs again when it learns from the decision. A router must not count on learning
            from the deal that it acted in last, so whatever belongs to a deal goes here.
    """

    action: Tensor
    probability: Tensor | None = None
    gate: Tensor | None = None
    agent: Tensor | None = None
    info: Any = None


@dataclass(frozen=True)
class Outcome:
    """What finished routes led to; a final reward is a function of it.

    Attributes:
        task: int64 [B].
        output: float32 [B, O], the logits or the regression's values. Outputs that are not classes of the lane's task
            are left as the network returned them.
        prediction: int64 [B] class, or float32 [B, O] for regression.
        target: as in :class:`Batch`.
        loss: float32 [B].
        correct: bool [B]; False for forfeited lanes, and always False for regression.
        forfeited: bool [B], lanes that lost their route by an illegal action; they train nothing.
    """

    task: Tensor
    output: Tensor
    prediction: Tensor
    target: Tensor
    loss: Tensor
    correct: Tensor
    forfeited: Tensor


@dataclass(frozen=True)
class Counterfactuals:
    """What the lanes of a deal would have got on other routes, for routes of any shape [...].

    A lane with one legal action at a depth takes it, whatever the route says there. Entries of routes that are not
    legal for a lane are NaN.

    Attributes:
        loss: float32 [...].
        final_reward: float32 [...], r_final.
        action_rewards: float32 [..., D], the immediate rewards r_i.
    """

    loss: Tensor
    final_reward: Tensor
    action_rewards: Tensor


@dataclass(frozen=True)
class Trace:
    """The trace T = (S, A, R, r_final) of Algorithm 2, for B lanes.

    Attributes:
        states: D states.
        decisions: D decisions.
        action_rewards: float32 [B, D], the immediate rewards r_i.
        final_reward: float32 [B], r_final.
        outcome: what the routes led to.
        counterfactuals: for shape [B, D, A]: the route as it was, but with another action at one depth, in a game whose
            ``counterfactuals`` were switched on; else None.
        route_outcomes: for shape [R, B]: the whole routes that the router has named in :meth:`Router.other_routes`;
            None where it has named none.
    """

    states: tuple[State, ...]
    decisions: tuple[Decision, ...]
    action_rewards: Tensor
    final_reward: Tensor
    outcome: Outcome
    counterfactuals: Counterfactuals | None = None
    route_outcomes: Counterfactuals | None = None

    @property
    def task(self) -> Tensor:
        """int64 [B]."""
        return self.states[0].task

    @property
    def actions(self) -> Tensor:
        """int64 [B, D]."""
        return torch.stack([decision.action for decision in self.decisions], dim=1)

    def returns(self, gamma: float = 1.0) -> Tensor:
        """R_i = r_final + sum over j >= i of gamma^(j-i) r_j (Algorithm 3, line 3); r_final is not discounted.

        Returns:
            float32 [B, D].
        """
        discounted = torch.zeros_like(self.action_rewards)
        tail = torch.zeros_like(self.final_reward)
        for i in reversed(range(len(self.states))):
            tail = self.action_rewards[:, i] + gamma * tail
            discounted[:, i] = tail
        return discounted + self.final_reward[:, None]

    def counterfactual_returns(self, gamma: float = 1.0) -> Tensor:
        """R_i if the action at depth i had been another one and the rest of the route as it was.

        Returns:
            float32 [B, D, A]; NaN where that route is not legal.

        Raises:
            ValueError: The trace has no counterfactuals.
        """
        others = self.require_counterfactuals()
        rewards, returns = others.action_rewards, others.final_reward.clone()
        for i in range(len(self.states)):
            for j in range(i, len(self.states)):
                returns[:, i] += gamma ** (j - i) * rewards[:, i, :, j]
        return returns

    def require_counterfactuals(self) -> Counterfactuals:
        """The counterfactuals.

        Raises:
            ValueError: There are none; the message says how to get them.
        """
        if self.counterfactuals is None:
            raise ValueError(
                "the trace has no counterfactuals, which this router learns from: let the router play the game itself "
                "(Router.play), or set game.counterfactuals = True before you reset it"
            )
        return self.counterfactuals


@dataclass(frozen=True)
class GameSpec:
    """What a router needs to know about a game.

    Attributes:
        tasks: T.
        depth: D.
        actions: A.
        features: F.
        legal: bool [D, A], the actions that are legal somewhere at that depth.
        layers: for each depth the actions of the layer that a plain, unrouted network would apply: the layer with the
            same index, or the nearest legal one, else only PASS.
        device: where the game's tensors are.
        pass_action: the PASS action, if there is one.
        groups: the group of each task, if the data know the best sharing; else None.
        programs: for each task the hidden functions that make its labels, in the order in which they apply, if the data
            know the best route; else None.
        kinds: number of kinds of samples, if the data know that the best route follows from the kind, which the first
            numbers of v show as a one-hot at the first depth; else None.
        agents: number of deciding agents; None stands for one per task (Figure 3b), 1 for a single agent (Figure 3a).
    """

    tasks: int
    depth: int
    actions: int
    features: int
    legal: Tensor
    layers: tuple[tuple[int, ...], ...]
    device: torch.device
    pass_action: int | None = None
    groups: tuple[int, ...] | None = None
    programs: tuple[tuple[int, ...], ...] | None = None
    kinds: int | None = None
    agents: int | None = None


class Game(Protocol):
    """The side of the game that a router plays against."""

    router_loss: Callable[[Trace], Tensor] | None
    """The router's own loss, float32 [B], that the blocks minimise in addition to theirs (section 3.1.2, end)."""
    counterfactuals: bool
    """Whether traces of training deals say what other actions would have led to."""

    @property
    def spec(self) -> GameSpec:
        """The sizes of the game."""
        ...

    @property
    def trace(self) -> Trace:
        """The deal that has just ended."""
        ...

    def reset(self) -> State:
        """Deal the next samples."""
        ...

    def step(self, decision: Decision) -> State | None:
        """Apply one block per lane; None when the routes have ended."""
        ...

    def counterfactual_outcomes(self, routes: Tensor) -> Counterfactuals:
        """What the lanes of this deal meet with on whole routes int64 [R, D] or [R, B, D], for shape [R, B]."""
        ...

    def log(self, values: Mapping[str, float]) -> None:
        """Keep the values that a router logs."""
        ...

    def play_captured(self, router: Router, samples: int) -> int:
        """Play and learn from deals as CUDA graphs, as long as that is possible; returns the samples dealt."""
        ...


class Router(ABC):
    """A learner that chooses the blocks. Subclass it; only :meth:`act` is mandatory.

    ``routing-env train --router module:Class`` builds it as ``Class(spec, seed=seed, **options)``.

    Attributes:
        space: What ``routing-env tune`` searches for the options that are worth it, by their names.
    """

    space: ClassVar[SearchSpace] = {}

    @abstractmethod
    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """Choose one legal action per lane; ``greedy`` switches exploration off."""
        ...

    def probability(self, state: State) -> Tensor | None:
        """The policy that :meth:`act` draws from, float32 [B, A], without drawing; 0 for illegal actions.

        None, the default: the router does not say.
        """
        return None

    def mixture(self, task: Tensor) -> tuple[Tensor, Tensor] | None:
        """Whole routes whose predictions a greedy evaluation averages.

        None, the default: the router acts greedily, one decision after the other. An evaluation with k routes costs
        up to k times as much; routes that begin alike share the work until they part.

        Args:
            task: int64 [B].

        Returns:
            Routes int64 [k, B, D], and their weights float32 [k, B], which sum to 1 in every lane.
        """
        return None

    def learn(self, trace: Trace) -> dict[str, float]:
        """Learn from one deal and return named values for the log. The default learns nothing."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs, as nested dicts and lists of tensors, numbers and strings."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`.

        Raises:
            ValueError: The state does not fit. Nothing has changed.
        """
        if state:
            raise ValueError(f"{type(self).__name__} restores nothing, and the state has {', '.join(map(str, state))}")

    def grow(self, spec: GameSpec) -> Router:
        """Return a router for the same game with further tasks; this router stays as it is.

        The tasks known so far keep bit for bit what has been learned for them, and the further ones begin as in a new
        router of the same seed and options.

        Args:
            spec: Specification of the game with the further tasks; everything else is as before.

        Raises:
            ValueError: The specification has fewer tasks, or differs in anything else.
            NotImplementedError: The router cannot take further tasks, as by default.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot take further tasks: it has no method `grow`")

    @property
    def block_loss(self) -> Callable[[Trace], Tensor] | None:
        """A loss float32 [B] of this router that the blocks minimise beside their own (section 3.1.2, end), if any."""
        return None

    @property
    def needs_counterfactuals(self) -> bool:
        """Whether this router learns from ``trace.counterfactuals``; :meth:`play` then has the game compute them."""
        return False

    def other_routes(self, trace: Trace) -> Tensor | None:
        """Whole routes besides those taken that this router learns from, int64 [R, D] or [R, B, D]; by default none.

        :meth:`play` asks the game what they would have led to and puts the answer into ``trace.route_outcomes``.
        """
        return None

    @usual_torch()
    def play(self, game: Game, samples: int) -> None:
        """Route and learn until ``samples`` more samples have been dealt (Algorithm 2).

        A router that owns its loop (a Stable-Baselines3 model, say) overrides this.
        """
        dealt = 0
        game.router_loss, game.counterfactuals = self.block_loss, self.needs_counterfactuals
        try:
            while (dealt := dealt + game.play_captured(self, samples - dealt)) < samples:
                state: State | None = game.reset()
                dealt += len(state.task)
                while state is not None:
                    state = game.step(self.act(state))
                trace = game.trace
                if (routes := self.other_routes(trace)) is not None:
                    trace = replace(trace, route_outcomes=game.counterfactual_outcomes(routes))
                game.log(self.learn(trace))
        finally:
            game.router_loss, game.counterfactuals = None, False


Policy = Callable[[State], Tensor]
"""Chooses actions int64 [B] for a state, without learning."""

Tick = Callable[[], None]
"""Called after every piece of work, for a display of progress."""
