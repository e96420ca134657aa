"""RELAX (Grathwohl, Choi, Wu, Roeder & Duvenaud, ICLR 2018): an unbiased gradient with a learned control variate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from routing_env.agents.base import Rate
from routing_env.agents.gradient import SoftmaxRouter, along_routes
from routing_env.agents.networks import RouterNetwork
from routing_env.search_space import Choices, SearchSpace
from routing_env.types import Trace


def conditional_perturbed(log_policy: Tensor, action: Tensor, noise: Tensor) -> Tensor:
    """Perturbed log-probabilities, given that their argmax is the action (appendix C of the source, categorical case).

    Args:
        log_policy: float32 [..., A], -inf for illegal actions.
        action: int64 [...].
        noise: Uniform noise in [0, 1), float32 [..., A].

    Returns:
        float32 [..., A], differentiable by ``log_policy`` for fixed noise.
    """
    tiny, eps = torch.finfo(noise.dtype).tiny, torch.finfo(noise.dtype).eps
    log_exponential = (-noise.clamp(tiny, 1 - eps).log()).log()
    taken = action.unsqueeze(-1)
    greatest = log_exponential.gather(-1, taken)
    legal = log_policy.isfinite()
    smaller = torch.logaddexp(log_exponential - log_policy.where(legal, 0.0), greatest)
    return -smaller.scatter(-1, taken, greatest).where(legal, torch.inf)


def relax_gradient(
    log_policy: Tensor, action: Tensor, return_: Tensor, value: Tensor, noise: Tensor, temperature: float
) -> Tensor:
    """Equation 8 of the source, with the control variate c(z) = sum_a Q(a) softmax(z / temperature)(a).

    The estimate is (R - c(z~)) d log pi(a) + d c(z) - d c(z~). Here z = log pi + Gumbel noise has its argmax at the
    action, and z~ is drawn again under this condition. Since only c depends on z, it can also be drawn after the
    action, under the same condition, with its noise held fixed from then on.

    Args:
        log_policy: float32 [..., A], a leaf that requires a gradient, -inf for illegal actions.
        action: int64 [...].
        return_: R, float32 [...].
        value: Q of the control variate, float32 [..., A].
        noise: Two independent draws of uniform noise in [0, 1), float32 [2, ..., A].
        temperature: Temperature of the relaxation.

    Returns:
        An unbiased estimate of the gradient of the expected return with respect to ``log_policy``, float32 [..., A],
        differentiable by ``value``.
    """

    def control(z: Tensor) -> Tensor:
        return (value * (z / temperature).softmax(-1)).sum(-1)

    held = log_policy.detach()
    perturbation = (conditional_perturbed(held, action, noise[0]) - held).where(held.isfinite(), 0.0)
    again = control(conditional_perturbed(log_policy, action, noise[1]))
    difference = control(log_policy + perturbation) - again
    (reparametrised,) = torch.autograd.grad(difference.sum(), log_policy, create_graph=True)
    return F.one_hot(action, log_policy.shape[-1]) * (return_ - again).unsqueeze(-1) + reparametrised


@dataclass(eq=False, kw_only=True)
class RELAX(SoftmaxRouter):
    """RELAX: a policy gradient whose control variate is trained to minimise the variance of the gradient.

    Unlike Gumbel-softmax it uses the rewards, whatever they are, and needs no gate.

    Attributes:
        value: The network of the control variate's Q.
    """

    space: ClassVar[SearchSpace] = {"learning_rate": Choices((0.01, 0.02, 0.05, 0.1, 0.2))}

    network: RouterNetwork = "table"
    gamma: float = 1.0
    temperature: Rate = 0.5
    """Temperature of the relaxation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_rates("above 0", "temperature")
        self.value = self.add_network("value", self.spec.actions)

    def loss(self, trace: Trace) -> Tensor:
        """A loss whose gradient is RELAX's for the policy, and that of the squared norm for the control variate."""
        log_policy, value = self.log_policy(trace), along_routes(self.value, trace.states)
        leaf = log_policy.detach().requires_grad_()
        noise = torch.rand((2, *leaf.shape), generator=self.generator, device=leaf.device)
        temperature, return_ = self.now(self.temperature), trace.returns(self.gamma)
        gradient = relax_gradient(leaf, trace.actions, return_, value, noise, temperature)
        by_logits = gradient - leaf.detach().exp() * gradient.sum(-1, keepdim=True)
        ascent = gradient.detach() * log_policy.clamp_min(torch.finfo(log_policy.dtype).min)
        return by_logits.square().sum((1, 2)) - ascent.sum((1, 2))
