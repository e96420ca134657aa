"""Dispatched routing (paper, Figure 3c): a dispatcher, itself an agent, picks the agent that routes each sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from routing_env.agents import make_router
from routing_env.agents.composite import sum_of_losses
from routing_env.agents.growth import with_further_tasks
from routing_env.names import is_number, require
from routing_env.state_dicts import restore
from routing_env.types import Decision, GameSpec, Router, State, Trace


@dataclass(frozen=True)
class _Dispatched:
    """What the first decision of a route consists of.

    Attributes:
        choice: The dispatcher's decision, whose actions are agents.
        own: The decision of the agents.
    """

    choice: Decision
    own: Decision


@dataclass(eq=False)
class DispatchedRouter(Router):
    """Dispatched routing: a dispatcher picks an agent for each sample; both may be any router.

    Before depth 1 the dispatcher sees (v, t) and picks an agent. For the dispatcher this is a game of one decision that
    earns all that the route earns, the final reward included.

    Attributes:
        agent_router: The router of the agents.
        dispatcher_router: The router of the dispatcher.
        agent_count: Number of agents.
    """

    spec: GameSpec
    _: KW_ONLY
    seed: int = 0
    """Seed of the dispatcher and of the agents."""
    router: str | type[Router] = "wpl"
    """Router of the agents."""
    router_options: Mapping[str, Any] | None = None
    """Options of the agents' router."""
    dispatcher: str | type[Router] = "reinforce-approx"
    """Router of the dispatcher."""
    dispatcher_options: Mapping[str, Any] | None = None
    """Options of the dispatcher's router."""
    agents: int | None = None
    """Number of agents that the dispatcher picks from; defaults to the number of tasks."""

    def __post_init__(self) -> None:
        spec, agents = self.spec, self.spec.tasks if self.agents is None else self.agents
        require("agents", agents, is_number(agents) and agents >= 1, "at least 1")
        choice = _choice(spec, agents)
        options, dispatcher_options = self.router_options or {}, self.dispatcher_options or {}
        self.agent_count = agents
        self.agent_router = make_router(self.router, replace(spec, agents=agents), seed=self.seed, **options)
        self.dispatcher_router = make_router(self.dispatcher, choice, seed=self.seed, **dispatcher_options)
        if self.dispatcher_router.needs_counterfactuals:
            raise ValueError(
                f"dispatcher is {self.dispatcher!r}, which learns from what other actions would have led to; nobody "
                "knows what another agent would have done: use a dispatcher that learns from samples"
            )

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """Dispatch at the first depth, then let the agents decide.

        Raises:
            RuntimeError: The routes have not been dispatched at the first depth.
        """
        if state.depth > 0:
            if state.agent is None:
                raise RuntimeError(
                    "nobody was dispatched to these routes; a dispatched router must act from depth 1 on"
                )
            return replace(self.agent_router.act(state, greedy=greedy), agent=state.agent)
        choice = self.dispatcher_router.act(self._question(state), greedy=greedy)
        own = self.agent_router.act(replace(state, agent=choice.action), greedy=greedy)
        gate = own.gate
        if choice.gate is not None:
            gate = choice.gate if gate is None else choice.gate * gate
        agent = choice.action if own.agent is None else own.agent  # the agents may dispatch in their turn
        return replace(own, gate=gate, agent=agent, info=_Dispatched(choice, own))

    def learn(self, trace: Trace) -> dict[str, float]:
        """Let the agents learn from the routes, and the dispatcher from what they earned."""
        routes, dispatched = self._views(trace)
        learned = self.agent_router.learn(routes)
        of_dispatcher = self.dispatcher_router.learn(dispatched)
        return learned | {f"dispatcher_{name}": value for name, value in of_dispatcher.items()}

    @property
    def block_loss(self) -> Callable[[Trace], Tensor] | None:
        """The sum of the block losses of both parts."""
        return sum_of_losses((self.agent_router, self.dispatcher_router), self._views)

    @property
    def needs_counterfactuals(self) -> bool:
        """Whether the agents need them."""
        return self.agent_router.needs_counterfactuals

    def _question(self, state: State) -> State:
        """The state of the dispatcher, who sees what the agents see at the first depth."""
        legal = torch.ones(len(state.task), self.agent_count, dtype=torch.bool, device=state.task.device)
        return State(state.v, state.task, 0, legal)

    def _views(self, trace: Trace) -> tuple[Trace, Trace]:
        """The deal as the agents see it, and as the dispatcher sees it."""
        first, *later = trace.decisions
        if not isinstance(first.info, _Dispatched):
            raise ValueError("a dispatched router learns only from decisions of a dispatched router")
        choice, own = first.info.choice, first.info.own
        states = tuple(replace(state, agent=choice.action) for state in trace.states)
        routes = replace(trace, states=states, decisions=(own, *later))
        earned = trace.action_rewards.sum(1, keepdim=True)
        question = self._question(trace.states[0])
        return routes, Trace((question,), (choice,), earned, trace.final_reward, trace.outcome)

    def state_dict(self) -> dict[str, Any]:
        """The state of both parts."""
        return {name: part.state_dict() for name, part in self._parts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`.

        Raises:
            ValueError: The state of a part does not fit. Nothing has changed.
        """
        restore(self._parts, state)

    def grow(self, spec: GameSpec) -> Self:
        """A dispatcher that knows the further tasks, and picks for them from the same agents as before."""
        grown = replace(self, spec=with_further_tasks(self.spec, spec), agents=self.agent_count)
        grown.agent_router = self.agent_router.grow(replace(spec, agents=self.agent_count))
        grown.dispatcher_router = self.dispatcher_router.grow(_choice(spec, self.agent_count))
        return grown

    @property
    def _parts(self) -> dict[str, Router]:
        return {"router": self.agent_router, "dispatcher": self.dispatcher_router}


def _choice(spec: GameSpec, agents: int) -> GameSpec:
    """The specification of the dispatcher's game, a single decision among the agents."""
    return GameSpec(
        tasks=spec.tasks,
        depth=1,
        actions=agents,
        features=spec.features,
        legal=torch.ones(1, agents, dtype=torch.bool, device=spec.device),
        layers=(tuple(range(agents)),),
        device=spec.device,
        agents=1,
    )
