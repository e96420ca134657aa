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

`settings`: the fields of `GameConfig`, such as `blocks`, `layers`, `recursive`, `pass_action`, `rho`, `seed`

docs/environment.md has the details: rewards, illegal actions, infos, evaluation, rendering, copying.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar, Literal, cast

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from routing_env.build import NetworkFactory, load_data, make_game
from routing_env.config import GameConfig
from routing_env.data import MultiTaskData, SplitName, recipe
from routing_env.envs.observation import PARTS, Masks, Observation, ObservationFormat, Vectors, check_choice, masks
from routing_env.envs.render import RIGHT, WRONG, routes_text, routing_map
from routing_env.envs.topology import AgentPolicy, make_topology
from routing_env.envs.window import Window
from routing_env.game import RoutingGame
from routing_env.names import suggestion
from routing_env.training import Loss
from routing_env.types import Decision, Evaluation, Policy, Router, State

Infos = dict[str, dict[str, Any]]


class RoutingParallelEnv(ParallelEnv[str, Observation, Any]):
    """The routing game as a PettingZoo environment.

    Args:
        data: name of a data set, or data of one's own.
        network: name of a network, or a function that builds one for the data, anew each time it is called.
        loss: per lane, in place of cross-entropy or squared error.
        topology: "per_task", "single" or "dispatched": who decides for which sample (Figure 3).
        agents: how many a dispatcher picks from; by default one per task.
        mask: "obs", "info", "both" or "none": where the action mask is.
        parts: which of "v", "task" and "depth" an observation has.
        render_mode: "human", "rgb_array", "ansi" or None.
        settings: fields of :class:`~routing_env.config.GameConfig`.

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
        data: str | MultiTaskData = "digits",
        network: str | NetworkFactory | None = None,
        loss: Loss | None = None,
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
        self._config = _config(data, network, settings)
        self._data = load_data(self._config) if isinstance(data, str) else data
        self._network = network if callable(network) else None
        self._loss = loss
        self._deal: Literal["per_task", "pass"] = "per_task" if topology == "per_task" else "pass"
        if self._deal == "pass":
            usual, own = recipe(self._data).batch_size, self._config.block_batch
            self._config = replace(self._config, batch_size=1, block_batch=usual if own is None else own)
        self.game = self._new_game()
        self._data = self.game.data

        self._format = ObservationFormat(self.game.spec, mask, parts)
        self._topology = make_topology(topology, self.game.spec, agents)
        self._observation_spaces = {agent: self._format.space(n) for agent, n in self._topology.actions.items()}
        self._action_spaces = self._topology.action_spaces(self._config.seed)
        self.possible_agents = list(self._action_spaces)
        lanes, picked = self._topology.lanes, np.zeros_like(self._topology.picked)
        low = np.concatenate([np.tile(self._format.low, lanes), picked])
        high = np.concatenate([np.tile(self._format.high, lanes), picked + 1])
        self.state_space = spaces.Box(low, high, dtype=np.float32)
        self._warned = False
        self._episode = 0
        self._start_over()

    @property
    def config(self) -> GameConfig:
        """The settings of the game."""
        return self._config

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
        """
        if seed is not None:
            self._config = replace(self._config, seed=seed)
            observers, self.game = self.game.observers, self._new_game()
            self.game.observers = observers
            self._episode = 0
        self._start_over()
        self.agents = list(self._topology.agents)
        self._episode += 1
        state = self.game.reset()
        self._tasks = state.task.tolist()
        self._see(state)
        shown = self._show(self._topology.masks(self._masks))
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
            rewards = np.zeros(self._topology.lanes, dtype=np.float32)
        else:
            rewards = self._route(chosen)
        agents, over = self._topology.agents, len(self._routes) == self.game.spec.depth
        self.agents = [] if over else list(agents)
        observations, infos = self._show_end() if over else self._show(self._topology.masks(self._masks))
        self._warn_once()
        if self._window is not None:
            self.render()
        earned = dict(zip(agents, rewards[self._topology.lane].tolist(), strict=True))
        return observations, earned, dict.fromkeys(agents, over), dict.fromkeys(agents, False), infos

    def state(self) -> NDArray[np.float32]:
        """The observation vectors of all samples side by side, float32 [T * n].

        Where there is one sample, [n]; with a dispatcher its pick follows, one-hot, or zeros before.

        Raises:
            RuntimeError: there was no reset yet.
        """
        if not len(self._vectors):
            raise RuntimeError("there is no state before the first reset; call reset")
        return np.concatenate([*self._vectors, self._topology.picked])

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
        return self.game.evaluate(self._topology.batched(cast(AgentPolicy, policy), self._format), split)

    def render(self) -> NDArray[np.uint8] | str | None:
        """The routes of this episode: as text, as an image, or in the window, which shows each step by itself."""
        if self.render_mode is None:
            gymnasium.logger.warn("render was called without a render_mode; pass one to parallel_env")
            return None
        spec, names = self.game.spec, self.game.data.task_names
        title = f"routing_v0 · episode {self._episode} · step {len(self._routes)} of {spec.depth}"
        tasks = self._tasks
        if len(tasks) == 1:
            title += f" · {self._topology.deciding[0]}"
        routes = np.stack(self._routes, axis=1) if self._routes else np.empty((len(tasks), 0), dtype=np.int64)
        if self.render_mode == "ansi":
            rows = [f"{agent} ({names[task]})" for agent, task in zip(self._topology.deciding, tasks, strict=False)]
            return routes_text(routes, spec, rows, title=title, marks=[self._marks[task] for task in tasks])
        image = routing_map(routes, spec, names, title=title, marks=self._marks, tasks=tasks)
        if self._window is None:
            return image
        self._window.show(image)
        return None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the episode under way, whose graph cannot be copied, and the window."""
        state = {name: value for name, value in vars(self).items() if name not in ("game", "_window")}
        return state | {"game_state": self.game.state_dict()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        game_state = state.pop("game_state")
        vars(self).update(state)
        self._window = self._new_window()
        self.game = self._new_game()
        self.game.load_state_dict(game_state)
        self._start_over()

    def _new_game(self) -> RoutingGame:
        return make_game(self._config, data=self._data, network=self._network, loss=self._loss, deal=self._deal)

    def _new_window(self) -> Window | None:
        return Window("routing_v0", self.metadata["render_fps"]) if self.render_mode == "human" else None

    def _start_over(self) -> None:
        """No episode is under way."""
        self._topology.start()
        self.agents: list[str] = []
        self._tasks: list[int] = []
        self._vectors: Vectors = np.empty((0, 0), dtype=np.float32)
        self._masks: Masks = np.empty((0, 0), dtype=np.int8)
        self._routes: list[NDArray[np.int64]] = []
        self._lost = np.zeros(self._topology.lanes, dtype=np.bool_)
        self._illegal: dict[int, int] = {}
        self._marks = [""] * self.game.spec.tasks

    def _route(self, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        """Let the game apply one block per lane, and return what that earns each."""
        device = self.game.spec.device
        illegal = (self._masks[np.arange(len(chosen)), chosen] == 0) & ~self._lost
        forfeit = torch.from_numpy(illegal).to(device) if illegal.any() else None
        state = self.game.step(Decision(torch.from_numpy(chosen).to(device)), forfeit=forfeit)
        self._lost = self._lost | illegal
        self._illegal |= {lane: int(chosen[lane]) for lane in illegal.nonzero()[0].tolist()}
        self._routes.append(np.where(self._lost, -1, chosen))
        rewards = self.game.action_reward.cpu().numpy()
        if state is None:
            return rewards + self.game.trace.final_reward.cpu().numpy()
        self._see(state)
        return rewards

    def _see(self, state: State) -> None:
        self._vectors, self._masks = self._format.vectors(state.v, state.task, state.depth), masks(state)

    def _show(self, shown: list[Masks]) -> tuple[dict[str, Observation], Infos]:
        """What each agent is told; ``shown`` are the masks of all that take part."""
        agents, lanes = self._topology.agents, self._topology.lane
        seen = self._format.observations(self._vectors[lanes], shown)
        infos: Infos = {agent: {} for agent in agents}
        for agent, lane, mask in zip(agents, lanes.tolist(), shown, strict=True):
            if self._format.in_info:
                infos[agent]["action_mask"] = mask.copy()
            if lane in self._illegal:
                infos[agent]["illegal_action"] = self._illegal[lane]
        return dict(zip(agents, seen, strict=True)), infos

    def _show_end(self) -> tuple[dict[str, Observation], Infos]:
        """What each agent is told of the end of its route."""
        trace, spec = self.game.trace, self.game.spec
        outcome = trace.outcome
        output = torch.nn.functional.pad(outcome.output, (0, spec.features - outcome.output.shape[1]))
        self._vectors = self._format.vectors(output, trace.task, spec.depth)
        observations, infos = self._show(self._topology.open_masks())
        correct = outcome.correct.tolist()
        ends = {
            "task": self._tasks,
            "correct": correct,
            "prediction": outcome.prediction.tolist(),
            "label": outcome.target.tolist(),
            "loss": outcome.loss.tolist(),
            "final_reward": outcome.final_reward.tolist(),
            "route": trace.actions.tolist(),
        }
        for info, lane in zip(infos.values(), self._topology.lane.tolist(), strict=True):
            info |= {name: values[lane] for name, values in ends.items()}
        if self.game.data.classes is not None:
            for task, right in zip(self._tasks, correct, strict=True):
                self._marks[task] = RIGHT if right else WRONG
        return observations, infos

    def _warn_once(self) -> None:
        if self._illegal and not self._warned:
            self._warned = True
            lane, action = next(iter(self._illegal.items()))
            warnings.warn(
                f"{self._topology.deciding[lane]} chose action {action}, which is illegal there, and has lost its "
                "route; heed the action mask. This is said once for each environment; every such action is in "
                "infos[agent]['illegal_action'].",
                stacklevel=3,
            )


def _config(data: str | MultiTaskData, network: str | NetworkFactory | None, settings: dict[str, Any]) -> GameConfig:
    """The settings of the game among the arguments of the environment."""
    known = {field.name for field in fields(GameConfig)} - {"batch_size"}
    for name, value in settings.items():
        if name == "batch_size" and value is not None:
            raise TypeError(
                "there is no batch_size: an episode routes one sample of each task, or one alone; set block_batch to "
                "collect that many samples for each step of the blocks"
            )
        if name not in known | {"batch_size"}:
            options = known | {"loss", "topology", "agents", "mask", "parts", "render_mode"}
            raise TypeError(f"parallel_env has no argument {name!r}; {suggestion(name, options)}")
    named = {"data": data} if isinstance(data, str) else {}
    return GameConfig(**named, network=cast(Any, None if callable(network) else network), **settings)


parallel_env = RoutingParallelEnv
"""The environment under PettingZoo's name."""
