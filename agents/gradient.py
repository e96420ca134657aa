"""What routers with networks share: their optimiser, and a softmax policy or an epsilon-greedy one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, Self, get_args

import torch
from torch import Tensor, nn

from routing_env.agents.base import PolicyRouter, Rate, acting_agent
from routing_env.agents.growth import enlarged
from routing_env.agents.networks import ROUTER_NETWORKS, RouterNetwork
from routing_env.agents.per_agent import AgentAdam, agent_parameters, by_agent
from routing_env.agents.policies import epsilon_greedy
from routing_env.agents.samples import of_taken
from routing_env.names import find
from routing_env.search_space import Choices, SearchSpace
from routing_env.state_dicts import SomeOf, like_optimizer, load_optimizer
from routing_env.types import Decision, GameSpec, State, Trace

OptimizerName = Literal["adam", "sgd"]


def legal_actions(trace: Trace) -> Tensor:
    """The legal actions along the routes, bool [B, D, A]."""
    return torch.stack([state.legal for state in trace.states], dim=1)


def along_routes(network: nn.Module, states: tuple[State, ...]) -> Tensor:
    """A network's outputs for every state of the routes, float32 [B, D, outputs]."""
    return torch.stack([network(state) for state in states], dim=1)


def log_softmax(logits: Tensor, legal: Tensor) -> Tensor:
    """Log pi over the legal actions, float32 [..., A]; -inf for the others."""
    return logits.masked_fill(~legal, -torch.inf).log_softmax(-1)


def categorical_entropy(log_policy: Tensor) -> Tensor:
    """-sum_a pi(a) log pi(a), from [..., A] to [...]; illegal actions contribute 0."""
    return -(log_policy.exp() * log_policy.clamp_min(torch.finfo(log_policy.dtype).min)).sum(-1)


def policy_gradient_loss(log_probability: Tensor, weight: Tensor) -> Tensor:
    """-weight log pi(a), whose gradient is that of Williams (1992); the weight is held constant.

    Args:
        log_probability: Of the actions taken, float32 [B, D].
        weight: Returns, values or advantages, float32 [B, D].

    Returns:
        float32 [B], summed over depth.
    """
    return -(weight.detach() * log_probability).sum(-1)


@dataclass(eq=False, kw_only=True)
class GradientRouter(PolicyRouter):
    """A router that minimises a loss, with one step of its optimisers per deal.

    Parameters with one row per agent (:class:`~routing_env.agents.per_agent.PerAgent` says how a network declares
    them) learn agent by agent: an agent minimises the mean loss of its own lanes, with its own optimiser state, and
    does not move in a deal in which it has no lane. All other parameters are shared and minimise the mean over all
    lanes.

    A subclass creates its networks in ``__post_init__`` by :meth:`add_network`. ``gamma`` and ``train_blocks`` are
    options only of the subclasses that declare them again.

    Attributes:
        networks: The networks by name; all of them are trained.
    """

    network: RouterNetwork = "mlps"
    """Network of the router: "table" over task and depth; "mlps", an MLP for each depth; "mlp", one with the depth as a
    further input; or your own as ``module:Class``, ``file.py:Class`` or a function."""
    learning_rate: Rate | None = None
    """Learning rate of the router, separate from that of the blocks; defaults to 0.05 for tables and to 0.003 for other
    networks."""
    optimizer: OptimizerName = "adam"
    """Optimiser of the router: "adam" or "sgd"."""
    gamma: float = field(default=1.0, init=False)
    """Discount of the action rewards; the final reward is not discounted."""
    train_blocks: bool = field(default=False, init=False)
    """Whether the router's loss also trains the blocks, which its gradient reaches through v (paper, section 3.1.2)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("optimizer", get_args(OptimizerName))
        self.check_numbers("in [0, 1]", "gamma")
        if self.learning_rate is not None:
            self.check_rates("at least 0", "learning_rate")
        if self.train_blocks and self.network == "table":
            raise ValueError("train_blocks is True beside network 'table', which does not see v; use network='mlps'")
        self.networks = nn.ModuleDict()
        self._agent_parameters: list[nn.Parameter] = []

    def add_network(self, name: str, outputs: int) -> nn.Module:
        """Create one of the networks; the n-th one starts from seed + n, so that their weights differ.

        Args:
            name: The key in ``networks``.
            outputs: Number of outputs per lane.

        Raises:
            ValueError: Unknown network (the message suggests the closest match), or one that declares parameters by
                ``agent_parameters`` whose first axis is not the agents.
        """
        factory: Callable[..., nn.Module] = find("network of a router", self.network, ROUTER_NETWORKS)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + len(self.networks))
            self.networks[name] = network = factory(self.spec, outputs).to(self.spec.device)
        own = agent_parameters(network, self.agents)
        if self.agents > 1:  # a single agent has every lane of every deal: its parameters are shared by all
            self._agent_parameters += own
        return network

    @cached_property
    def _agent_adam(self) -> AgentAdam:
        """Adam of the parameters with one row per agent; SGD has no state, so that one optimiser can step them all."""
        own = self._agent_parameters if self.optimizer == "adam" else []
        return AgentAdam(own, self.agents, self.spec.device)

    @cached_property
    def _optimizer(self) -> torch.optim.Optimizer:
        """The optimiser of the other parameters."""
        if self.optimizer == "sgd":
            return torch.optim.SGD(self.networks.parameters())
        own = set(self._agent_parameters)
        shared = [parameter for parameter in self.networks.parameters() if parameter not in own]
        return torch.optim.Adam([{"params": shared}])  # a group may be empty, a list of parameters may not

    @abstractmethod
    def loss(self, trace: Trace) -> Tensor:
        """The loss to minimise, float32 [B]."""
        ...

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """As the base; a greedy choice runs the networks in evaluation mode."""
        self.set_mode(train=not greedy)
        return super().act(state, greedy=greedy)

    def learn(self, trace: Trace) -> dict[str, float]:
        """Take one step on the loss of the deal.

        Raises:
            FloatingPointError: The loss is not finite. Nothing has been changed.
        """
        self.set_mode(train=True)
        self.networks.zero_grad()
        loss = self.loss(trace).mean()
        value = loss.item()
        if not abs(value) < torch.inf:
            raise FloatingPointError(f"the router's loss is {value}: lower its learning_rate")
        loss.backward()
        self.descend(trace)
        super().learn(trace)
        return {"loss": value}

    def set_mode(self, *, train: bool) -> None:
        """Put the networks in training or evaluation mode."""
        if self.networks.training != train:
            self.networks.train(train)

    def descend(self, trace: Trace) -> None:
        """Step along the gradients of the deal's mean loss, at the present learning rate."""
        lanes = torch.bincount(acting_agent(trace.states[0], self.spec), minlength=self.agents)
        own_mean = lanes.sum() / lanes.clamp_min(1)  # turns the gradient of the mean over all lanes into that over own
        for parameter in self._agent_parameters:
            if parameter.grad is not None:
                parameter.grad *= by_agent(own_mean, parameter)
        usual = 0.05 if self.network == "table" else 0.003
        rate = self.now(usual if self.learning_rate is None else self.learning_rate)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._agent_adam.step(lanes > 0, rate)

    @property
    def block_loss(self) -> Callable[[Trace], Tensor] | None:
        """The loss, if ``train_blocks`` is set."""
        return self.loss if self.train_blocks else None

    def state_dict(self) -> dict[str, Any]:
        """As the base, with the networks and the optimisers."""
        return {
            **super().state_dict(),
            "networks": {name: value.clone() for name, value in self.networks.state_dict().items()},
            "optimizer": _by_parameter(self._optimizer.state_dict()["state"]),
            "agent_optimizer": self._agent_adam.state_dict(),
        }

    def fitting_state(self) -> dict[str, Any]:
        """As the base; parameters that have not been stepped yet have no state in the optimiser."""
        rows = like_optimizer(self._optimizer)["state"].like
        return {**super().fitting_state(), "optimizer": SomeOf(_by_parameter(rows))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from :meth:`state_dict`."""
        super().load_state_dict(state)
        self.networks.load_state_dict(state["networks"])
        rows = {int(i): {name: value.clone() for name, value in row.items()} for i, row in state["optimizer"].items()}
        load_optimizer(self._optimizer, {**self._optimizer.state_dict(), "state": rows})
        self._agent_adam.load_state_dict(state["agent_optimizer"])

    def grow(self, spec: GameSpec) -> Self:
        """As the base, with the weights of the known agents and what the optimisers know of them.

        A parameter may grow along its first axis, by agents, and along its second axis, by the inputs of further tasks,
        which :func:`~routing_env.agents.growth.enlarged` inserts behind v and the one-hot of the known tasks.

        Raises:
            NotImplementedError: A network of your own grows in another way.
        """
        grown = super().grow(spec)
        place = self.spec.features + self.spec.tasks
        fresh = grown.networks.state_dict()
        state = self.networks.state_dict()
        grown.networks.load_state_dict({name: enlarged(state[name], fresh[name], place) for name in state})
        new_of: dict[Tensor, nn.Parameter] = dict(
            zip(self.networks.parameters(), grown.networks.parameters(), strict=True)
        )
        own = set(grown._agent_parameters)
        for old, known in self._optimizer.state.items():
            new = new_of[old]
            if new not in own or self.optimizer == "sgd":
                grown._optimizer.state[new] = {
                    name: enlarged(value, torch.zeros_like(new), place) if value.shape == old.shape else value.clone()
                    for name, value in known.items()
                }
        if self.optimizer == "adam":
            grown._agent_adam.load_state_dict(self._grown_moments(grown, place))
        return grown

    def _grown_moments(self, grown: GradientRouter, place: int) -> dict[str, Any]:
        """What the optimiser of further agents knows of the present ones."""
        state = grown._agent_adam.state_dict()
        known = self._agent_adam.state_dict()
        if self.agents == 1 and grown.agents > 1:  # the only agent was stepped by the optimiser of shared parameters
            alone = [p for network in self.networks.values() for p in agent_parameters(network, 1)]
            rows = [self._optimizer.state[p] for p in alone if p in self._optimizer.state]
            if len(rows) < len(alone):  # it has not been stepped yet
                return state
            known = {name: [row[name] for row in rows] for name in ("exp_avg", "exp_avg_sq")}
            known["steps"] = rows[0]["step"].to(state["steps"]).view(1) if rows else state["steps"][:1]
        state["steps"][: len(known["steps"])] = known["steps"]
        for name in ("exp_avg", "exp_avg_sq"):
            state[name] = [enlarged(*pair, place) for pair in zip(known[name], state[name], strict=True)]
        return state


def _by_parameter(rows: Mapping[int, Mapping[str, Tensor | None]]) -> dict[str, dict[str, Tensor]]:
    """The state of an optimiser for each parameter, with strings as keys."""
    return {
        str(i): {name: value.clone() for name, value in row.items() if value is not None} for i, row in rows.items()
    }


@dataclass(eq=False, kw_only=True)
class SoftmaxRouter(GradientRouter):
    """Draws from softmax(logits) over the legal actions.

    Attributes:
        policy: The network of the logits.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.policy = self.add_network("policy", self.spec.actions)

    def probability(self, state: State) -> Tensor:
        """The softmax policy."""
        return log_softmax(self.preference(state), state.legal).exp()

    def preference(self, state: State) -> Tensor:
        """The logits."""
        return self.policy(state)

    def log_policy(self, trace: Trace) -> Tensor:
        """Log pi along the routes, float32 [B, D, A]."""
        return log_softmax(along_routes(self.policy, trace.states), legal_actions(trace))


@dataclass(eq=False, kw_only=True)
class PolicyGradientRouter(SoftmaxRouter):
    """A softmax router that follows the policy gradient, and may keep exploring by entropy or epsilon."""

    gamma: float = 1.0
    train_blocks: bool = False
    entropy: float = 0.0
    """Weight of the policy's entropy in the loss."""
    epsilon: Rate | None = None
    """None draws from the policy. A rate takes the most probable action instead, and with probability epsilon a
    uniformly random one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_numbers("at least 0", "entropy")
        if self.epsilon is not None:
            self.check_rates("in [0, 1]", "epsilon")

    def probability(self, state: State) -> Tensor:
        """The softmax policy, or the epsilon-greedy one."""
        if self.epsilon is None:
            return super().probability(state)
        return epsilon_greedy(self.preference(state), state.legal, self.now(self.epsilon))


@dataclass(eq=False, kw_only=True)
class ValueNetworkRouter(GradientRouter):
    """Epsilon-greedy on the values of all actions, which learn by the squared TD error.

    Attributes:
        value: The network of the values.
    """

    space: ClassVar[SearchSpace] = {"learning_rate": Choices((0.0003, 0.001, 0.003, 0.01))}

    learning_rate: Rate | None = 1e-3
    """Learning rate of the router, separate from that of the blocks."""
    gamma: float = 1.0
    train_blocks: bool = False
    epsilon: Rate = (1.0, 0.02, 20_000)
    """Probability of a uniformly random legal action."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rates("in [0, 1]", "epsilon")
        self.value = self.add_network("value", self.spec.actions)

    def probability(self, state: State) -> Tensor:
        """The epsilon-greedy policy."""
        return epsilon_greedy(self.preference(state), state.legal, self.now(self.epsilon))

    def preference(self, state: State) -> Tensor:
        """The values."""
        return self.value(state)

    @abstractmethod
    def target(self, value: Tensor, trace: Trace, legal: Tensor) -> Tensor:
        """What the values of the actions taken should be.

        Args:
            value: Values of all actions along the routes, float32 [B, D, A].
            trace: The deal.
            legal: bool [B, D, A].

        Returns:
            float32 [B, D].
        """
        ...

    def loss(self, trace: Trace) -> Tensor:
        """Half the squared error between the values of the actions taken and their targets, summed over depth."""
        value = along_routes(self.value, trace.states)
        target = self.target(value.detach(), trace, legal_actions(trace))
        return (target - of_taken(value, trace.actions)).square().sum(1) / 2
