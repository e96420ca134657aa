"""Dispatched routing (paper, Figure 3c): a dispatcher, itself an agent, says for every sample which agent routes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from routing_env.agents import make_router
from routing_env.agents.base import sum_of_losses
from routing_env.types import Decision, GameSpec, Router, State, Trace


class Dispatched(Router):
    """A dispatcher over agents, each with an algorithm of its own.

    Before depth 1 the dispatcher sees (v, t) and picks an agent per sample; to it this is a game of one decision that
    earns all that the route earns, the final reward included. Any router can be the dispatcher, and any can be the
    agents.

    Args:
        spec: of the game.
        seed: of both.
        router: name of the agents' algorithm.
        router_options: of the agents.
        dispatcher: name of the dispatcher's algorithm.
        dispatcher_options: of the dispatcher.
        agents: how many the dispatcher chooses among; by default one per task.

    Raises:
        ValueError: no agents.
    """

    def __init__(
        self,
        spec: GameSpec,
        *,
        seed: int = 0,
        router: str = "wpl",
        router_options: Mapping[str, Any] | None = None,
        dispatcher: str = "reinforce-approx",
        dispatcher_options: Mapping[str, Any] | None = None,
        agents: int | None = None,
    ) -> None:
        agents = spec.tasks if agents is None else agents
        if agents < 1:
            raise ValueError(f"agents is {agents}; it must be at least 1")
        choice = GameSpec(
            tasks=spec.tasks,
            depth=1,
            actions=agents,
            features=spec.features,
            legal=torch.ones(1, agents, dtype=torch.bool, device=spec.device),
            layers=(tuple(range(agents)),),
            device=spec.device,
            agents=1,
        )
        self.agents = agents
        self.router = make_router(router, replace(spec, agents=agents), seed=seed, **(router_options or {}))
        self.dispatcher = make_router(dispatcher, choice, seed=seed, **(dispatcher_options or {}))
        # The routes on their way; an evaluation in the middle of a deal has its own.
        self._dispatched: dict[bool, tuple[State, Decision]] = {}

    @property
    def picked(self) -> Tensor:
        """Which agent the routes of the last deal went to, int64 [B]."""
        return self._dispatched[False][1].action

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """Dispatch at the first depth, then let the agents decide.

        Raises:
            RuntimeError: routes that have not been dispatched at the first depth.
        """
        if state.depth == 0:
            legal = torch.ones(len(state.task), self.agents, dtype=torch.bool, device=state.task.device)
            question = State(state.v, state.task, 0, legal)
            self._dispatched[greedy] = question, self.dispatcher.act(question, greedy=greedy)
        if greedy not in self._dispatched or len(self._dispatched[greedy][1].action) != len(state.task):
            raise RuntimeError("these routes have not been dispatched; a dispatched router must act from depth 1 on")
        choice = self._dispatched[greedy][1]
        decision = self.router.act(replace(state, agent=choice.action), greedy=greedy)
        if choice.gate is None or state.depth:
            return decision
        return replace(decision, gate=choice.gate if decision.gate is None else choice.gate * decision.gate)

    def learn(self, trace: Trace) -> dict[str, float]:
        """The agents learn from the routes, the dispatcher from what they came to."""
        routes, dispatched = self._seen(trace)
        learned = self.router.learn(routes)
        return learned | {f"dispatcher_{name}": value for name, value in self.dispatcher.learn(dispatched).items()}

    @property
    def block_loss(self) -> Callable[[Trace], Tensor] | None:
        """Those of both parts."""
        return sum_of_losses((self.router, self.dispatcher), self._seen)

    def _seen(self, trace: Trace) -> tuple[Trace, Trace]:
        """The routes as the agents see them, and as the dispatcher does."""
        question, choice = self._dispatched[False]
        states = tuple(replace(state, agent=choice.action) for state in trace.states)
        question = replace(question, v=trace.states[0].v)
        on_the_way = trace.action_rewards.sum(1, keepdim=True)
        of_dispatcher = Trace((question,), (choice,), on_the_way, trace.final_reward, trace.outcome)
        return replace(trace, states=states), of_dispatcher

    def state_dict(self) -> dict[str, Any]:
        """Both parts."""
        return {"router": self.router.state_dict(), "dispatcher": self.dispatcher.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back both parts."""
        self.router.load_state_dict(state["router"])
        self.dispatcher.load_state_dict(state["dispatcher"])
