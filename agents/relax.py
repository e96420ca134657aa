"""RELAX (Grathwohl, Choi, Wu, Roeder & Duvenaud, ICLR 2018): an unbiased gradient with a learned control variate."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from routing_env.agents.base import Rate
from routing_env.agents.gradient import OptimizerName, along_routes
from routing_env.agents.networks import Network, make_network
from routing_env.agents.policy_gradient import SoftmaxRouter, temperature_at, usual_rate
from routing_env.types import GameSpec, Trace


def conditional_perturbed(log_policy: Tensor, action: Tensor, uniform: Tensor) -> Tensor:
    """Perturbed log-probabilities given that their argmax is the action (their appendix C, for categorical variables).

    Args:
        log_policy: float32 [..., A], -inf for illegal actions.
        action: int64 [...].
        uniform: noise in [0, 1), float32 [..., A]; differentiable by ``log_policy`` with this held.
    """
    log_exponential = (-uniform.clamp(torch.finfo(uniform.dtype).tiny, 1 - torch.finfo(uniform.dtype).eps).log()).log()
    taken = action.unsqueeze(-1)
    greatest = log_exponential.gather(-1, taken)
    legal = log_policy.isfinite()
    smaller = torch.logaddexp(log_exponential - log_policy.where(legal, 0.0), greatest)
    return -smaller.scatter(-1, taken, greatest).where(legal, torch.inf)


def relax_gradient(
    log_policy: Tensor, action: Tensor, return_: Tensor, value: Tensor, uniform: Tensor, temperature: float
) -> Tensor:
    """Their equation 8: (R - c(z~)) d log pi(a) + d c(z) - d c(z~), with c(z) = sum_a Q(a) softmax(z / temperature)(a).

    z = log pi + Gumbel noise has its argmax at the action; z~ is drawn again under that condition. As only c looks at
    z, it too can be drawn after the action, under the same condition, and its noise held from there on.

    Args:
        log_policy: float32 [..., A], a leaf that requires a gradient, -inf for illegal actions.
        action: int64 [...].
        return_: R, float32 [...].
        value: Q of the control variate, float32 [..., A].
        uniform: two independent draws in [0, 1), float32 [2, ..., A].
        temperature: of the relaxation.

    Returns:
        An unbiased estimate of the gradient of the expected return by ``log_policy``, float32 [..., A], differentiable
        by ``value``.
    """

    def control(z: Tensor) -> Tensor:
        return (value * (z / temperature).softmax(-1)).sum(-1)

    held = log_policy.detach()
    noise = (conditional_perturbed(held, action, uniform[0]) - held).where(held.isfinite(), 0.0)
    again = control(conditional_perturbed(log_policy, action, uniform[1]))
    difference = control(log_policy + noise) - again
    (reparametrised,) = torch.autograd.grad(difference.sum(), log_policy, create_graph=True)
    return F.one_hot(action, log_policy.shape[-1]) * (return_ - again).unsqueeze(-1) + reparametrised


class RELAX(SoftmaxRouter):
    """Policy gradient whose control variate is trained to minimise the gradient's variance.

    Unlike Gumbel-softmax it takes the rewards, whatever they are, and needs no gate.

    Args:
        spec: of the game.
        seed: of weights and noise.
        network: of policy and control variate: "table", "mlps", "mlp", or one's own.
        temperature: of the relaxation.
        learning_rate: of the router; by default 0.05, for other networks than tables 0.003.
        optimizer: "adam" or "sgd".
        gamma: discount of the action rewards.
    """

    def __init__(
        self,
        spec: GameSpec,
        *,
        seed: int = 0,
        network: Network = "table",
        temperature: Rate = 0.5,
        learning_rate: Rate | None = None,
        optimizer: OptimizerName = "adam",
        gamma: float = 1.0,
    ) -> None:
        self.value = make_network(network, spec, spec.actions, seed + 1)
        super().__init__(
            spec,
            {"value": self.value},
            seed=seed,
            network=network,
            learning_rate=usual_rate(network) if learning_rate is None else learning_rate,
            optimizer=optimizer,
            gamma=gamma,
        )
        self.temperature = temperature

    def loss(self, trace: Trace) -> Tensor:
        """Its gradient is RELAX's for the policy, and the squared norm's of that for the control variate."""
        temperature = temperature_at(self.temperature, self.samples)
        log_policy, value = self.log_policy(trace), along_routes(self.value, trace.states)
        leaf = log_policy.detach().requires_grad_()
        noise = torch.rand((2, *leaf.shape), generator=self.generator, device=leaf.device)
        gradient = relax_gradient(leaf, trace.actions, trace.returns(self.gamma), value, noise, temperature)
        by_logits = gradient - leaf.detach().exp() * gradient.sum(-1, keepdim=True)
        ascent = gradient.detach() * log_policy.clamp_min(torch.finfo(log_policy.dtype).min)
        return by_logits.square().sum((1, 2)) - ascent.sum((1, 2))
