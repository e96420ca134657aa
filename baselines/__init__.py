"""Multi-task networks without a router, one per file: what a routed network must beat."""

from __future__ import annotations

from typing import Any

from routing_env.baselines.base import Baseline, Plan, plan_beside
from routing_env.names import check_call, check_options, find_class
from routing_env.torch_settings import usual_torch

__all__ = ["BASELINES", "Baseline", "Plan", "baseline_class", "make_baseline", "plan_beside"]

BASELINES: dict[str, str] = {
    "cross_stitch": "routing_env.baselines.cross_stitch:CrossStitch",
    "dense": "routing_env.baselines.dense:Dense",
    "mmoe": "routing_env.baselines.mmoe:MMoE",
    "shared_trunk": "routing_env.baselines.shared_trunk:SharedTrunk",
    "soft_mixture": "routing_env.baselines.soft_mixture:SoftMixture",
    "task_specific_1_fc": "routing_env.baselines.task_specific_1_fc:TaskSpecific1FC",
    "task_specific_all_fc": "routing_env.baselines.task_specific_all_fc:TaskSpecificAllFC",
}
"""References to the baseline classes by name."""


def baseline_class(baseline: str | type[Baseline]) -> type[Baseline]:
    """The class of a baseline.

    Args:
        baseline: A key of ``BASELINES``, ``module:Class``, ``file.py:Class``, or the class itself.

    Raises:
        ValueError: Unknown name (the message suggests the closest match), or not a baseline.
    """
    return find_class("baseline", baseline, BASELINES, Baseline)


@usual_torch()
def make_baseline(baseline: str | type[Baseline], plan: Plan, /, **options: Any) -> Baseline:
    """Build a baseline to compare with a routed network.

    Args:
        baseline: A key of ``BASELINES``, ``module:Class``, ``file.py:Class``, or the class itself.
        plan: The plan of the routed network.
        options: Options of the baseline.

    Raises:
        ValueError: Unknown baseline or option; the message suggests the closest match.
    """
    factory: Any = baseline_class(baseline)
    check_options(f"baseline {baseline!r}", factory, options, besides=("plan",))
    check_call(f"baseline {baseline!r}", factory, "Class(plan, **options)", plan, **options)
    return factory(plan, **options)
