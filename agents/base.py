"""What routers share: rates and checks of options, actions from a policy, and tables with one row per agent and depth.

``gradient.py`` adds what routers with networks need.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import Any, ClassVar, Self, TypeGuard, cast

import torch
from torch import Tensor

from routing_env.agents.growth import with_further_tasks
from routing_env.agents.policies import MANY, best_action, clip_and_normalise, draw_action, draw_from_many, uniform
from routing_env.agents.samples import Samples, in_turn, turn_table
from routing_env.capturable import CapturableRouter
from routing_env.names import Range, is_number, require
from routing_env.state_dicts import check_state, restore_generator
from routing_env.types import Decision, GameSpec, State, Trace

Rate = float | Sequence[float]
"""A number, or a schedule (start, end, samples): linear from start to end over the first ``samples`` samples."""


def rate_at(rate: Rate, samples: int) -> float:
    """The value of a rate after a number of samples.

    Raises:
        ValueError: A sequence that is not (start, end, samples).
    """
    if not isinstance(rate, Sequence):
        return float(rate)
    require_rate("rate", rate)
    start, end, duration = rate
    return start + min(1.0, samples / duration) * (end - start)


def require_rate(name: str, rate: Rate) -> None:
    """Refuse what is neither a number nor (start, end, samples)."""
    must = "a number or (start, end, samples) with samples above 0"
    require(name, rate, is_schedule(rate) or is_number(rate), must)


def is_schedule(rate: object) -> TypeGuard[tuple[float, float, float]]:
    """Whether an option is a schedule, see ``Rate``."""
    return isinstance(rate, Sequence) and len(rate) == 3 and all(map(is_number, rate)) and rate[2] > 0


def acting_agent(state: State, spec: GameSpec) -> Tensor:
    """The agent that decides for each lane (paper, Figure 3): dispatched, single, or the task's own; int64 [B].

    Raises:
        ValueError: Several agents share the tasks and no dispatcher has picked one for each lane.
    """
    if state.agent is not None:
        return state.agent
    if spec.agents is not None and spec.agents > 1:
        raise ValueError(f"{spec.agents} agents share the tasks and nobody dispatches; use topology='dispatched'")
    return undispatched_agent(state.task, spec)


def undispatched_agent(task: Tensor, spec: GameSpec) -> Tensor:
    """The agent of each lane where nobody dispatches: the task's own, or the only one; int64 [B]."""
    return task if spec.agents is None else torch.zeros_like(task)


def move_taken(value: Tensor, action: Tensor, target: Tensor, step: float) -> Tensor:
    """Q(a) <- Q(a) + alpha (target - Q(a)) for the action taken in every row; the other actions keep their values.

    Q is ``value``, float32 [..., A]; ``action`` is int64 [...], ``target`` float32 [...], and alpha ``step``.
    """
    taken = action.unsqueeze(-1)
    return value.scatter(-1, taken, torch.lerp(value.gather(-1, taken), target.unsqueeze(-1), step))


@dataclass(eq=False)
class PolicyRouter(CapturableRouter):
    """A router that draws its actions from a policy. Subclasses are dataclasses whose fields are their options.

    Attributes:
        spec: The specification of the game.
        agents: Number of agents.
        generator: Draws the actions.
        samples: Number of samples learned from; rates follow it.
    """

    spec: GameSpec
    _: KW_ONLY
    seed: int = 0
    """Seed of the initial weights and of exploration."""

    def __post_init__(self) -> None:
        self.agents = self.spec.agents or self.spec.tasks
        self.generator = torch.Generator(self.spec.device).manual_seed(self.seed)
        self.samples = 0

    def check_numbers(self, must: Range, *options: str) -> None:
        """Refuse options that are not numbers in a range.

        Raises:
            ValueError: "NAME is VALUE; it must be ...".
        """
        for name in options:
            value = getattr(self, name)
            require(name, value, is_number(value, must), must)

    def check_rates(self, must: Range, *options: str) -> None:
        """Refuse options that are not rates, or that leave a range at some time.

        Raises:
            ValueError: "NAME is VALUE; it must be ...".
        """
        for name in options:
            rate = getattr(self, name)
            require_rate(name, rate)
            values = rate[:2] if isinstance(rate, Sequence) else [rate]
            require(name, rate, all(is_number(value, must) for value in values), must)

    def check_choice(self, option: str, choices: Sequence[str]) -> None:
        """Refuse an option that is not one of several strings.

        Raises:
            ValueError: "NAME is VALUE; it must be ...".
        """
        value, names = getattr(self, option), [repr(choice) for choice in choices]
        require(option, value, value in choices, f"{', '.join(names[:-1])} or {names[-1]}")

    def now(self, rate: Rate) -> float:
        """The present value of a rate."""
        return rate_at(rate, self.samples)

    @abstractmethod
    def probability(self, state: State) -> Tensor:
        """The exploring policy, float32 [B, A]; 0 for illegal actions."""
        ...

    @abstractmethod
    def preference(self, state: State) -> Tensor:
        """What a greedy choice maximises over the legal actions, float32 [B, A]."""
        ...

    @torch.no_grad()
    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """Draw from the policy, or take the legal action with the highest preference."""
        if greedy:
            return Decision(best_action(self.preference(state), state.legal))
        probability = self.probability(state)
        draw = draw_from_many if probability.shape[-1] >= MANY else draw_action
        return Decision(draw(probability, self.generator), probability)

    def learn(self, trace: Trace) -> dict[str, float]:
        """Count the samples."""
        self.count(len(trace.task))
        return {}

    def count(self, lanes: int) -> None:
        """Count the samples of a deal."""
        self.samples += lanes

    def state_dict(self) -> dict[str, Any]:
        """The generator and the number of samples."""
        return {"generator": self.generator.get_state(), "samples": self.samples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`.

        Raises:
            ValueError: The state does not fit. Nothing has changed.
        """
        check_state(state, self.fitting_state())
        restore_generator(self.generator, state["generator"])
        self.samples = state["samples"]

    def grow(self, spec: GameSpec) -> Self:
        """A new router with the same options, which goes on where this one stands; subclasses hand over the rest."""
        grown = replace(self, spec=with_further_tasks(self.spec, spec))
        grown.generator.set_state(self.generator.get_state())
        grown.samples = self.samples
        return grown

    def fitting_state(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` compares a state with; an override says what may differ from the present one."""
        return self.state_dict()


@dataclass(eq=False, kw_only=True)
class TableRouter(PolicyRouter):
    """One agent per task (paper, Figure 3b), each with tables of shape [D, A] (Tables 3 and 4, "tabular").

    Attributes:
        tables: Tensors by name that a checkpoint holds, with a row for each agent; a subclass adds its own.
        shared: Names of tables without rows, which belong to all agents.
    """

    shared: ClassVar[tuple[str, ...]] = ()

    gamma: float = 1.0
    """Discount of the action rewards; the final reward is not discounted."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_numbers("in [0, 1]", "gamma")
        self.tables: dict[str, Tensor] = {}
        self._rates: dict[tuple[float, ...], Tensor] = {}

    def now(self, rate: Rate) -> float:
        """The present value of a rate; in a captured deal a tensor, float32 [], stands for that of a schedule."""
        held = self._rates.get(tuple(rate)) if isinstance(rate, Sequence) else None
        return super().now(rate) if held is None else cast(float, held)

    def new_table(self) -> Tensor:
        """Zeros, float32 [agents, D, A]."""
        return torch.zeros(self.agents, self.spec.depth, self.spec.actions, device=self.spec.device)

    def row(self, table: Tensor, state: State) -> Tensor:
        """The rows of a table that serve the lanes of a state, float32 [B, A]."""
        return table[acting_agent(state, self.spec), state.depth]

    @abstractmethod
    def update(self, samples: Samples) -> None:
        """Learn from one sample each of some agents, which all differ."""
        ...

    def learn(self, trace: Trace) -> dict[str, float]:
        """Update every agent by its samples, one after the other."""
        agent = acting_agent(trace.states[0], self.spec)
        for samples in Samples.of(trace, agent, self.gamma).split(list(in_turn(agent))):
            self.update(samples)
        return super().learn(trace)

    def plan(self, task: Tensor) -> tuple[Tensor, ...]:
        """The turns of the agents, and the present values of the schedules."""
        agent = undispatched_agent(task, self.spec)
        return *turn_table(agent, self.agents), torch.tensor([self.now(rate) for rate in self._schedules()])

    @contextmanager
    def planned(self, *plan: Tensor) -> Generator[None]:
        """Inside, rates have the values of the plan."""
        self._rates = dict(zip(self._schedules(), plan[-1].unbind(), strict=True))
        try:
            yield
        finally:
            self._rates = {}

    def _schedules(self) -> list[tuple[float, ...]]:
        return [tuple(option) for field in fields(self) if is_schedule(option := getattr(self, field.name))]

    def learn_captured(self, trace: Trace, *plan: Tensor) -> Mapping[str, Tensor]:
        """Learn as by :meth:`learn`, with an update of every agent in every turn.

        Args:
            trace: Of a deal where the legal actions depend on the depth alone.
            plan: The lane of every agent in every turn, int64 [turns, agents], and whether it has one, bool [turns,
                agents]; what an agent learns without one is put back. Then the values of the schedules.
        """
        every = Samples.of(trace, acting_agent(trace.states[0], self.spec), self.gamma)
        rows = [table for name, table in self.tables.items() if name not in self.shared]
        for lane, there in zip(*plan[:2], strict=True):
            before = [table.clone() for table in rows]
            self.update(every.of_every_agent(lane, there, self.spec.legal))
            for table, old in zip(rows, before, strict=True):
                table.copy_(table.where(there.view(-1, *[1] * (table.dim() - 1)), old))
        return {}

    def state_dict(self) -> dict[str, Any]:
        """As the base, with the tables."""
        return {**super().state_dict(), "tables": {name: table.clone() for name, table in self.tables.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`."""
        super().load_state_dict(state)
        for name, table in self.tables.items():
            table.copy_(state["tables"][name])

    def grow(self, spec: GameSpec) -> Self:
        """As the base, with the rows of the known agents."""
        grown = super().grow(spec)
        for name, table in self.tables.items():
            grown.tables[name][: len(table)] = table
        return grown


@dataclass(eq=False, kw_only=True)
class PolicyTableRouter(TableRouter):
    """A tabular router that stores its policy, and estimates of the actions' values.

    Attributes:
        policy: float32 [agents, D, A], initially uniform over the legal actions.
        value: float32 [agents, D, A], initially 0.
    """

    policies: ClassVar[tuple[str, ...]] = ("policy",)
    """Names of the tables that hold policies."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.policy = uniform(self.spec.legal.expand(self.agents, -1, -1))
        self.value = self.new_table()
        self.tables |= {"policy": self.policy, "value": self.value}

    @abstractmethod
    def improve(self, samples: Samples, *policies: Tensor) -> tuple[Tensor, ...]:
        """Learn the values from one sample each of some agents, which all differ, and return their new policies.

        Args:
            samples: The routes.
            policies: The agents' rows of the tables in ``policies``, float32 [N, D, A], over the legal actions.
        """
        ...

    def update(self, samples: Samples) -> None:
        """Improve the rows over the actions that were legal; the other actions keep their probability.

        One row serves all states of its task and depth. Where v can have several shapes (recursive routing with PASS),
        these states differ in which actions are legal.
        """
        agent, legal = samples.agent, samples.legal
        rows = [self.tables[name][agent] for name in self.policies]
        everywhere = self.spec.legal.expand_as(legal)
        if legal.data_ptr() == everywhere.data_ptr() or legal.equal(everywhere):
            improved = self.improve(samples, *rows)
        else:
            others = [row.masked_fill(legal, 0.0) for row in rows]
            masses = [1 - other.sum(-1, keepdim=True) for other in others]
            improved = self.improve(samples, *(clip_and_normalise(row, legal) for row in rows))
            improved = [other + mass * row for other, mass, row in zip(others, masses, improved, strict=True)]
        for name, row in zip(self.policies, improved, strict=True):
            self.tables[name][agent] = row

    def probability(self, state: State) -> Tensor:
        """The table's row, restricted to the actions that are legal in this state."""
        return clip_and_normalise(self.row(self.policy, state), state.legal)

    def preference(self, state: State) -> Tensor:
        """The policy itself: the greedy action is the most probable one."""
        return self.row(self.policy, state)
