"""What represents a policy or its values: tables, MLPs, or a module of one's own, for all agents at once.

Each is an ``nn.Module`` from a :class:`~routing_env.types.State` to float32 [B, outputs], built as
``Network(spec, outputs)``. The output layers start at zero: policies start uniform and values at 0, as tables do.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from routing_env.agents.base import acting_agent
from routing_env.names import import_object, look_up
from routing_env.types import GameSpec, State

Network = str | Callable[[GameSpec, int], nn.Module]
"""A key of ``NETWORKS``, a ``module:Class``, or a function of the game and the number of outputs."""


class Table(nn.Module):
    """One row per agent and depth; v and t are not seen (paper, Table 3, "tabular").

    Args:
        spec: of the game.
        outputs: numbers per row.
    """

    def __init__(self, spec: GameSpec, outputs: int) -> None:
        super().__init__()
        self.spec = spec
        self.table = nn.Parameter(torch.zeros(spec.agents or spec.tasks, spec.depth, outputs))

    def forward(self, state: State) -> Tensor:
        """The rows, float32 [B, outputs]."""
        return self.table[acting_agent(state, self.spec), state.depth]


class AgentMLP(nn.Module):
    """One two-layer MLP per agent, all of them applied at once.

    Args:
        agents: how many.
        inputs: width.
        hidden: width.
        outputs: width.
    """

    def __init__(self, agents: int, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / sqrt(inputs)
        self.weight1 = nn.Parameter(torch.empty(agents, inputs, hidden).uniform_(-bound, bound))
        self.bias1 = nn.Parameter(torch.empty(agents, 1, hidden).uniform_(-bound, bound))
        self.weight2 = nn.Parameter(torch.zeros(agents, hidden, outputs))
        self.bias2 = nn.Parameter(torch.zeros(agents, 1, outputs))

    def forward(self, x: Tensor, agent: Tensor) -> Tensor:
        """Each row through its agent's MLP.

        Args:
            x: float32 [B, inputs].
            agent: int64 [B].

        Returns:
            float32 [B, outputs].
        """
        agents = len(self.weight1)
        place = _place_within_agent(agent, agents)
        rows = x.new_zeros(agents, int(place.max()) + 1, x.shape[1])
        rows = rows.index_put((agent, place), x)
        hidden = torch.baddbmm(self.bias1, rows, self.weight1).relu()
        return torch.baddbmm(self.bias2, hidden, self.weight2)[agent, place]


def _place_within_agent(agent: Tensor, agents: int) -> Tensor:
    """How many lanes before each one have the same agent, int64 [B]."""
    order = torch.argsort(agent, stable=True)
    counts = torch.bincount(agent, minlength=agents)
    first = counts.cumsum(0) - counts
    place = torch.empty_like(order)
    place[order] = torch.arange(len(agent), device=agent.device) - first[agent[order]]
    return place


class MLPs(nn.Module):
    """Per agent one MLP for each depth, on concat(v, one-hot t) (paper, section 7.3).

    Args:
        spec: of the game.
        outputs: width.
        hidden: width.
    """

    def __init__(self, spec: GameSpec, outputs: int, hidden: int = 64) -> None:
        super().__init__()
        self.spec = spec
        agents, inputs = spec.agents or spec.tasks, spec.features + spec.tasks
        self.mlps = nn.ModuleList(AgentMLP(agents, inputs, hidden, outputs) for _ in range(spec.depth))

    def forward(self, state: State) -> Tensor:
        """The depth's MLP, float32 [B, outputs]."""
        x = torch.cat([state.v, F.one_hot(state.task, self.spec.tasks)], dim=1)
        return self.mlps[state.depth](x, acting_agent(state, self.spec))


class MLP(nn.Module):
    """Per agent one MLP for all depths, on concat(v, one-hot t, one-hot i) (paper, section 3.1).

    Args:
        spec: of the game.
        outputs: width.
        hidden: width.
    """

    def __init__(self, spec: GameSpec, outputs: int, hidden: int = 64) -> None:
        super().__init__()
        self.spec = spec
        inputs = spec.features + spec.tasks + spec.depth
        self.mlp = AgentMLP(spec.agents or spec.tasks, inputs, hidden, outputs)

    def forward(self, state: State) -> Tensor:
        """float32 [B, outputs]."""
        depth = torch.full_like(state.task, state.depth)
        one_hots = F.one_hot(state.task, self.spec.tasks), F.one_hot(depth, self.spec.depth)
        return self.mlp(torch.cat([state.v, *one_hots], dim=1), acting_agent(state, self.spec))


NETWORKS: dict[str, Callable[[GameSpec, int], nn.Module]] = {"mlp": MLP, "mlps": MLPs, "table": Table}


def make_network(network: Network, spec: GameSpec, outputs: int, seed: int) -> nn.Module:
    """Build a network for a game; the same seed gives the same weights.

    Raises:
        ValueError: an unknown name.
    """
    factory: Any = network
    if isinstance(network, str):
        factory = import_object(network) if ":" in network else look_up("network of a router", network, NETWORKS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return factory(spec, outputs).to(spec.device)
