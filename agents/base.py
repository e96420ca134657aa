"""What routers share that draw their actions from a policy: who decides, how, and rates that change over time."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from routing_env.types import Decision, GameSpec, Router, State, Trace

Rate = float | Sequence[float]
"""A number, or (start, end, samples): linear from start to end over the first so many samples."""


def rate_at(rate: Rate, samples: int) -> float:
    """The value of a rate after so many samples.

    Raises:
        ValueError: a sequence that is not (start, end, samples).
    """
    if not isinstance(rate, Sequence):
        return float(rate)
    if isinstance(rate, str) or len(rate) != 3 or not rate[2] > 0:
        raise ValueError(f"rate is {rate!r}; it must be a number or (start, end, samples) with samples above 0")
    start, end, duration = rate
    return start + min(1.0, samples / duration) * (end - start)


def sum_of_losses(
    routers: Sequence[Router], seen: Callable[[Trace], Sequence[Trace]]
) -> Callable[[Trace], Tensor] | None:
    """The sum of the block losses of several routers; None where none has one.

    Args:
        routers: the parts of one.
        seen: from a deal to what each of them sees of it.
    """
    losses = [router.block_loss for router in routers]
    if not any(losses):
        return None

    def loss(trace: Trace) -> Tensor:
        pairs = zip(losses, seen(trace), strict=True)
        return torch.stack([own(part) for own, part in pairs if own is not None]).sum(0)

    return loss


def acting_agent(state: State, spec: GameSpec) -> Tensor:
    """Who decides for each lane (Figure 3): the dispatched agent, the single one, or the task's own; int64 [B].

    Raises:
        ValueError: several agents that are not the tasks', and nobody has dispatched.
    """
    if state.agent is not None:
        return state.agent
    if spec.agents is None:
        return state.task
    if spec.agents > 1:
        raise ValueError(f"{spec.agents} agents share the tasks and nobody dispatches; use topology='dispatched'")
    return torch.zeros_like(state.task)


def best_action(preference: Tensor, legal: Tensor) -> Tensor:
    """The most preferred legal action, int64 [B]; the first of equals."""
    return preference.masked_fill(~legal, -torch.inf).argmax(1)


def uniform(legal: Tensor) -> Tensor:
    """Equal probability for every legal action, float32 [..., A]."""
    return legal / legal.sum(-1, keepdim=True)


def epsilon_greedy(preference: Tensor, legal: Tensor, epsilon: float) -> Tensor:
    """Epsilon spread over the legal actions, the rest on the most preferred one, float32 [B, A].

    Raises:
        ValueError: epsilon outside [0, 1].
    """
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon is {epsilon}; it must be in [0, 1]")
    best = best_action(preference, legal).unsqueeze(1)
    spread = epsilon * uniform(legal)
    return spread.scatter_add(1, best, torch.full_like(best, 1 - epsilon, dtype=spread.dtype))


class PolicyRouter(Router):
    """Draws actions from a policy, with a generator of its own.

    Args:
        spec: of the game.
        seed: of exploration.

    Attributes:
        samples: that the router has learned from; rates go by it.
    """

    def __init__(self, spec: GameSpec, *, seed: int = 0) -> None:
        self.spec = spec
        self.agents = spec.agents or spec.tasks
        self.generator = torch.Generator(spec.device).manual_seed(seed)
        self.samples = 0

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
        """Draw from the policy, or take the most preferred legal action."""
        if greedy:
            return Decision(best_action(self.preference(state), state.legal))
        probability = self.probability(state)
        action = torch.multinomial(probability, 1, generator=self.generator).squeeze(1)
        return Decision(action, probability)

    def learn(self, trace: Trace) -> dict[str, float]:
        """Count the samples."""
        self.samples += len(trace.task)
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The generator and the count of samples."""
        return {"generator": self.generator.get_state(), "samples": self.samples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
        self.generator.set_state(state["generator"].cpu())
        self.samples = int(state["samples"])
