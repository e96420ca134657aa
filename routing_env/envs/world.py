"""What a shell's game is built from, and built from again for every seed."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from operator import index
from typing import Any, Literal, cast

import torch

from routing_env.data import MultiTaskData
from routing_env.game.build import NetworkFactory, find_device, load_data, make_game, resolve
from routing_env.game.routing_game import RoutingGame
from routing_env.game.settings import GameConfig
from routing_env.game.training import Loss
from routing_env.names import suggestion

_WORKERS = {
    "gymnasium.vector.async_vector_env": ("__init__", "_async_worker"),
    "stable_baselines3.common.vec_env.subproc_vec_env": ("_worker",),
    "supersuit.vector.constructors": ("constructor",),
    "supersuit.vector.multiproc_vec": ("async_loop",),
}
"""Functions, by their modules, that build or run environments only where these are spread over processes."""


_OF_NAMED_NETWORKS = ("hidden", "layers", "blocks", "recursive", "pass_action", "depth")
"""Settings that a network function settles by itself."""


@dataclass(frozen=True)
class World:
    """Everything that a game follows from.

    Attributes:
        config: settings, with nothing left open; see :meth:`built` for those of a network function.
        data: the tasks.
        network: builds a network of one's own, or None.
        loss: in place of cross-entropy or squared error.
        deal: see :func:`~routing_env.game.build.make_game`.
        copies: samples of every task in a deal of "per_task".
    """

    config: GameConfig
    data: MultiTaskData
    network: NetworkFactory | None
    loss: Loss | None
    deal: Literal["endless", "per_task"]
    copies: int = 1

    @classmethod
    def of(
        cls,
        data: str | MultiTaskData,
        network: str | NetworkFactory | None,
        loss: Loss | None,
        settings: dict[str, Any],
        *,
        own: Iterable[str],
        lanes: int | None = None,
        copies: int = 1,
    ) -> World:
        """From the arguments of an environment.

        Args:
            data: as everywhere, like the next two.
            network: likewise.
            loss: likewise.
            settings: the keyword arguments that it has no name for.
            own: the names that it has beside data and network, to suggest from.
            lanes: so many samples of a shuffled pass make a deal. Where they are fewer than the data set's usual
                batch, the blocks collect so many for a step, unless ``block_batch`` says otherwise; a single sample
                is always collected. None deals ``copies`` samples of every task instead.
            copies: see ``lanes``.

        Raises:
            TypeError: a setting that does not exist, with the nearest that does, or one that data or a network of one's
                own would ignore.
            ValueError: a setting out of range.
            RuntimeError: somebody is spreading environments over processes.
        """
        refuse_worker_processes()
        known = {field.name for field in fields(GameConfig)} - {"batch_size"}
        for name in settings:
            if name != "batch_size" and name not in known:
                raise TypeError(f"there is no argument {name!r}; {suggestion(name, known.union(own))}")
        if settings.get("batch_size") is not None:
            raise TypeError(
                "there is no batch_size: the number of lanes says how many samples are routed together; "
                "set block_batch to collect more of them for each step of the blocks"
            )
        for name in _OF_NAMED_NETWORKS if callable(network) else ():
            if settings.get(name) is not None:
                raise TypeError(
                    f"{name} is {settings[name]!r} beside a network function, which settles it by itself; leave it "
                    "out, or give the name of a network"
                )
        if "seed" in settings:
            settings = {**settings, "seed": check_seed(settings["seed"])}
        named = {"data": data} if isinstance(data, str) else {}
        config = GameConfig(**named, network=cast(Any, None if callable(network) else network), **settings)
        if isinstance(data, str):
            data = load_data(config)
        elif config.tasks is not None or config.fraction != 1 or "validation" in settings:
            raise TypeError(
                "tasks, fraction and validation cut data sets by name; cut data of your own with "
                "routing_env.data.first_tasks and training_share, and give validation where they are made"
            )
        config = resolve(config, data)
        usual, collect = config.batch_size or 1, config.block_batch
        dealt = copies * data.tasks if lanes is None else lanes
        if collect is None and (dealt == 1 or (lanes is not None and dealt < usual)):
            collect = usual
        config = replace(config, batch_size=dealt, block_batch=collect)
        return cls(
            config,
            data.to(find_device(config.device)),
            network if callable(network) else None,
            loss,
            "per_task" if lanes is None else "endless",
            copies,
        )

    @torch.inference_mode(mode=False)
    def game(self) -> RoutingGame:
        """A new game, whose blocks can be trained whatever mode the caller is in."""
        return make_game(
            self.config, data=self.data, network=self.network, loss=self.loss, deal=self.deal, copies=self.copies
        )

    def built(self, game: RoutingGame) -> World:
        """The same world, whose settings say what its network function has built.

        The network's name is then the function's, ``module:function``; ``blocks`` is the size of the largest layer, and
        ``hidden`` says nothing.
        """
        if self.network is None:
            return self
        named, network = self.network, game.network
        kind = named if hasattr(named, "__qualname__") else type(named)
        config = replace(
            self.config,
            network=cast(Any, f"{kind.__module__}:{kind.__qualname__}"),
            layers=len(network.banks),
            blocks=max(len(network.bank(layer)) for layer in range(len(network.banks))),
            recursive=network.recursive,
            pass_action=network.pass_action is not None,
            depth=network.depth,
        )
        return replace(self, config=config)


def check_seed(seed: Any) -> int:
    """The seed of a world as a Python integer.

    Raises:
        ValueError: it is no integer from 0 to 2**63 - 1.
    """
    try:
        number = index(seed)
    except TypeError:
        number = -1
    if not 0 <= number < 2**63:
        raise ValueError(f"seed is {seed!r}; it must be an integer from 0 to 2**63 - 1")
    return number


def refuse_worker_processes() -> None:
    """Raise where a vectorising wrapper is about to run environments in processes of their own.

    Raises:
        RuntimeError: it is.
    """
    frame = sys._getframe()  # pyright: ignore[reportPrivateUsage]  # inspect.stack would read source files
    while frame := frame.f_back:
        if frame.f_code.co_name in _WORKERS.get(frame.f_globals.get("__name__", ""), ()):
            raise RuntimeError(
                "environments in different processes cannot share their blocks, and each would train its own; use "
                "more lanes of one game instead: routing_env.envs.sb3.RoutingVecEnv(copies=...) or "
                "gymnasium.make_vec('routing_env:Routing-v0', num_envs=...)"
            )
