"""A separate router for every depth, each with its own algorithm, as PyTorch-Routing's layers allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Self

from torch import Tensor

from routing_env.agents import make_router
from routing_env.agents.composite import sum_of_losses
from routing_env.agents.growth import with_further_tasks
from routing_env.names import is_number, require
from routing_env.state_dicts import ANYTHING, check_state, restore
from routing_env.types import Counterfactuals, Decision, GameSpec, Router, State, Trace


@dataclass(eq=False)
class PerLayer(Router):
    """A separate router for every depth.

    Each depth is a game of one decision, which earns r_i at once and the rest of R_i at the end.

    Attributes:
        parts: The routers by depth.
    """

    spec: GameSpec
    _: KW_ONLY
    seed: int = 0
    """Seed of the first router; each depth adds 1."""
    routers: Sequence[str | type[Router]] | None = None
    """The router of each depth; defaults to "wpl" for all."""
    options: Sequence[Mapping[str, Any]] | None = None
    """The options of each router; defaults to none."""
    gamma: float = 1.0
    """Discount of the action rewards; the final reward is not discounted."""

    def __post_init__(self) -> None:
        depth = self.spec.depth
        routers = ["wpl"] * depth if self.routers is None else self.routers
        options = [{}] * depth if self.options is None else self.options
        if len(routers) != depth or len(options) != depth:
            raise ValueError(f"{len(routers)} routers and {len(options)} options for {depth} depths; name one for each")
        require("gamma", self.gamma, is_number(self.gamma, "in [0, 1]"), "in [0, 1]")
        self.parts = [
            make_router(router, _one_decision(self.spec, i), seed=self.seed + i, **own)
            for i, (router, own) in enumerate(zip(routers, options, strict=True))
        ]

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """Let the router of this depth decide."""
        decision = self.parts[state.depth].act(replace(state, depth=0), greedy=greedy)
        return replace(decision, agent=state.agent)  # whom a part dispatches to decides at this depth only

    def learn(self, trace: Trace) -> dict[str, float]:
        """Let every router learn from its own decision."""
        learned: dict[str, float] = {}
        for depth, (router, view) in enumerate(zip(self.parts, self._views(trace), strict=True)):
            learned |= {f"depth{depth + 1}_{name}": value for name, value in router.learn(view).items()}
        return learned

    @property
    def block_loss(self) -> Callable[[Trace], Tensor] | None:
        """The sum of the block losses of all parts."""
        return sum_of_losses(self.parts, self._views)

    @property
    def needs_counterfactuals(self) -> bool:
        """Whether a part needs them."""
        return any(router.needs_counterfactuals for router in self.parts)

    def _views(self, trace: Trace) -> list[Trace]:
        """The deal as the router of each depth sees it."""
        views: list[Trace] = []
        returns = trace.returns(self.gamma)
        for depth, (state, decision) in enumerate(zip(trace.states, trace.decisions, strict=True)):
            reward = trace.action_rewards[:, depth]
            following, own = returns[:, depth] - reward, replace(state, depth=0)
            others = None if trace.counterfactuals is None else self._others(trace, depth)
            views.append(Trace((own,), (decision,), reward.unsqueeze(1), following, trace.outcome, others))
        return views

    def _others(self, trace: Trace, depth: int) -> Counterfactuals:
        """What other actions at a depth would have led to, as the router of that depth sees it."""
        others, only = trace.require_counterfactuals(), slice(depth, depth + 1)
        reward = others.action_rewards[:, only, :, only]
        following = trace.counterfactual_returns(self.gamma)[:, only] - reward.squeeze(-1)
        return Counterfactuals(others.loss[:, only], following, reward)

    def state_dict(self) -> dict[str, Any]:
        """The state of all parts."""
        return {"routers": [router.state_dict() for router in self.parts]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`.

        Raises:
            ValueError: The state of a part does not fit. Nothing has changed.
        """
        check_state(state, {"routers": [ANYTHING] * len(self.parts)})
        names = [f"depth {i + 1}" for i in range(len(self.parts))]
        restore(dict(zip(names, self.parts, strict=True)), dict(zip(names, state["routers"], strict=True)))

    def grow(self, spec: GameSpec) -> Self:
        """Let the router of every depth grow."""
        grown = replace(self, spec=with_further_tasks(self.spec, spec))
        grown.parts = [part.grow(_one_decision(spec, depth)) for depth, part in enumerate(self.parts)]
        return grown


def _one_decision(spec: GameSpec, depth: int) -> GameSpec:
    """The specification of the game that a single depth is."""
    return replace(spec, depth=1, legal=spec.legal[depth : depth + 1], layers=(spec.layers[depth],))
