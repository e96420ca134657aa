"""PCGrad (Yu, Kumar, Gupta, Levine, Hausman & Finn, NeurIPS 2020): gradients without the parts that conflict."""

from __future__ import annotations

from torch import Tensor

from routing_env.baselines.gradient_methods import GradientMethod


class PCGrad(GradientMethod):
    """PCGrad: each task's gradient is projected onto the normal plane of every gradient that it conflicts with.

    For each task i, and the other tasks j in random order, g_i loses (g_i . g_j / |g_j|^2) g_j where g_i . g_j is
    negative (Yu et al., Algorithm 1). The step is the mean of what remains, weighted by the tasks' shares of the lanes;
    where no tasks conflict, it is the gradient of the mean loss. The order comes from PyTorch's own generator, which a
    run seeds and keeps in its checkpoint.

    Args:
        plan: The plan of the routed network.
        of: Name of the baseline whose network is trained, such as task_specific_1_fc, shared_trunk or dense.
    """

    def combine(self, gradients: Tensor, share: Tensor) -> Tensor:
        """Project, then sum the gradients weighted by the shares."""
        from torchjd import aggregation

        return aggregation.PCGrad()(share[:, None] * gradients)
