"""The settings of a game: keyword arguments of the environments and of ``make_game``, options of the command line.

A caller gives some of them. :func:`routing_env.game.build.resolve` adds the values that the data set is usually trained
with and the defaults below, once; from then on every setting has its value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import NoneType
from typing import Annotated, Any, ClassVar, get_args, get_origin, get_type_hints

from routing_env.names import Range, as_integer, is_number, suggestion

Given = Mapping[str, Any]
"""Some settings by their names, as a caller gives them."""

Named = str | Callable[..., Any]
"""A built-in thing's name, a reference to your own as ``module:name`` or ``file.py:name``, or the thing itself."""


class SettingError(TypeError, ValueError):
    """A setting that does not exist, or whose value has the wrong type or does not go with another."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a routing game, each with its value. docs/environment.md has the protocols of the functions.

    Every number is annotated with the range of the values that may be given.
    """

    scenario: str | None = None
    """Named scenario of docs/scenarios.md, which settles all settings but the seed, the device and how samples are
    dealt."""
    data: str = "digits"
    """Data set: a name of `routing-env list`, or your own as module:name or file.py:name."""
    data_dir: str | None = None
    """Folder that holds the data set's files; defaults to the environment variable ROUTING_ENV_DATA, else ./data."""
    data_options: tuple[str, ...] = ()
    """Options of the data set as name=value, for example `groups=4 overlap=0.5` of planted."""
    validation: Annotated[float, "in [0, 1)"] = 0.1
    """Share of the training inputs held out for validation; 0 trains on everything, as the paper does."""
    fraction: Annotated[float, "in (0, 1]"] = 1.0
    """Share of each task's training samples to use, drawn by the seed; validation and test stay whole."""
    tasks: Annotated[int | None, "at least 1"] = None
    """Number of tasks to use, the first ones of the data set; by default all."""
    network: Named = "mlp"
    """Network: mlp (fully connected layers), simple_convnet (the paper's four convolutions below them), routed_convnet
    (the same convolutions, the last ones routed, and one linear layer), routed_lstm, routed_gru (recurrent cells, for
    sequences), or a function from the data to a RoutedModel, which excludes the settings from hidden to dropout."""
    hidden: Annotated[int, "at least 1 and at most 1,000,000,000"] = 64
    """Width between routed layers."""
    layers: Annotated[int, "at least 1 and at most 10,000"] = 3
    """Number of routed layers; in recurrent networks 1 by default."""
    blocks: Annotated[int | tuple[int, ...], "at least 1 and at most 1,000,000"] = 0
    """Blocks per layer; by default one per task, as in the paper, or one per group where the data know groups. Several
    numbers give each layer its own."""
    recursive: bool = False
    """Let any block but the last layer's apply at any depth but the last (paper, section 7.2)."""
    pass_action: bool = False
    """Add the PASS action, which leaves the representation as it is (paper, section 7.2)."""
    depth: Annotated[int, "at least 1 and at most 1,000,000"] = 0
    """Decisions per sample; by default the number of layers, and only a recursive game can have another number. In
    recurrent networks by default one per step and layer; the number of layers means one per sequence."""
    filters: Annotated[int, "at least 1 and at most 1,000,000,000"] = 32
    """Filters of each convolution of simple_convnet and routed_convnet."""
    dropout: Annotated[float, "in [0, 1)"] = 0.0
    """Share, in [0, 1), of the stem's output features that are dropped at random in training, for routed networks and
    baselines alike (Srivastava et al., JMLR 2014). Without convolutions these features are the inputs."""
    loss: Named = ""
    """Loss per sample that the blocks minimise: cross_entropy, squared_error, or a function of output and target; by
    default the first for classes, the second for regression."""
    final_reward: Named = ""
    """Final reward: correct (+1/-1), negative_loss, team (everyone earns the mean), validation (+1/-1 for another
    sample of the task, from the validation split), improvement (by how much the step lowers the loss), or a function of
    the outcome; by default the first for classes, the second for regression."""
    rho: Annotated[float | tuple[float, ...], "in [0, 1]"] = 0.0
    """Weight of the collaboration reward, in [0, 1]; several numbers give each depth its own."""
    collaboration: Named = "probability"
    """Collaboration reward: rho times the average probability of the block (probability), rho times how often it was
    chosen (count), or a function of the game's spec and rho that returns a CollaborationReward."""
    optimizer: Named = "sgd"
    """Optimiser of the blocks: sgd, adam, or a function of the parameters, which excludes learning_rate, momentum and
    weight_decay."""
    learning_rate: Annotated[float, "above 0"] = 0.01
    """Learning rate of the blocks."""
    momentum: Annotated[float, "at least 0"] = 0.0
    """Momentum of SGD."""
    weight_decay: Annotated[float, "at least 0"] = 0.0
    """Weight decay of the blocks."""
    decay_every: Annotated[int, "at least 0"] = 20
    """Epochs between decays of the learning rate; 0 never decays."""
    decay_factor: Annotated[float, "in (0, 1]"] = 0.1
    """Factor of the learning rate at each decay."""
    weight_average: Annotated[float, "in [0, 1)"] = 0.0
    """Decay, in [0, 1), of the exponential moving average of the weights that is evaluated, for routed networks and
    baselines alike; 0 evaluates the weights themselves."""
    batch_size: Annotated[int, "at least 1 and at most 1,000,000"] = 32
    """Samples routed and trained on together."""
    dealer: Named = "shuffled"
    """Order of the training samples: shuffled (passes of up to batch_size samples), endless (always exactly as many),
    per_task (samples of every task), or a function of data, batch_size and seed that returns a Dealer."""
    drift: Annotated[int, "at least 0"] = 0
    """Passes at the start in which each task is dealt the samples of another task; 0 has none."""
    visitors: Annotated[int, "at least 0"] = 0
    """Tasks of each group that are visitors: they always take the same block, and their agents have no choice."""
    block_batch: Annotated[int | None, "at least 1"] = None
    """Collect this many routed samples before the blocks take a step; without it every deal is a step."""
    device: str = "cpu"
    """Where the game runs: cpu, cuda, cuda:1, ..."""
    seed: Annotated[int, "an integer from 0 to 2**63 - 1"] = 0
    """Seed of the whole world: weights, order of the data, validation cut, router."""

    DERIVED: ClassVar[frozenset[str]] = frozenset({"blocks", "depth", "loss", "final_reward"})
    """Settings whose default follows from the data or from other settings."""

    OF_NETWORK: ClassVar[tuple[str, ...]] = (
        *("hidden", "layers", "blocks", "recursive", "pass_action", "depth"),
        *("filters", "dropout"),
    )
    """Settings that a network function settles itself."""

    OF_OPTIMIZER: ClassVar[tuple[str, ...]] = ("learning_rate", "momentum", "weight_decay")
    """Settings that an optimiser function settles itself."""


def is_function(value: Named) -> bool:
    """Whether a setting gives a function from outside, itself or by a reference, rather than a built-in's name."""
    return not isinstance(value, str) or ":" in value


def check(given: Given, *owners: type, also: Iterable[str] = ()) -> dict[str, Any]:
    """Check names, types and ranges of settings, and bring numbers into Python's own types.

    Args:
        given: the settings.
        owners: the dataclasses that have them as fields.
        also: other names that the caller takes, to suggest from.

    Raises:
        SettingError: a setting that does not exist, with the closest match, or a value of the wrong type or out of
            range.
    """
    known = {name: (kind, owner) for owner in owners for name, kind in types_of(owner).items()}
    for name in given:
        if name not in known:
            raise SettingError(f"got an unexpected keyword argument {name!r}; {suggestion(name, {*known, *also})}")
    checked: dict[str, Any] = {}
    for name, value in given.items():
        kind, owner = known[name]
        checked[name] = _converted(name, value, kind)
        _check_range(name, checked[name], kind, ranges_of(owner).get(name))
    return checked


@cache
def types_of(owner: type) -> Mapping[str, Any]:
    """The types of a dataclass's fields, other settings within it left out."""
    hints = get_type_hints(owner)
    return {field.name: hints[field.name] for field in fields(owner) if not is_dataclass(hints[field.name])}


@cache
def ranges_of(owner: type) -> Mapping[str, Range]:
    """The ranges of a dataclass's numbers, by their names."""
    hints = get_type_hints(owner, include_extras=True)
    return {name: hints[name].__metadata__[0] for name in types_of(owner) if get_origin(hints[name]) is Annotated}


def _check_range(name: str, value: Any, kind: Any, within: Range | None) -> None:
    """Refuse a number out of range, or no number where one would do."""
    if within is None or value is None:
        return
    several = value if isinstance(value, tuple) else (value,)
    if not all(is_number(one, within) for one in several) or (not several and get_origin(kind) is not tuple):
        raise SettingError(f"{name} is {value!r}; it must be {within}")


def _converted(name: str, value: Any, kind: Any) -> Any:
    """The value as the first of the kinds that it fits."""
    kinds = get_args(kind) if get_origin(kind) is type(int | str) else (kind,)
    for one in kinds:
        fits, convert, _ = _rule(one)
        if fits(value):
            return convert(value)
    wanted = " or ".join(dict.fromkeys(_rule(one)[2] for one in kinds))
    raise SettingError(f"{name} is {value!r}; it must be {wanted}")


def _rule(kind: Any) -> tuple[Callable[[Any], bool], Callable[[Any], Any], str]:
    """For a type whether a value fits, how it is brought into the type, and the type in words."""
    if get_origin(kind) is tuple:
        fits, convert, words = _rule(get_args(kind)[0])
        several = words.removeprefix("a ").removeprefix("an ") + "s"
        return (
            lambda value: isinstance(value, list | tuple) and all(map(fits, value)),
            (lambda value: tuple(map(convert, value))),
            several,
        )
    return _RULES[get_origin(kind) or kind]


def _is_number(value: Any) -> bool:
    try:
        return is_number(value) and math.isfinite(value)
    except OverflowError:  # an integer beyond the floating-point numbers
        return False


_RULES: dict[Any, tuple[Callable[[Any], bool], Callable[[Any], Any], str]] = {
    bool: (lambda value: isinstance(value, bool), bool, "True or False"),
    int: (lambda value: as_integer(value) is not None, int, "an integer"),
    float: (_is_number, float, "a finite number"),
    str: (lambda value: isinstance(value, str), str, "a string"),
    Callable: (callable, lambda value: value, "a function"),
    NoneType: (lambda value: value is None, lambda value: value, "None"),
}
