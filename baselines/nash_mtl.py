"""Nash-MTL (Navon et al., ICML 2022): the step that the tasks agree on in a bargaining game."""

from __future__ import annotations

import torch
from torch import Tensor

from routing_env.baselines.gradient_methods import GradientMethod

_RIDGE = 1e-9
"""Added to the diagonal of the cosines, so that there is a solution where gradients cancel exactly."""


class NashMTL(GradientMethod):
    """Nash-MTL: the direction is the Nash bargaining solution, which maximises the product of the tasks' improvements.

    It is the sum of a_t g_t, where the weights of the gradients, the rows of R, solve R R' a = 1 / a (Navon et al.,
    claim 3.1). It depends neither on the length of any gradient nor on the number of lanes of a task. The paper leaves
    the length of the step at the square root of the number of tasks, whatever the gradients are; here it is the length
    of the gradient of the mean loss. A task whose gradient is zero does not bargain.

    The weights are computed here and not by torchjd, whose solver has no wheels for Python 3.13, refuses a deal of one
    task, and approximates them by a sequence of convex problems. :func:`bargaining_weights` is exact.

    Args:
        plan: The plan of the routed network.
        of: Name of the baseline whose network is trained, such as task_specific_1_fc, shared_trunk or dense.
    """

    def combine(self, gradients: Tensor, share: Tensor) -> Tensor:
        """Bargain over the direction."""
        mean = share @ gradients
        rows = gradients[gradients.norm(dim=1) > 0]
        if not len(rows):
            return mean
        unit = rows / rows.norm(dim=1, keepdim=True)  # R R' a = 1 / a for these is the same up to the weights' scale
        direction = bargaining_weights((unit @ unit.t()).double().cpu()).to(rows) @ unit
        return direction * (mean.norm() / direction.norm().clamp_min(torch.finfo(rows.dtype).tiny))


def bargaining_weights(gram: Tensor) -> Tensor:
    """The a > 0 with G a = 1 / a, by Newton's method on the convex function a'Ga / 2 - sum log a.

    The function is self-concordant, so damped steps converge from any start (Nesterov & Nemirovskii, 1994).

    Args:
        gram: float64 [m, m], G: inner products of unit vectors.

    Returns:
        float64 [m].
    """
    gram = gram + _RIDGE * torch.eye(len(gram), dtype=gram.dtype)
    a = torch.ones(len(gram), dtype=gram.dtype)
    for _ in range(100):
        slope = gram @ a - 1 / a
        step = torch.linalg.solve(gram + (1 / a.square()).diag(), slope)
        decrement = (slope @ step).clamp_min(0).sqrt()
        a = a - (step / (1 + decrement) if decrement > 0.25 else step)
        if decrement < 1e-9:
            break
    return a
