"""Agents that share tensors but not their steps: whoever is absent from a deal stays exactly as it was.

The networks of all agents are one module, whose parameters have the agents as their first axis, so that all of them are
applied at once. Each row still learns as if its agent were alone: from the mean over the agent's own lanes, and with a
state of the optimiser that counts only the deals in which the agent decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class PerAgent(Protocol):
    """A module that has parameters with one row per agent; give your own module this method.

    It may be a router's network or any part of one. Row n must influence the outputs of agent n's lanes only.
    """

    def agent_parameters(self) -> Iterable[nn.Parameter]:
        """The parameters of shape [agents, ...]."""
        ...


def agent_parameters(network: nn.Module, agents: int) -> list[nn.Parameter]:
    """The parameters with one row per agent in all parts of a network.

    Args:
        network: Any module; its parts declare their parameters as :class:`PerAgent` says.
        agents: Number of agents.

    Raises:
        ValueError: The first axis of a declared parameter is not the agents.
    """
    found = [p for part in network.modules() if isinstance(part, PerAgent) for p in part.agent_parameters()]
    for parameter in found:
        if not parameter.ndim or len(parameter) != agents:
            raise ValueError(
                f"agent_parameters gave a parameter of shape {list(parameter.shape)} for {agents} agents; the first "
                "axis must be the agents"
            )
    return list(dict.fromkeys(found))


def by_agent(values: Tensor, like: Tensor) -> Tensor:
    """One number per agent, float [agents], in a form that multiplies the rows of a tensor [agents, ...]."""
    return values.to(like.dtype).view(-1, *[1] * (like.ndim - 1))


class AgentAdam:
    """Adam (Kingma & Ba, 2015, Algorithm 1) with moments and a number of steps for every agent.

    Args:
        parameters: All of shape [agents, ...].
        agents: Number of agents.
        device: Device of the parameters.
        betas: Decay rates of the two moments.
        eps: Added to the root of the second moment.

    Attributes:
        steps: Steps that each agent has taken, int64 [agents].
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        agents: int,
        device: torch.device,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.steps = torch.zeros(agents, dtype=torch.int64, device=device)
        self._parameters = list(parameters)
        self._first = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._second = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._betas, self._eps = betas, eps

    @torch.no_grad()
    def step(self, present: Tensor, learning_rate: float) -> None:
        """Step the agents that are present; every number of the others keeps its bits.

        Args:
            present: bool [agents].
            learning_rate: alpha.
        """
        if not self._parameters:
            return
        self.steps += present
        taken = self.steps.clamp_min(1).double()  # an agent that has never been present divides by 1 - beta, not by 0
        gain = [(1 - beta) * present for beta in self._betas]
        bias = [1 - beta**taken for beta in self._betas]
        size, root = learning_rate * present / bias[0], bias[1].rsqrt()
        for parameter, first, second in zip(self._parameters, self._first, self._second, strict=True):
            gradient = parameter.grad
            if gradient is not None:
                first.lerp_(gradient, by_agent(gain[0], first))
                second.lerp_(gradient.square(), by_agent(gain[1], second))
                scale = second.sqrt().mul_(by_agent(root, second)).add_(self._eps)
                parameter.sub_(first.div(scale).mul_(by_agent(size, first)))

    def state_dict(self) -> dict[str, Any]:
        """The steps and the moments."""
        first, second = ([moment.clone() for moment in moments] for moments in (self._first, self._second))
        return {"steps": self.steps.clone(), "exp_avg": first, "exp_avg_sq": second}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`; the caller has checked that it fits."""
        self.steps.copy_(state["steps"])
        for name, moments in (("exp_avg", self._first), ("exp_avg_sq", self._second)):
            for moment, value in zip(moments, state[name], strict=True):
                moment.copy_(value)
