"""Networks of routers: what represents a policy or values, for all agents at once.

Each is an ``nn.Module`` from a :class:`~routing_env.types.State` to float32 [B, outputs], built as
``Network(spec, outputs)``. The output layers start at zero, so that policies start uniform and values at 0, as in
tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from routing_env.agents.base import acting_agent
from routing_env.types import GameSpec, State

RouterNetwork = str | Callable[[GameSpec, int], nn.Module]
"""A key of ``ROUTER_NETWORKS``, ``module:Class``, ``file.py:Class``, or a callable that takes the specification and the
number of outputs."""


class LookupTable(nn.Module):
    """One row per agent and depth; it sees neither v nor t (paper, Table 3, "tabular").

    Args:
        spec: The specification of the game.
        outputs: Numbers per row.
    """

    def __init__(self, spec: GameSpec, outputs: int) -> None:
        super().__init__()
        self.spec = spec
        self.table = nn.Parameter(torch.zeros(spec.agents or spec.tasks, spec.depth, outputs))

    def agent_parameters(self) -> Iterable[nn.Parameter]:
        """All parameters have one row per agent."""
        return self.parameters()

    def forward(self, state: State) -> Tensor:
        """The rows, float32 [B, outputs]."""
        return self.table[acting_agent(state, self.spec), state.depth]


class AgentMLP(nn.Module):
    """One two-layer MLP per agent, all applied at once.

    Args:
        agents: Number of agents.
        inputs: Number of inputs.
        hidden: Number of hidden units.
        outputs: Number of outputs.
    """

    def __init__(self, agents: int, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / sqrt(inputs)
        self.weight1 = nn.Parameter(torch.empty(agents, inputs, hidden).uniform_(-bound, bound))
        self.bias1 = nn.Parameter(torch.empty(agents, 1, hidden).uniform_(-bound, bound))
        self.weight2 = nn.Parameter(torch.zeros(agents, hidden, outputs))
        self.bias2 = nn.Parameter(torch.zeros(agents, 1, outputs))

    def agent_parameters(self) -> Iterable[nn.Parameter]:
        """All parameters have one row per agent."""
        return self.parameters()

    def forward(self, x: Tensor, agent: Tensor) -> Tensor:
        """Pass each row through the MLP of its agent.

        Args:
            x: float [B, inputs], of any precision.
            agent: int64 [B].

        Returns:
            float32 [B, outputs].
        """
        agents, x = len(self.weight1), x.to(self.weight1.dtype)
        place = _place_within_agent(agent, agents)
        rows = x.new_zeros(agents, int(place.max()) + 1, x.shape[1])
        rows = rows.index_put((agent, place), x)
        hidden = torch.baddbmm(self.bias1, rows, self.weight1).relu()
        return torch.baddbmm(self.bias2, hidden, self.weight2)[agent, place]


def _place_within_agent(agent: Tensor, agents: int) -> Tensor:
    """The number of earlier lanes with the same agent, int64 [B]."""
    order = torch.argsort(agent, stable=True)
    counts = torch.bincount(agent, minlength=agents)
    first = counts.cumsum(0) - counts
    place = torch.empty_like(order)
    place[order] = torch.arange(len(agent), device=agent.device) - first[agent[order]]
    return place


class MLPs(nn.Module):
    """One MLP per agent and depth, on concat(v, one-hot t) (paper, section 7.3).

    Args:
        spec: The specification of the game.
        outputs: Number of outputs.
        hidden: Number of hidden units.
    """

    def __init__(self, spec: GameSpec, outputs: int, hidden: int = 64) -> None:
        super().__init__()
        self.spec = spec
        agents, inputs = spec.agents or spec.tasks, spec.features + spec.tasks
        self.mlps = nn.ModuleList(AgentMLP(agents, inputs, hidden, outputs) for _ in range(spec.depth))

    def forward(self, state: State) -> Tensor:
        """The outputs of the depth's MLP, float32 [B, outputs]."""
        x = torch.cat([state.v, F.one_hot(state.task, self.spec.tasks)], dim=1)
        return self.mlps[state.depth](x, acting_agent(state, self.spec))


class MLP(nn.Module):
    """One MLP per agent for all depths, on concat(v, one-hot t, one-hot i) (paper, section 3.1).

    Args:
        spec: The specification of the game.
        outputs: Number of outputs.
        hidden: Number of hidden units.
    """

    def __init__(self, spec: GameSpec, outputs: int, hidden: int = 64) -> None:
        super().__init__()
        self.spec = spec
        inputs = spec.features + spec.tasks + spec.depth
        self.mlp = AgentMLP(spec.agents or spec.tasks, inputs, hidden, outputs)

    def forward(self, state: State) -> Tensor:
        """The outputs, float32 [B, outputs]."""
        depth = torch.full_like(state.task, state.depth)
        one_hots = F.one_hot(state.task, self.spec.tasks), F.one_hot(depth, self.spec.depth)
        return self.mlp(torch.cat([state.v, *one_hots], dim=1), acting_agent(state, self.spec))


ROUTER_NETWORKS: dict[str, Callable[[GameSpec, int], nn.Module]] = {"mlp": MLP, "mlps": MLPs, "table": LookupTable}
"""Networks by the names that the option ``network`` takes."""
