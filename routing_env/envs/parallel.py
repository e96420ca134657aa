"""Routing as a PettingZoo environment.

Agents choose, one block at a time, the network that their samples go through. Blocks that several of them choose are
shared, and the blocks learn from the routes as the agents do.

| Import            | `from routing_env import routing_v0` (or `routing_env.parallel_env`)     |
|-------------------|--------------------------------------------------------------------------|
| Agents            | `task_0` to `task_{T-1}`, one for each task; see `topology` for others   |
| Actions           | Discrete, parallel                                                       |
| Action space      | `Discrete(A)`: the blocks, and PASS as the last one where it is enabled  |
| Observation space | `Dict(observation=Box(n), action_mask=Box(A))`, or `Box(n)`, see `mask`  |
| State space       | `Box(T * n)`: what is seen of each sample, side by side                  |
| Episode           | exactly D steps; all agents terminate together                           |
| Reward            | collaboration reward each step, the final reward added at the last       |

`reset()` deals the next samples and keeps what the blocks have learned: training goes on. `reset(seed=s)` starts the
whole world over from s, with new blocks and a new order of the data. Reset with a seed once, and then without.

The observation is concat(v, one-hot task, one-hot depth): the representation of the sample so far, flattened and
zero-padded to the widest; `parts` selects from the three. After the last step v is the network's output, the depth is
all zeros and the mask all ones: there is nothing left to choose.

### Arguments

``` python
routing_v0.parallel_env(data="digits", topology="per_task", mask="obs", render_mode=None, **settings)
```

`data`: a data set's name, or a `MultiTaskData` of one's own

`network`: "mlp", "simple_convnet", or a function from the data to a `RoutedNetwork`

`loss`: a function from output and target to a loss per sample, in place of cross-entropy or squared error

`topology`: "per_task"; "single", where `router_0` routes one sample per episode; or "dispatched", where `dispatcher_0`
first picks one of `router_0` to `router_{m-1}` for it, which takes one step more

`agents`: m, how many the dispatcher picks from; by default one per task

`mask`: where the action mask is: "obs" (in the observation), "info", "both" or "none"; with "info" and "none" the
observation is the plain `Box`

`parts`: which of "v", "task" and "depth" the observation has

`render_mode`: "human", "rgb_array" or "ansi"

`settings`: the fields of `Settings`, such as `blocks`, `layers`, `recursive`, `pass_action`, `rho`, `seed`

docs/environment.md has the details: rewards, illegal actions, infos, evaluation, rendering, copying.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from routing_env.data import SplitName
from routing_env.drawing.deal import mark, picture
from routing_env.drawing.routing_map import routes_text
from routing_env.drawing.window import Window
from routing_env.envs.lanes import Lanes
from routing_env.envs.observation import PARTS, Masks, Observation, check_choice
from routing_env.envs.topology import AgentPolicy, make_topology
from routing_env.game.routing_game import RoutingGame
from routing_env.game.settings import Settings
from routing_env.types import Evaluation, Policy, Router

Infos = dict[str, dict[str, Any]]


class RoutingParallelEnv(ParallelEnv[str, Observation, Any]):
    """The routing game as a PettingZoo environment.

    Args:
        topology: "per_task", "single" or "dispatched": who decides for which sample (Figure 3).
        agents: how many a dispatcher picks from; by default one per task.
        mask: "obs", "info", "both" or "none": where the action mask is.
        parts: which of "v", "task" and "depth" an observation has.
        render_mode: "human", "rgb_array", "ansi" or None.
        settings: see :func:`~routing_env.game.build.make_game`.

    Attributes:
        game: what is being played; ``reset(seed=)`` puts a new one in its place.
        state_space: of :meth:`state`.

    Raises:
        TypeError: a setting that does not exist, with the nearest that does.
        ValueError: an argument or setting out of range.
        ImportError: ``render_mode="human"`` without pygame.
    """

    metadata: ClassVar[dict[str, Any]] = {  # pyright: ignore[reportIncompatibleVariableOverride]
        "name": "routing_v0",
        "render_modes": ["human", "rgb_array", "ansi"],
        "is_parallelizable": True,
        "render_fps": 4,
    }

    def __init__(
        self,
        *,
        topology: Literal["per_task", "single", "dispatched"] = "per_task",
        agents: int | None = None,
        mask: Literal["obs", "info", "both", "none"] = "obs",
        parts: Sequence[str] = PARTS,
        render_mode: str | None = None,
        **settings: Any,
    ) -> None:
        if render_mode is not None:
            check_choice("render_mode", render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        self._window = self._new_window()
        also = ("topology", "agents", "mask", "parts", "render_mode")
        lanes = None if topology == "per_task" else 1
        self._lanes = Lanes.of(settings, lanes=lanes, mask=mask, parts=parts, also=also)
        self._topology = make_topology(topology, self._lanes.spec, agents)
        form, actions = self._lanes.format, self._topology.actions
        self._observation_spaces = {agent: form.space(number) for agent, number in actions.items()}
        self._action_spaces = self._topology.action_spaces(self._lanes.settings.seed)
        self.possible_agents = list(actions)
        picked = np.zeros_like(self._topology.picked)
        low = np.concatenate([np.tile(form.low, self._lanes.number), picked])
        high = np.concatenate([np.tile(form.high, self._lanes.number), picked + 1])
        self.state_space = spaces.Box(low, high, dtype=np.float32)
        self.agents: list[str] = []
        self._episode = 0

    @property
    def game(self) -> RoutingGame:
        """What is being played; a seed puts a new one in its place."""
        return self._lanes.game

    @property
    def settings(self) -> Settings:
        """The settings of the game."""
        return self._lanes.settings

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """The observation space of an agent, the same object on each call."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """The action space of an agent, the same object on each call."""
        return self._action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], Infos]:
        """Deal the next samples.

        Args:
            seed: starts the whole world over from here: blocks, order of the data, history of rewards. Without it the
                blocks keep what they have learned and the next samples are dealt.
            options: there are none; taken because PettingZoo passes them.

        Raises:
            ValueError: a seed that is no integer from 0 to 2**63 - 1; nothing has changed.
        """
        self._lanes.deal(seed)
        self._topology.start()
        self.agents = list(self._topology.agents)
        self._episode = 1 if seed is not None else self._episode + 1
        shown = self._show(self._topology.masks(self._lanes.masks))
        if self._window is not None:
            self.render()
        return shown

    def step(
        self, actions: Mapping[str, int]
    ) -> tuple[dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], Infos]:
        """Apply the chosen blocks; the last step scores, rewards and trains the blocks.

        Args:
            actions: one for each agent, an integer in its action space. One that is not legal loses the route. A
                dispatcher that has picked need not act, and is not heeded.

        Returns:
            Observations, rewards, terminations, truncations and infos of the agents that take part.

        Raises:
            RuntimeError: no episode is under way.
            ValueError: agents that are missing or do not take part, or an action that is no integer in its space;
                nothing has changed.
        """
        if not self.agents:
            raise RuntimeError("no episode is under way; call reset to deal the next samples")
        chosen = self._topology.read(actions)
        if self._topology.dispatching:
            self._topology.dispatch(int(chosen[0]))
            earned = [0.0] * len(self._topology.agents)
        else:
            earned = self._lanes.step(chosen, who=self._topology.deciding)[self._topology.lane].tolist()
        agents, over = self._topology.agents, self._lanes.ends is not None
        self.agents = [] if over else list(agents)
        observations, infos = self._show(
            self._topology.open_masks() if over else self._topology.masks(self._lanes.masks)
        )
        if self._window is not None:
            self.render()
        rewards = dict(zip(agents, earned, strict=True))
        return observations, rewards, dict.fromkeys(agents, over), dict.fromkeys(agents, False), infos

    def state(self) -> NDArray[np.float32]:
        """The observation vectors of all samples side by side, float32 [T * n].

        Where there is one sample, [n]; with a dispatcher its pick follows, one-hot, or zeros before.

        Raises:
            RuntimeError: there was no reset yet.
        """
        if not len(self._lanes.vectors):
            raise RuntimeError("there is no state before the first reset; call reset")
        return np.concatenate([*self._lanes.vectors, self._topology.picked])

    def evaluate(
        self, policy: Router | Policy | AgentPolicy, split: SplitName = "test", *, batched: bool = False
    ) -> Evaluation:
        """Route a whole split without training; an episode under way is not disturbed.

        Args:
            policy: a router, which acts greedily, or ``policy(agent, observation) -> action``.
            split: "train", "validation" or "test".
            batched: the policy is a function from a :class:`~routing_env.types.State` to actions int64 [B] instead.

        Raises:
            ValueError: an empty split, or an illegal action.
        """
        if hasattr(policy, "act"):
            router = cast(Router, policy)
            return self.game.evaluate(lambda state: router.act(state, greedy=True).action, split)
        if batched:
            return self.game.evaluate(cast(Policy, policy), split)
        return self.game.evaluate(self._topology.batched(cast(AgentPolicy, policy), self._lanes.format), split)

    def render(self) -> NDArray[np.uint8] | str | None:
        """The routes of this episode: as text, as an image, or in the window, which shows each step by itself."""
        if self.render_mode is None:
            gymnasium.logger.warn("render was called without a render_mode; pass one to parallel_env")
            return None
        lanes, names = self._lanes, self.game.data.task_names
        title = f"routing_v0 · episode {self._episode} · step {lanes.depth} of {lanes.spec.depth}"
        if len(lanes.tasks) == 1:
            title += f" · {self._topology.deciding[0]}"
        if self.render_mode == "ansi":
            marks = [] if lanes.correct is None else [mark(int(right), 1) for right in lanes.correct]
            decided = zip(self._topology.deciding, lanes.tasks, strict=False)
            rows = [f"{agent} ({names[task]})" for agent, task in decided]
            return routes_text(lanes.routes, lanes.spec, rows, title=title, marks=marks)
        image = picture(lanes.spec, names, lanes.tasks, lanes.routes, lanes.correct, title=title)
        if self._window is None:
            return image
        self._window.show(image)
        return None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the window; the lanes leave out the episode under way."""
        return {name: value for name, value in vars(self).items() if name != "_window"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._window = self._new_window()
        self._topology.start()
        self.agents = []

    def _new_window(self) -> Window | None:
        return Window("routing_v0", self.metadata["render_fps"]) if self.render_mode == "human" else None

    def _show(self, shown: list[Masks]) -> tuple[dict[str, Observation], Infos]:
        """What each agent is told; ``shown`` are the masks of all that take part."""
        agents, lane, form = self._topology.agents, self._topology.lane, self._lanes.format
        seen = form.observations(self._lanes.vectors[lane], shown)
        told, of_agents = self._lanes.infos(), self._topology.told
        infos: Infos = of_agents(zip(agents, (told[own].copy() for own in lane.tolist()), strict=True))
        if form.in_info:
            for info, mask in zip(infos.values(), shown, strict=True):
                info["action_mask"] = mask.copy()
        return of_agents(zip(agents, seen, strict=True)), infos


parallel_env = RoutingParallelEnv
"""The environment under PettingZoo's name."""
