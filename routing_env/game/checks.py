"""What a game refuses before anything changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from routing_env.data import MultiTaskData
from routing_env.data.dealers import Dealer
from routing_env.types import Batch, Decision, GameSpec, State


def is_legal(action: Tensor, state: State) -> Tensor:
    """Whether each lane's action, int64 [B], is legal, bool [B]; for actions of any value."""
    inside = action.clamp(0, state.legal.shape[1] - 1)
    return state.legal.gather(1, inside.unsqueeze(1)).squeeze(1) & (inside == action)


def noted(decision: Decision, state: State, illegal: Tensor) -> Decision:
    """Note in bool [] whether an action is illegal, without waiting for the device.

    Returns:
        The decision, with the nearest action there is where one does not exist.
    """
    illegal.logical_or_(~is_legal(decision.action, state).all())
    return replace(decision, action=decision.action.clamp(0, state.legal.shape[1] - 1))


def check_decision(decision: Decision, state: State, playing: Tensor | None = None) -> None:
    """Check a router's decision for the lanes that still play.

    Raises:
        ValueError: something of the wrong kind, shape or type; an illegal action; or probabilities that are not a
            distribution over the legal actions from which the action can have been drawn.
    """
    kind = cast(object, decision)
    if not isinstance(kind, Decision):
        raise ValueError(
            f"act must return a routing_env.Decision; it returned {_described(kind)}: write Decision(action), with "
            "action int64 [B]"
        )
    check_legal(decision.action, state, playing)
    for name, value, shape in (
        ("probability", decision.probability, state.legal.shape),
        ("gate", decision.gate, state.task.shape),
    ):
        if value is not None and not _fits(value, shape, state.legal.device):
            raise ValueError(
                f"{name} must be a float tensor of shape {list(shape)} on {state.legal.device}; got {_described(value)}"
            )
    agent, task = cast(object, decision.agent), state.task
    if agent is not None and not (
        isinstance(agent, Tensor) and (agent.dtype, agent.shape, agent.device) == (torch.int64, task.shape, task.device)
    ):
        raise ValueError(
            f"agent must be an int64 tensor of shape {list(task.shape)} on {task.device}; got {_described(agent)}"
        )
    if decision.probability is not None:
        _check_probability(decision.probability, decision.action, state, playing)


_ROUNDING = 1e-3
"""How far from 1 the sum of a lane's probabilities may be."""


def _check_probability(probability: Tensor, action: Tensor, state: State, playing: Tensor | None) -> None:
    """Check that each lane's probabilities are a distribution over legal actions and could have drawn its action."""
    whole, legal = probability.abs().sum(1), (probability * state.legal).sum(1)  # equal 1 only if none is negative
    fine = (whole < 1 + _ROUNDING) & (legal > 1 - _ROUNDING)
    taken = probability.gather(1, action.clamp(0, probability.shape[1] - 1)[:, None])[:, 0]
    fine &= taken > 0
    if playing is not None:
        fine |= ~playing
    if not fine.all():
        lane = int((~fine).nonzero()[0])
        raise ValueError(
            f"probability of lane {lane} at depth {state.depth + 1} is {probability[lane].tolist()}, and its action "
            f"{int(action[lane])}; it must be a distribution over the legal actions "
            f"{state.legal[lane].nonzero()[:, 0].tolist()}, with the action among those that it can draw"
        )


def check_shapes(takes: tuple[int, ...], gives: tuple[int, ...], data: MultiTaskData) -> None:
    """Check that a network fits the data.

    Raises:
        ValueError: it takes samples, or gives outputs, of another shape.
    """
    if gives != (data.outputs,):
        raise ValueError(f"the network gives {gives} outputs; {data.name} needs ({data.outputs},)")
    if takes != data.input_shape:
        raise ValueError(f"the network takes {takes}; samples of {data.name} are {data.input_shape}")


def check_routes(routes: Tensor, lanes: int, spec: GameSpec) -> None:
    """Check whole routes for a deal.

    Raises:
        ValueError: something of the wrong kind, shape or type, or an action that does not exist.
    """
    shapes = ((spec.depth,), (lanes, spec.depth))
    if not isinstance(cast(object, routes), Tensor) or routes.dtype != torch.int64 or routes.shape[1:] not in shapes:
        raise ValueError(
            f"routes must be int64 [R, {spec.depth}], or [R, {lanes}, {spec.depth}] for {lanes} lanes; got "
            f"{_described(routes)}"
        )
    if not len(routes) or routes.device != spec.legal.device:
        raise ValueError(f"routes must be at least one, on {spec.legal.device}; got {_described(routes)}")
    if routes.min() < 0 or routes.max() >= spec.actions:
        raise ValueError(
            f"routes take actions from {int(routes.min())} to {int(routes.max())}; they must be from 0 to "
            f"{spec.actions - 1}"
        )


def check_learned(values: object) -> Mapping[str, float]:
    """Check what a router's ``learn`` returned.

    Raises:
        ValueError: it is not a dict of floats by name.
    """
    if not isinstance(values, Mapping):
        raise ValueError(
            f"learn must return a dict of floats by name, or an empty one; it returned {_described(values)}"
        )
    for name, value in cast(Mapping[object, object], values).items():
        if not isinstance(name, str):
            raise ValueError(f"learn must name what it returns by strings; got {name!r}")
        if not isinstance(value, float):
            raise ValueError(f"learn must return floats; {name} is {_described(value)}")
    return cast(Mapping[str, float], values)


def _fits(value: object, shape: tuple[int, ...], device: torch.device) -> bool:
    return isinstance(value, Tensor) and value.shape == shape and value.is_floating_point() and value.device == device


def _described(value: object) -> str:
    """The kind of a value, for messages; of a tensor also type, shape and device, of a plain value the value."""
    if isinstance(value, Tensor):
        return f"a tensor {value.dtype} of shape {list(value.shape)} on {value.device}"
    return repr(value) if value is None or isinstance(value, bool | int | str) else f"a {type(value).__name__}"


def check_legal(action: Tensor, state: State, playing: Tensor | None = None) -> None:
    """Check the actions of the lanes that still play.

    Raises:
        ValueError: wrong shape or type, or an illegal action, with its lane and the legal ones.
    """
    lanes = len(state.legal)
    kind = cast(object, action)
    if not isinstance(kind, Tensor):
        raise ValueError(f"actions must be an int64 tensor of shape [{lanes}]; got {_described(kind)}")
    if action.shape != (lanes,) or action.dtype != torch.int64:
        raise ValueError(f"actions must be int64 of shape [{lanes}]; got {action.dtype} of shape {list(action.shape)}")
    if action.device != state.legal.device:
        raise ValueError(f"actions must be on {state.legal.device}, as the state is; they are on {action.device}")
    fine = is_legal(action, state)
    if playing is not None:
        fine = fine | ~playing
    if not fine.all():
        lane = int((~fine).nonzero()[0])
        legal = state.legal[lane].nonzero().squeeze(1).tolist()
        raise ValueError(
            f"action {int(action[lane])} of lane {lane} (task {int(state.task[lane])}) is illegal at depth "
            f"{state.depth + 1}; legal are {legal}"
        )


def checked_batch(batch: Batch | None, dealer: Dealer, data: MultiTaskData, network: nn.Module) -> Batch:
    """The samples of a deal, checked unless a dealer of this package deals them.

    Args:
        batch: those that are given; None: the dealer's next.
        dealer: deals them otherwise.
        data: the tasks.
        network: takes them.

    Raises:
        ValueError: inputs, tasks or targets that are not finite, of the wrong shape or type, or out of range.
    """
    if batch is None:
        batch = dealer.next_batch()
        if type(dealer).__module__.startswith("routing_env.data."):
            return batch
    if not isinstance(cast(object, batch), Batch):
        raise ValueError(f"a deal must be a routing_env.types.Batch; got {_described(batch)}")
    lanes, shape = len(batch.x), tuple(batch.x.shape[1:])
    if shape != data.input_shape or not lanes:
        raise ValueError(
            f"the batch has inputs of shape {list(batch.x.shape)}; it must be [lanes, *{data.input_shape}]"
        )
    dtype = next(network.parameters()).dtype
    if batch.x.dtype not in (torch.float32, dtype):
        raise ValueError(f"inputs of the batch must be {dtype}, as the network is; got {batch.x.dtype}")
    if not batch.x.isfinite().all():
        raise ValueError("the batch holds NaN or infinity; remove or replace such values")
    task = batch.task
    if task.shape != (lanes,) or task.dtype != torch.int64 or ((task < 0) | (task >= data.tasks)).any():
        raise ValueError(f"tasks of the batch must be int64 [{lanes}] in 0 to {data.tasks - 1}; got {task}")
    target = batch.target
    if data.classes is None:
        if target.shape != (lanes, data.outputs) or not target.isfinite().all():
            raise ValueError(
                f"targets of the batch must be finite and of shape [{lanes}, {data.outputs}]; got {target}"
            )
        return batch
    classes = torch.tensor(data.classes, device=task.device)[task]
    if target.shape != (lanes,) or target.dtype != torch.int64 or ((target < 0) | (target >= classes)).any():
        raise ValueError(
            f"targets of the batch must be int64 [{lanes}] below {classes.tolist()}; got {target.tolist()}"
        )
    return batch
