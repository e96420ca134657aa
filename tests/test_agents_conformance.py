"""Every router passes the check for third parties, and some also in other topologies and with other networks."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from routing_env.agents import ROUTERS, TopologyName, make_router
from routing_env.testing import check_router
from routing_env.types import Decision, GameSpec, Router, State

LEARNERS = sorted(set(ROUTERS) - {"oracle", "dispatched"})
NETWORKS = ["actor-critic", "relax", "sarsa-approx"]


@pytest.mark.parametrize("name", LEARNERS)
def test_router(name: str) -> None:
    check_router(partial(make_router, name))


@pytest.mark.parametrize("topology", ["single", "dispatched"])
@pytest.mark.parametrize("name", ["exp3", "gumbel-softmax", "sarsa-approx", "wpl"])
def test_topologies(name: str, topology: TopologyName) -> None:
    check_router(partial(make_router, name, topology=topology))


class Own(nn.Module):
    """A user's own network."""

    def __init__(self, spec: GameSpec, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(spec.features, outputs)

    def forward(self, state: State) -> Tensor:
        """Of v alone."""
        return self.linear(state.v)


@pytest.mark.parametrize("network", ["table", "mlp", Own])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str, network: object) -> None:
    check_router(partial(make_router, name, network=network))


def test_options() -> None:
    check_router(partial(make_router, "per-layer", routers=["wpl", "gumbel-softmax", "sarsa"]))
    check_router(partial(make_router, "dispatched", dispatcher="q-learning-approx", router="relax", agents=2))
    check_router(partial(make_router, "dispatched", dispatcher="gumbel-softmax", router="gumbel-softmax"))
    check_router(partial(make_router, "reinforce-approx", train_blocks=True, entropy=0.1, optimizer="sgd"))
    check_router(partial(make_router, "advantage-actor-critic", epsilon=[1.0, 0.1, 64], learning_rate=[0.1, 0.0, 64]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", LEARNERS)
def test_cuda(name: str) -> None:
    check_router(partial(make_router, name), device="cuda")


class Illegal(Router):
    """Always names the last action, which some depth does not have."""

    def __init__(self, spec: GameSpec, *, seed: int) -> None:
        self.last = spec.actions - 1

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """As the class says."""
        return Decision(torch.full_like(state.task, self.last))


class Forgetful(Router):
    """Draws at random and keeps its generator out of the checkpoint."""

    def __init__(self, spec: GameSpec, *, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """As the class says."""
        if greedy:
            return Decision(state.legal.int().argmax(1))
        return Decision(torch.multinomial(state.legal.float(), 1, generator=self.generator)[:, 0])


class Restless(Forgetful):
    """Draws when it should be greedy."""

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """As the class says."""
        return super().act(state)


class Unseeded(Forgetful):
    """Draws from torch's own generator."""

    def __init__(self, spec: GameSpec, *, seed: int) -> None:
        self.generator = torch.default_generator


class Unplain(Forgetful):
    """Keeps its generator in the checkpoint as an object."""

    def state_dict(self) -> dict[str, Any]:
        """As the class says."""
        return {"generator": self.generator}


@pytest.mark.parametrize(
    ("router", "complaint"),
    [
        (Illegal, "is illegal at depth"),
        (Forgetful, "plays on differently"),
        (Restless, "greedy evaluations in a row"),
        (Unseeded, "two routers of one seed .* torch.Generator of your own"),
        (Unplain, r"state_dict\(\)\['generator'\] is a Generator"),
    ],
)
def test_the_check_finds_faults(router: type[Router], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_router(router)
