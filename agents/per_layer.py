"""A router of its own for every depth, each with its own algorithm, as PyTorch-Routing's layers allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from routing_env.agents import make_router
from routing_env.agents.base import sum_of_losses
from routing_env.types import Decision, GameSpec, Router, State, Trace


class PerLayer(Router):
    """Each depth is a game of one decision, rewarded by what follows: r_i at once and the rest of R_i at the end.

    Args:
        spec: of the game.
        seed: of all routers.
        routers: a name for each depth.
        options: of each router.
        gamma: discount of the action rewards.

    Raises:
        ValueError: as many names, or options, as depths are needed.
    """

    def __init__(
        self,
        spec: GameSpec,
        *,
        seed: int = 0,
        routers: Sequence[str] | None = None,
        options: Sequence[Mapping[str, Any]] | None = None,
        gamma: float = 1.0,
    ) -> None:
        routers = ["wpl"] * spec.depth if routers is None else routers
        options = [{}] * spec.depth if options is None else options
        if len(routers) != spec.depth or len(options) != spec.depth:
            raise ValueError(
                f"{len(routers)} routers and {len(options)} options for {spec.depth} depths; name one for each"
            )
        self.gamma = gamma
        self.routers = [
            make_router(name, _one_decision(spec, depth), seed=seed + depth, **own)
            for depth, (name, own) in enumerate(zip(routers, options, strict=True))
        ]

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """The depth's router decides."""
        return self.routers[state.depth].act(replace(state, depth=0), greedy=greedy)

    def learn(self, trace: Trace) -> dict[str, float]:
        """Every router learns from its own decision."""
        learned: dict[str, float] = {}
        for depth, (router, decision) in enumerate(zip(self.routers, self._seen(trace), strict=True)):
            learned |= {f"depth{depth + 1}_{name}": value for name, value in router.learn(decision).items()}
        return learned

    @property
    def block_loss(self) -> Callable[[Trace], Tensor] | None:
        """Those of all parts."""
        return sum_of_losses(self.routers, self._seen)

    def _seen(self, trace: Trace) -> list[Trace]:
        """The routes as the router of each depth sees them."""
        seen: list[Trace] = []
        returns = trace.returns(self.gamma)
        for depth, (state, decision) in enumerate(zip(trace.states, trace.decisions, strict=True)):
            reward = trace.action_rewards[:, depth]
            following = returns[:, depth] - reward
            own = replace(state, depth=0)
            seen.append(Trace((own,), (decision,), reward.unsqueeze(1), following, trace.outcome))
        return seen

    def state_dict(self) -> dict[str, Any]:
        """All parts."""
        return {"routers": [router.state_dict() for router in self.routers]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back all parts."""
        for router, own in zip(self.routers, state["routers"], strict=True):
            router.load_state_dict(own)


def _one_decision(spec: GameSpec, depth: int) -> GameSpec:
    """The game that a depth is."""
    return replace(spec, depth=1, legal=spec.legal[depth : depth + 1], layers=(spec.layers[depth],))
