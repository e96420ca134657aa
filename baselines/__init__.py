"""Multi-task networks without a router, one per file, by name: what a routed network must beat."""

from __future__ import annotations

import inspect
from typing import Any

from routing_env.baselines.base import Baseline, Plan
from routing_env.names import import_object, look_up, suggestion

__all__ = ["BASELINES", "Baseline", "Plan", "baseline_class", "make_baseline"]

BASELINES: dict[str, str] = {
    "all_shared": "routing_env.baselines.all_shared:AllShared",
    "cross_stitch": "routing_env.baselines.cross_stitch:CrossStitch",
    "dense": "routing_env.baselines.dense:Dense",
    "mmoe": "routing_env.baselines.mmoe:MMoE",
    "soft_mixture": "routing_env.baselines.soft_mixture:SoftMixture",
    "task_specific_1_fc": "routing_env.baselines.task_specific_1_fc:TaskSpecific1FC",
    "task_specific_all_fc": "routing_env.baselines.task_specific_all_fc:TaskSpecificAllFC",
}
"""Name to ``module:Class``; see each class's docstring."""


def baseline_class(name: str) -> type[Baseline]:
    """The baseline of that name, or of that ``module:Class`` or ``file.py:Class``.

    Raises:
        ValueError: an unknown name, with the nearest known one; or something that is no baseline.
    """
    found = import_object(name if ":" in name else look_up("baseline", name, BASELINES))
    if not inspect.isclass(found) or not issubclass(found, Baseline):
        raise ValueError(f"{name!r} is no baseline; subclass routing_env.baselines.Baseline")
    return found


def make_baseline(name: str, plan: Plan, **options: Any) -> Baseline:
    """Build a baseline by name beside a routed network.

    Args:
        name: a key of ``BASELINES``, a ``module:Class`` or a ``file.py:Class``.
        plan: of the routed network.
        options: of the baseline.

    Raises:
        ValueError: an unknown name or option, with the nearest known one.
    """
    factory: Any = baseline_class(name)
    own = [option for option in inspect.signature(factory).parameters if option != "plan"]
    for option in options:
        if option not in own:
            raise ValueError(
                f"baseline {name!r} has no option {option!r}; {suggestion(option, own) if own else 'it has none'}"
            )
    return factory(plan, **options)
