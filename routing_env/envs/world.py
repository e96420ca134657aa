"""Worlds: a game that several environments may play together, found by its name.

    train = gymnasium.make("routing_env:Routing-v0", world="mine", data="digits")
    validate = gymnasium.make("routing_env:Routing-v0", world="mine", split="validation")

Names hold within a process, for as long as an environment that trains the world exists and has not been closed.
"""

from __future__ import annotations

import copy
import gc
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any
from weakref import ReferenceType, WeakSet, WeakValueDictionary, ref

from routing_env.data import MultiTaskData
from routing_env.game.build import build_game
from routing_env.game.routing_game import RoutingGame
from routing_env.game.settings import Given, SettingError, Settings, check, types_of

_DEALING = ("dealer", "batch_size", "block_batch")
"""Settings that follow from the form of the environment that trains."""


@dataclass(frozen=True, kw_only=True)
class Role:
    """What an environment is to a world; further keyword arguments of every environment.

    Raises:
        SettingError: ``split`` is given with ``train=True``, or without ``world`` and ``train=False``.
    """

    world: str | None = None
    """Name of the world. All environments of a name in this process share one game; without it a world is private."""
    split: str | None = None
    """Deal this split in a fixed order and train nothing; "train" for a frozen environment without a split."""
    train: bool = True
    """Whether episodes train the blocks and count; by default they do unless ``split`` is given."""

    @staticmethod
    def of(given: Given, *, also: Iterable[str] = ()) -> tuple[Role, dict[str, Any]]:
        """Take the role out of the arguments of an environment; the others are returned beside it."""
        names = types_of(Role)
        role: dict[str, Any] = check({name: given[name] for name in names if name in given}, Role, also=also)
        split, train = role.get("split"), role.get("train", role.get("split") is None)
        if split is not None and train:
            raise SettingError(f"split is {split!r} with train=True, but an environment of a split trains nothing")
        if split is not None and role.get("world") is None and "train" not in role:
            raise SettingError(
                f"split is {split!r} without a world, so its blocks would never have been trained; name the world of "
                "the environment that trains with world=..., or give train=False for a world of untrained blocks"
            )
        others = {name: value for name, value in given.items() if name not in names}
        return Role(world=role.get("world"), split=None if train else split or "train", train=train), others


class World:
    """A game and those who play it.

    Args:
        game: to be played.
        name: under which other environments find the world.
        usual_batch: samples that the blocks collect by default where a deal is smaller.
        own: whether the game was built from settings for this world, so that a seed may replace it.

    Attributes:
        game: a seed replaces it with a new one with the same observers.
        settings: those that the world was made with; None for a game that was put together by hand.
        learners: the deals of the environments that train it; once there are none left, its name is free.
    """

    def __init__(self, game: RoutingGame, *, name: str | None = None, usual_batch: int = 0, own: bool = True) -> None:
        self.game = game
        self.name = name
        self.usual_batch = usual_batch
        self.own = own
        self.settings = game.settings
        self.learners: WeakSet[Any] = WeakSet()
        self._has_learned = self._warned = False
        self._compared = game.samples > 0  # a copy of a trained world is meant
        self._seeded_by: ReferenceType[Any] | None = None
        self._playing: ReferenceType[Any] | None = None

    @staticmethod
    def find(name: str | None) -> World | None:
        """The world of that name that some environment of this process still trains, or is about to."""
        found = None if name is None else _NAMED.get(name)
        if found is not None and found.game.samples:
            del found
            gc.collect()  # it may be waiting for the garbage collector
            found = _NAMED.get(str(name))
        return None if found is None or (found._has_learned and not found.learners) else found

    def agreed(self, usual: Given, given: Given, *, also: Iterable[str]) -> Settings:
        """The settings of another environment of this world.

        Args:
            usual: settings that follow from its form.
            given: settings that it was given; what is not given is as in this world.
            also: other arguments of the environment, for the message about an unknown one.

        Raises:
            SettingError: a setting does not exist, or differs from this world's.
        """
        assert self.settings is not None
        given = dict(given)
        own = given.get("data")
        if isinstance(own, MultiTaskData):
            del given["data"]
            if own.fingerprint != self.game.data.fingerprint:
                raise SettingError(f"data is another data set than that of world {self.name!r}; {_REMEDY}")
        given = check(given, Settings, also=also)
        for name, value in given.items():
            theirs = getattr(self.settings, name)
            if value != theirs and (name not in _DEALING or self.learners):
                raise SettingError(f"{name} is {value!r}, but world {self.name!r} has {theirs!r}; {_REMEDY}")
        collected = self.settings.block_batch if self.learners else None
        return replace(self.settings, **{"block_batch": collected, **usual, **given})

    def admit(self, learner: Any, settings: Settings) -> None:
        """Let an environment train the world; the first one decides how it deals.

        Raises:
            SettingError: the world deals other samples; nothing has changed.
        """
        assert self.settings is not None
        theirs, wanted = ([getattr(of, name) for name in _DEALING] for of in (self.settings, settings))
        if theirs != wanted and self.learners:
            raise SettingError(
                f"this environment routes {settings.batch_size} samples at a time (dealer {settings.dealer!r}), but "
                f"world {self.name!r} routes {self.settings.batch_size} (dealer {self.settings.dealer!r}); make both "
                "in the same form, or give split=... for an environment that only evaluates"
            )
        if theirs != wanted:
            game = build_game(settings, self.game.data)
            kept = {name: state for name, state in self.game.state_dict().items() if name != "dealer"}
            game.load_state_dict(game.state_dict() | kept)
            self._replace(game)
            self.settings = settings
        self.learners.add(learner)
        self._has_learned = True

    def enter(self) -> None:
        """Let others find the world by its name."""
        if self.name is not None:
            _NAMED[self.name] = self

    def start_over(self, learner: Any, seed: int) -> None:
        """Restart the world from a seed: blocks, order of the data, history of the rewards.

        Vectorisers seed each of their environments differently: until the world has learned, the first one counts.

        Raises:
            ValueError: the game belongs to somebody else.
        """
        if not self.own or self.game.settings is None:
            raise ValueError("the game is not this environment's own; give the seed where the game is built")
        if not self.game.samples and self._seeded_by is not None and self._seeded_by() not in (None, learner):
            return
        self._replace(build_game(replace(self.game.settings, seed=seed), self.game.data))
        self._seeded_by = ref(learner)

    @property
    def collects(self) -> bool:
        """Whether the blocks collect routed samples, so that no deal needs its graph."""
        return self.game.settings is not None and self.game.settings.block_batch is not None

    def training_game(self, learner: Any) -> RoutingGame:
        """The game for a learner's next deal: a shallow copy while another learner has a deal under way.

        A copy shares network, trainer, dealer and history, but its deal is its own.
        """
        self._compare()
        other = None if self._playing is None else self._playing()
        if other not in (None, learner) and other.under_way:
            return copy.copy(self.game)
        self._playing = ref(learner)
        return self.game

    def evaluation_game(self) -> RoutingGame:
        """The game for a deal that trains nothing: a shallow copy, which disturbs no other deal."""
        if self.name is not None and not (self._has_learned or self._warned):
            self._warned = True
            warnings.warn(
                f"no environment that trains world {self.name!r} has been made yet, so its blocks are untrained; check "
                f"the name (known are {sorted(_NAMED)}), and that the other environment is in this process",
                stacklevel=5,
            )
        return copy.copy(self.game)

    def _replace(self, game: RoutingGame) -> None:
        game.observers = self.game.observers
        self.game = game

    def _compare(self) -> None:
        """Warn when the world starts to learn while another one of the same data and settings does.

        It is compared until its first deal has been trained: worlds may also start side by side.
        """
        if self._compared or not self.own:
            return
        self._compared = self.game.samples > 0
        _PLAYED.add(self)
        if not any(map(self._is_like, list(_PLAYED))):
            return
        gc.collect()  # the other may be waiting for the garbage collector
        for other in filter(self._is_like, list(_PLAYED)):
            self._compared = other._compared = True
            warnings.warn(
                "a second world of the same data and settings learns in this process, with separate blocks; if this "
                "environment is to evaluate what another one trains, make both with the same world=..., and this one "
                "with split='validation' or 'test'; train=False freezes the blocks of a private world",
                stacklevel=5,
            )
            break

    def _is_like(self, other: World) -> bool:
        """Whether another world has learned, still does, and has the same data and settings."""
        if other is self or not (other.learners and other.game.samples and self.settings and other.settings):
            return False
        if self.name and other.name:  # two names are two worlds, and meant
            return False
        seeded = self._seeded_by is not None and other._seeded_by is not None
        if seeded and self.game.samples and self.game.settings == other.game.settings:
            return False  # twins that were started side by side from one seed are there to be compared
        theirs = {name: getattr(other.settings, name) for name in _DEALING}
        return (
            replace(self.settings, **theirs) == other.settings
            and self.game.data.fingerprint == other.game.data.fingerprint
        )


_NAMED: WeakValueDictionary[str, World] = WeakValueDictionary()
_PLAYED: WeakSet[World] = WeakSet()
_REMEDY = "give all environments of one world the same settings, or give this one another world"
