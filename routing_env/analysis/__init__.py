"""The theory of the game: what every route would earn, who could gain by another one, and how much.

With the blocks frozen, what a task earns depends on its own route alone, and it is multilinear in the policies of its
depths. So all deterministic routes are enumerated: a tree of decisions in which routes share the work of their common
beginning. Dynamic programming over (t, i) would be wrong, because what follows a decision depends on v.

=======================  ===============================================================================
:func:`frozen_payoffs`   what every route earns for every task, and what the router's policy earns
:func:`best_response`    the best route of each task
:func:`nash_gap`         how much each task would gain by its best route; the sum over tasks is NashConv
:func:`near_best`        how many routes are about as good: where all are, a gap of 0 says nothing
:func:`policy_value`     what given policies earn
:func:`earned`           what a router or a rule earns, greedily or by drawing
:func:`counterfactuals`  what each sample would have earned by another action at one depth
:func:`adapted_gap`      what a task gains by another route once the blocks have adapted to it
:func:`dynamic_regret`   gaps summed over training
=======================  ===============================================================================

Rewards are those of the game, r_final and the collaboration reward by its present history. A gap compares with fixed
routes; a policy that looks at v may gain more. Choose on "validation" and report on "test".
"""

from routing_env.analysis.deviations import adapted_gap, counterfactuals, earned
from routing_env.analysis.payoffs import (
    Payoffs,
    best_response,
    dynamic_regret,
    frozen_payoffs,
    most_routes,
    nash_gap,
    near_best,
    policy_value,
)

__all__ = [
    "Payoffs",
    "adapted_gap",
    "best_response",
    "counterfactuals",
    "dynamic_regret",
    "earned",
    "frozen_payoffs",
    "most_routes",
    "nash_gap",
    "near_best",
    "policy_value",
]
