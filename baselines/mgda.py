"""MGDA (Sener & Koltun, NeurIPS 2018; Désidéri, 2012): the shortest convex combination of the tasks' gradients."""

from __future__ import annotations

from torch import Tensor

from routing_env.baselines.gradient_methods import GradientMethod


class MGDA(GradientMethod):
    """MGDA: the step is the point of least norm in the convex hull of the tasks' gradients.

    It lowers the loss of every task of the deal, or is zero where that is impossible (Sener & Koltun, equation 3, by
    the Frank-Wolfe solver of their Algorithm 2). The gradients are those of the mean loss of each task, whatever the
    number of its lanes; the weights sum to 1. Small gradients dominate, so the step is shorter than that of the
    mean loss and may need a larger learning rate.

    Args:
        plan: The plan of the routed network.
        of: Name of the baseline whose network is trained, such as task_specific_1_fc, shared_trunk or dense.
    """

    def combine(self, gradients: Tensor, share: Tensor) -> Tensor:
        """The point of least norm; it does not depend on the shares."""
        from torchjd import aggregation

        return aggregation.MGDA()(gradients)
