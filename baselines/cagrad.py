"""CAGrad (Liu, Liu, Jin, Stone & Liu, NeurIPS 2021): the best step for the worst-off task near the mean gradient."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from routing_env.baselines.base import Plan
from routing_env.baselines.gradient_methods import GradientMethod
from routing_env.names import is_number, require
from routing_env.search_space import Choices, SearchSpace


class CAGrad(GradientMethod):
    """CAGrad: the step d that maximises the least improvement of a task, no further than c |g_0| from the mean g_0.

    g_0 is the gradient of the mean loss over all lanes, and d maximises the minimum over tasks of r_t . d, where r_t is
    the gradient of task t times m times its share of the lanes, so that g_0 is the mean of the m gradients r_t
    (Liu et al., equation 1 and Algorithm 1). As in that algorithm, d is not rescaled: where no tasks conflict it is up
    to 1 + c times as long as g_0.

    Args:
        plan: The plan of the routed network.
        c: Radius of the ball around g_0 that d is chosen from, as a multiple of |g_0|. At 0 the step is g_0, and below
            1 the method converges to a stationary point of the mean loss.
        of: Name of the baseline whose network is trained, such as task_specific_1_fc, shared_trunk or dense.

    Raises:
        ValueError: ``c`` is negative.
    """

    space: ClassVar[SearchSpace] = {"c": Choices((0.2, 0.5, 0.8))}

    def __init__(self, plan: Plan, *, c: float = 0.5, of: str = "task_specific_1_fc") -> None:
        require("c", c, is_number(c, "at least 0"), "at least 0")
        super().__init__(plan, of=of)
        self._c = float(c)

    def combine(self, gradients: Tensor, share: Tensor) -> Tensor:
        """Solve for d."""
        from torchjd import aggregation

        rows = len(share) * share[:, None] * gradients
        norm = rows.norm()
        if not norm > 0:
            return torch.zeros_like(rows[0])
        return norm * aggregation.CAGrad(self._c)(rows / norm)  # torchjd takes short gradients for zero
