"""Version 0 of the environment under PettingZoo's names.

Agents choose, one block at a time, the network that their samples go through. Blocks that several agents choose are
shared, and the blocks learn from the routes while the agents learn to route.

| Import            | `from routing_env import routing_v0` (or `routing_env.parallel_env`)      |
|-------------------|---------------------------------------------------------------------------|
| Agents            | `task_0` to `task_{T-1}`, one per task; see `topology` for others         |
| Actions           | Discrete, parallel                                                        |
| Action space      | `Discrete(A)`: the blocks, and PASS as the last action where it is enabled |
| Observation space | `Dict(observation=Box(n), action_mask=Box(A))`, or `Box(n)`; see `mask`   |
| State space       | `Box(T * n)`: the observation vectors of all samples side by side         |
| Episode           | exactly D steps; all agents terminate together                            |
| Reward            | the collaboration reward at each step, plus the final reward at the last  |

`reset()` deals the next samples and keeps what the blocks have learned: training goes on. `reset(seed=s)` restarts the
whole world, with new blocks and a new order of the data. Reset with a seed once, and from then on without one.

The observation is concat(v, one-hot task, one-hot depth). v is the current representation of the sample, flattened and
zero-padded to the widest; `parts` selects from the three. After the last step v is the network's output, the depth is
all zeros and the mask all ones, because nothing is left to choose.

### Arguments

``` python
routing_v0.parallel_env(scenario="planted-3x4")
routing_v0.parallel_env(data="digits", topology="per_task", mask="obs", render_mode=None, **settings)
```

`scenario`: a game that measures one thing, see docs/scenarios.md; it settles most of the settings

`data`: the name of a data set, or your own `MultiTaskData`

`network`: "mlp", "simple_convnet", "routed_convnet", "routed_lstm", "routed_gru", or a function from the data to a
`RoutedModel`

`loss`: a function from output and target to one loss per sample, in place of cross-entropy or squared error

`topology`: "per_task"; "single", where `router_0` routes one sample per episode; or "dispatched", where `dispatcher_0`
first picks one of `router_0` to `router_{m-1}` for the sample, which takes one more step

`agents`: m, the number of routers that the dispatcher picks from; by default one per task

`arrivals`: number of tasks that arrive at each stage, such as "9+1"; agents join with their tasks between episodes

`mask`: where the action mask is: "obs" (in the observation), "info", "both" or "none"; with "info" and "none" the
observation is the plain `Box`

`parts`: which of "v", "task" and "depth" the observation contains

`state_parts`: which of them the state contains for each sample; by default those of the observation

`render_mode`: "human", "rgb_array" or "ansi"

`settings`: the fields of `Settings`, such as `blocks`, `layers`, `recursive`, `pass_action`, `rho`, `seed`

docs/environment.md has the details: rewards, illegal actions, infos, evaluation, rendering, copying.
"""

from __future__ import annotations

from typing import Any, cast

from pettingzoo.utils.conversions import parallel_to_aec_wrapper
from pettingzoo.utils.wrappers import OrderEnforcingWrapper

from routing_env.envs.arriving import ArrivingParallelEnv
from routing_env.envs.dispatched import DispatchedParallelEnv
from routing_env.envs.observation import check_choice, read_action
from routing_env.envs.parallel import RoutingParallelEnv
from routing_env.names import look_up
from routing_env.scenarios import SCENARIOS

__all__ = ["env", "parallel_env", "raw_env"]


def parallel_env(
    *, topology: str = "per_task", agents: int | None = None, arrivals: str | None = None, **arguments: Any
) -> RoutingParallelEnv:
    """Make the environment in which all agents act at the same time.

    Args:
        topology: "per_task", "single" or "dispatched": who decides for which sample (paper, Figure 3).
        agents: how many routers a dispatcher picks from; by default one per task.
        arrivals: number of tasks that arrive at each stage, such as "9+1"; see
            :class:`~routing_env.envs.arriving.ArrivingParallelEnv`, which has more arguments.
        arguments: those of :class:`~routing_env.envs.parallel.RoutingParallelEnv`.

    Raises:
        TypeError: unknown argument; the message suggests the closest match.
        ValueError: an argument is out of range, ``agents`` is given without a dispatcher, or ``arrivals`` with another
            topology than one agent per task.
        ImportError: ``render_mode="human"`` without pygame.
    """
    check_choice("topology", topology, ["per_task", "single", "dispatched"])
    if (scenario := arguments.get("scenario")) is not None and arrivals is None:
        run = look_up("scenario", scenario, SCENARIOS).run
        arrivals = run.get("arrivals")
        if arrivals is not None:
            arguments.setdefault("arrival_block_rate", run["arrival_block_rate"])
    if arrivals is not None:
        if topology != "per_task" or agents is not None:
            raise ValueError(
                f"arrivals is {arrivals!r}, and topology {topology!r}; agents arrive only where each task has one"
            )
        return ArrivingParallelEnv(arrivals=arrivals, **arguments)
    if topology == "dispatched":
        return DispatchedParallelEnv(agents=agents, **arguments)
    if agents is not None:
        raise ValueError(
            f"agents is {agents} but topology is {topology!r}; only a dispatcher picks from agents: leave agents out "
            "or set topology='dispatched'"
        )
    return RoutingParallelEnv(topology=cast(Any, topology), **arguments)


class TurnBasedEnv(parallel_to_aec_wrapper[str, Any, Any]):
    """The turn-based environment, which reads each action when it is given, and not only when the round is complete."""

    def step(self, action: Any) -> None:
        """Let the agent whose turn it is choose.

        Args:
            action: an integer in its action space; None for an agent whose episode has ended.

        Raises:
            RuntimeError: the environment has not been reset yet.
            ValueError: anything else; nothing has changed.
        """
        if not hasattr(self, "agent_selection"):
            raise RuntimeError("no episode is under way; call reset to deal the next samples")
        agent = self.agent_selection
        if not (self.terminations[agent] or self.truncations[agent]):
            action = read_action(agent, action, int(cast(Any, self.action_space(agent)).n))
        super().step(action)


def raw_env(**arguments: Any) -> parallel_to_aec_wrapper[str, Any, Any]:
    """Make the turn-based environment; the blocks are applied when the last agent has chosen.

    Args:
        arguments: those of :func:`parallel_env`.
    """
    return TurnBasedEnv(parallel_env(**arguments))


def env(**arguments: Any) -> OrderEnforcingWrapper[str, Any, Any]:
    """:func:`raw_env` with PettingZoo's check of the order of calls."""
    return OrderEnforcingWrapper(raw_env(**arguments))
