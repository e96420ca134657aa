"""Reference routers by name, one algorithm per file.

Which base a new router should take:

=========================  =============================================================================================
base                       when
=========================  =============================================================================================
``Router``                 the decisions come from anywhere: another library, other routers
``RuleRouter``             a rule names the action of every state, and nothing is drawn (fixed, oracle, random-fixed)
``PolicyRouter``           it draws from a policy that is neither a table nor a network
``TableRouter``            it learns tables over agent, depth and action (Q-learning, EXP3)
``PolicyTableRouter``      a table is the policy itself, beside a table of values (WPL, GIGA-WoLF)
``GradientRouter``         it learns networks by a loss, with any kind of policy
``SoftmaxRouter``          the policy is a softmax over the outputs of a network (WPL-approx, RELAX, Gumbel-softmax)
``PolicyGradientRouter``   it follows the policy gradient, with entropy and epsilon as options (REINFORCE, actor-critic)
``ValueNetworkRouter``     a network gives the values of the actions, and the choice is epsilon-greedy (SARSA-approx)
=========================  =============================================================================================

``Router`` is in ``routing_env.types``, ``RuleRouter`` in ``rules.py``, the bases with tables are in ``base.py``, and
those with networks in ``gradient.py``, which builds on ``base.py``. The bases in ``base.py`` and ``gradient.py`` are
dataclasses: the options of a router are its fields, each followed by a docstring, and ``__post_init__`` refuses bad
values.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from routing_env.agents.presets import MATRIX_GAMES as MATRIX_GAMES
from routing_env.agents.presets import preset_options
from routing_env.names import check_call, check_options, find_class
from routing_env.torch_settings import usual_torch
from routing_env.types import GameSpec, Router

TopologyName = Literal["per_task", "single", "dispatched"]

PresetName = Literal["routing", "matrix-games"]

ROUTERS: dict[str, str] = {
    "actor-critic": "routing_env.agents.actor_critic:ActorCritic",
    "advantage-actor-critic": "routing_env.agents.actor_critic:AdvantageActorCritic",
    "advantage-learning": "routing_env.agents.advantage_learning:AdvantageLearning",
    "advantage-learning-approx": "routing_env.agents.advantage_learning:AdvantageLearningApprox",
    "all-shared": "routing_env.agents.all_shared:AllShared",
    "dispatched": "routing_env.agents.dispatched:DispatchedRouter",
    "exp3": "routing_env.agents.exp3:EXP3",
    "fixed": "routing_env.agents.fixed:Fixed",
    "giga-wolf": "routing_env.agents.giga_wolf:GIGAWoLF",
    "gumbel-softmax": "routing_env.agents.gumbel:GumbelSoftmax",
    "hedge": "routing_env.agents.hedge:Hedge",
    "hysteretic-q": "routing_env.agents.hysteretic_q:HystereticQ",
    "oracle": "routing_env.agents.oracle:Oracle",
    "per-layer": "routing_env.agents.per_layer:PerLayer",
    "pga-app": "routing_env.agents.pga_app:PGAAPP",
    "q-learning": "routing_env.agents.q_learning:QLearning",
    "q-learning-approx": "routing_env.agents.q_learning:QLearningApprox",
    "random": "routing_env.agents.uniform_random:UniformRandom",
    "random-fixed": "routing_env.agents.random_fixed:RandomFixed",
    "reinforce": "routing_env.agents.reinforce:Reinforce",
    "reinforce-approx": "routing_env.agents.reinforce:ReinforceApprox",
    "relax": "routing_env.agents.relax:RELAX",
    "route-hedge": "routing_env.agents.route_hedge:RouteHedge",
    "round-robin": "routing_env.agents.round_robin:RoundRobin",
    "sarsa": "routing_env.agents.sarsa:Sarsa",
    "sarsa-approx": "routing_env.agents.sarsa:SarsaApprox",
    "wolf-phc": "routing_env.agents.wolf_phc:WoLFPHC",
    "wpl": "routing_env.agents.wpl:WPL",
    "wpl-approx": "routing_env.agents.wpl_approx:WPLApprox",
}
"""References to the router classes by name."""


def router_class(router: str | type[Router]) -> type[Router]:
    """The class of a router.

    Args:
        router: A key of ``ROUTERS``, ``module:Class``, ``file.py:Class``, or the class itself.

    Raises:
        ValueError: Unknown name (the message suggests the closest match), or not a router.
    """
    return find_class("router", router, ROUTERS, Router)


@usual_torch()
def make_router(
    router: str | type[Router],
    spec: GameSpec,
    /,
    *,
    seed: int = 0,
    topology: TopologyName = "per_task",
    preset: PresetName = "routing",
    **options: Any,
) -> Router:
    """Build a router for a game.

    Args:
        router: A key of ``ROUTERS``, ``module:Class``, ``file.py:Class``, or the class itself.
        spec: The game's specification.
        seed: Seed of the router's weights and exploration.
        topology: "per_task" gives each task its own agent, "single" has one agent for all tasks, and "dispatched" has
            a dispatcher that picks an agent for each sample (paper, Figure 3). The router "dispatched" has more
            options.
        preset: "routing" stands for the router's defaults. "matrix-games" takes the options in ``MATRIX_GAMES``, with
            which agents that only play each other approach equilibria.
        options: Options of the router, which take precedence over those of the preset.

    Raises:
        ValueError: Unknown router, topology, preset or option, where the message suggests the closest match; or a
            preset that has no options for this router.
    """
    options = {**preset_options(preset, router), **options}
    if topology == "dispatched":
        return make_router("dispatched", spec, seed=seed, router=router, router_options=options)
    if topology == "single":
        spec = replace(spec, agents=1)
    elif topology != "per_task":
        raise ValueError(f"topology is {topology!r}; it must be 'per_task', 'single' or 'dispatched'")
    factory: Any = router_class(router)
    check_options(f"router {router!r}", factory, options, besides=("spec", "seed"))
    check_call(f"router {router!r}", factory, "Class(spec, seed=seed, **options)", spec, seed=seed, **options)
    return factory(spec, seed=seed, **options)
