"""What routers share that learn by gradients: networks, an optimiser and a learning rate of their own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from routing_env.agents.base import PolicyRouter, Rate, rate_at
from routing_env.types import Decision, GameSpec, State, Trace

OptimizerName = Literal["adam", "sgd"]


class GradientRouter(PolicyRouter):
    """Minimises a loss over the samples of a deal, with one step of its optimiser per deal.

    Args:
        spec: of the game.
        networks: by name; all of them are trained.
        seed: of exploration.
        optimizer: "adam" or "sgd".
        learning_rate: of the router, apart from that of the blocks.
        gamma: discount of the action rewards.
        train_blocks: add this loss to the blocks' own, so that its gradient reaches them through v (section 3.1.2).

    Raises:
        ValueError: an unknown optimiser.
    """

    def __init__(
        self,
        spec: GameSpec,
        networks: Mapping[str, nn.Module],
        *,
        seed: int,
        optimizer: OptimizerName,
        learning_rate: Rate,
        gamma: float = 1.0,
        train_blocks: bool = False,
    ) -> None:
        super().__init__(spec, seed=seed)
        if optimizer not in ("adam", "sgd"):
            raise ValueError(f"optimizer is {optimizer!r}; it must be 'adam' or 'sgd'")
        self.networks = nn.ModuleDict(networks)
        self.learning_rate = learning_rate
        self.gamma = gamma
        self.train_blocks = train_blocks
        kind = torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
        self.optimizer = kind(self.networks.parameters(), lr=rate_at(learning_rate, 0))

    @abstractmethod
    def loss(self, trace: Trace) -> Tensor:
        """What is minimised, float32 [B]."""
        ...

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """As usual; a greedy choice takes the networks in evaluation mode."""
        self.set_mode(train=not greedy)
        return super().act(state, greedy=greedy)

    def learn(self, trace: Trace) -> dict[str, float]:
        """One step on the mean loss of the deal.

        Raises:
            FloatingPointError: the loss is not finite; nothing has been changed.
        """
        self.set_mode(train=True)
        self.optimizer.zero_grad()
        loss = self.loss(trace).mean()
        value = loss.item()
        if not abs(value) < torch.inf:
            raise FloatingPointError(f"the router's loss is {value}: lower its learning_rate")
        loss.backward()
        self.step()
        super().learn(trace)
        return {"loss": value}

    def set_mode(self, *, train: bool) -> None:
        """The networks in training or evaluation mode."""
        if self.networks.training != train:
            self.networks.train(train)

    def step(self) -> None:
        """Step the optimiser at the rate that is due."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.learning_rate, self.samples)
        self.optimizer.step()

    @property
    def block_loss(self) -> Callable[[Trace], Tensor] | None:
        """The loss itself, with ``train_blocks``."""
        return self.loss if self.train_blocks else None

    def state_dict(self) -> dict[str, Any]:
        """Networks and optimiser as well."""
        state: Mapping[int, dict[str, Tensor | None]] = self.optimizer.state_dict()["state"]
        return {
            **super().state_dict(),
            "networks": {name: value.clone() for name, value in self.networks.state_dict().items()},
            "optimizer": {
                str(i): {name: value.clone() for name, value in row.items() if value is not None}
                for i, row in state.items()
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back networks and optimiser as well."""
        super().load_state_dict(state)
        self.networks.load_state_dict(state["networks"])
        rows = {int(i): {name: value.clone() for name, value in row.items()} for i, row in state["optimizer"].items()}
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": rows})


def legal_actions(trace: Trace) -> Tensor:
    """Legality along the routes, bool [B, D, A]."""
    return torch.stack([state.legal for state in trace.states], dim=1)


def along_routes(network: nn.Module, states: tuple[State, ...]) -> Tensor:
    """What a network says of every state of the routes, float32 [B, D, outputs]."""
    return torch.stack([network(state) for state in states], dim=1)


def of_taken(values: Tensor, actions: Tensor) -> Tensor:
    """The entries of the actions taken, from [..., A] and int64 [...] to [...]."""
    return values.gather(-1, actions.unsqueeze(-1)).squeeze(-1)
