"""Multi-task networks without a router, one per file: what a routed network must beat."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature
from typing import Any

from routing_env.baselines.base import Baseline, Plan, SizeOptions, count_parameters, equal_width, plan_beside
from routing_env.names import check_call, check_options, find_class, require
from routing_env.torch_settings import usual_torch

__all__ = [
    "BASELINES",
    "Baseline",
    "Plan",
    "SizeOptions",
    "baseline_class",
    "make_baseline",
    "plan_beside",
    "size_options",
]

TOLERANCE = 0.1
"""A network counts as equal in parameters if it has at most this share fewer."""

BASELINES: dict[str, str] = {
    "cagrad": "routing_env.baselines.cagrad:CAGrad",
    "cross_stitch": "routing_env.baselines.cross_stitch:CrossStitch",
    "dense": "routing_env.baselines.dense:Dense",
    "dselect_k": "routing_env.baselines.dselect_k:DSelectK",
    "ensemble": "routing_env.baselines.ensemble:Ensemble",
    "linear_heads": "routing_env.baselines.linear_heads:LinearHeads",
    "mgda": "routing_env.baselines.mgda:MGDA",
    "mmoe": "routing_env.baselines.mmoe:MMoE",
    "moe": "routing_env.baselines.moe:MoE",
    "mtan": "routing_env.baselines.mtan:MTAN",
    "nash_mtl": "routing_env.baselines.nash_mtl:NashMTL",
    "pcgrad": "routing_env.baselines.pcgrad:PCGrad",
    "ple": "routing_env.baselines.ple:PLE",
    "shared_trunk": "routing_env.baselines.shared_trunk:SharedTrunk",
    "soft_mixture": "routing_env.baselines.soft_mixture:SoftMixture",
    "soft_modularization": "routing_env.baselines.soft_modularization:SoftModularization",
    "task_grouping": "routing_env.baselines.task_grouping:TaskGrouping",
    "task_specific_1_fc": "routing_env.baselines.task_specific_1_fc:TaskSpecific1FC",
    "task_specific_all_fc": "routing_env.baselines.task_specific_all_fc:TaskSpecificAllFC",
    "uncertainty_weighting": "routing_env.baselines.uncertainty_weighting:UncertaintyWeighting",
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


def size_options(found: type[Baseline]) -> dict[str, object]:
    """The options of ``SizeOptions`` that a baseline takes, with their defaults.

    They are those that the class lists in ``sizes``, without any that its constructor has under the same name.
    """
    own = signature(found).parameters
    return {
        field.name: field.default
        for field in fields(SizeOptions)
        if field.name in found.sizes and field.name not in own
    }


@usual_torch()
def make_baseline(baseline: str | type[Baseline], plan: Plan, /, **options: Any) -> Baseline:
    """Build a baseline to compare with a routed network.

    Args:
        baseline: A key of ``BASELINES``, ``module:Class``, ``file.py:Class``, or the class itself.
        plan: The plan of the routed network.
        options: Options of the baseline, and those of ``SizeOptions``: ``depth``, ``width``, ``equal_parameters``.

    Raises:
        ValueError: Unknown baseline or option (the message suggests the closest match), a size out of range, a width
            that changes nothing, or ``equal_parameters`` together with ``width`` or where not even width 1 fits.
    """
    factory: Any = baseline_class(baseline)
    known = size_options(factory)
    size = SizeOptions(**{name: options.pop(name) for name in list(options) if name in known})
    check_options(f"baseline {baseline!r}", factory, options, besides=("plan",), also=known)
    check_call(f"baseline {baseline!r}", factory, "Class(plan, **options)", plan, **options)
    plan = plan.resized(depth=size.depth, width=size.width)
    require("equal_parameters", size.equal_parameters, size.equal_parameters in (False, True), "true or false")
    if not size.equal_parameters:
        width, wraps = size.width, "of" in options and plan.depth > 1
        if width is not None and wraps and equal_width(plan, lambda plan: factory(plan, **options)) is None:
            raise ValueError(
                f"width is {width}, which changes nothing in {baseline!r} of {options['of']!r}; leave it out"
            )
        return factory(plan, **options)
    if size.width is not None:
        raise ValueError(f"equal_parameters decides the width of {baseline!r}; leave out width={size.width}")
    width = equal_width(plan, lambda plan: factory(plan, **options))
    if width is None:
        raise ValueError(
            f"the size of {baseline!r} does not depend on the width at depth {plan.depth}, so equal_parameters cannot "
            "choose one; give depth=2 or more"
        )
    network: Baseline = factory(plan.resized(width=width), **options)
    parameters = count_parameters(network) - count_parameters(plan.stem)
    if parameters > plan.parameters:
        raise ValueError(
            f"{baseline!r} has {parameters:,} parameters at width 1, more than the {plan.parameters:,} of the "
            "routed layers, so equal_parameters cannot be met; give fewer layers, or the routed network more blocks"
        )
    if parameters < (1 - TOLERANCE) * plan.parameters:
        short = f"the largest width that fits is {width}: {parameters:,} of {plan.parameters:,} parameters"
        network.warning = f"{network.warning} {short}".strip()
    return network
