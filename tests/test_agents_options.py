"""What the options of routers may be, and what they mean."""

from __future__ import annotations

from dataclasses import is_dataclass
from inspect import signature
from typing import Any

import pytest
import torch

from routing_env.agents import ROUTERS, make_router, router_class
from routing_env.agents.base import rate_at
from routing_env.names import field_docs
from routing_env.types import GameSpec

SPEC = GameSpec(
    tasks=2,
    depth=2,
    actions=3,
    features=2,
    legal=torch.ones(2, 3, dtype=torch.bool),
    layers=((0, 1, 2), (0, 1, 2)),
    device=torch.device("cpu"),
)


def test_rates() -> None:
    assert rate_at(0.3, 99) == 0.3
    assert [rate_at((1.0, 0.2, 8), n) for n in (0, 4, 8, 100)] == pytest.approx([1.0, 0.6, 0.2, 0.2])
    with pytest.raises(ValueError, match="start, end, samples"):
        rate_at((1.0, 0.2, 0), 1)


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("advantage-learning", {"scale": 0.0}, r"scale is 0.0; it must be in \(0, 1\]"),
        ("advantage-learning-approx", {"scale": 1.5}, r"scale is 1.5; it must be in \(0, 1\]"),
        ("exp3", {"exploration": 2.0}, r"exploration is 2.0; it must be in \(0, 1\]"),
        ("exp3", {"reward_range": (1.0, 1.0)}, r"reward_range is \(1.0, 1.0\); it must be \(least, greatest\)"),
        ("per-layer", {"routers": ["wpl"]}, "1 routers and 2 options for 2 depths"),
        ("per-layer", {"gamma": -1}, r"gamma is -1; it must be in \[0, 1\]"),
        ("reinforce", {"network": "mpl"}, "did you mean 'mlp'"),
        ("reinforce", {"optimizer": "adamw"}, "optimizer is 'adamw'; it must be 'adam' or 'sgd'"),
        ("reinforce", {"epsilon": (1.0, -0.1, 9)}, r"epsilon is \(1.0, -0.1, 9\); it must be in \[0, 1\]"),
        ("reinforce", {"learning_rate": -0.1}, "learning_rate is -0.1; it must be at least 0"),
        ("reinforce", {"gamma": "1"}, r"gamma is '1'; it must be in \[0, 1\]"),
        ("advantage-actor-critic", {"trace_decay": 2}, r"trace_decay is 2; it must be in \[0, 1\]"),
        ("q-learning", {"epsilon": 1.5}, r"epsilon is 1.5; it must be in \[0, 1\]"),
        ("q-learning", {"step": [0.1, 0.0]}, r"step is \[0.1, 0.0\]; it must be a number or \(start, end, samples\)"),
        ("q-learning", {"step": "fast"}, "step is 'fast'; it must be a number or"),
        ("q-learning-approx", {"epsilon": (1.0, 0.1, 0)}, "with samples above 0"),
        ("gumbel-softmax", {"temperature": (1.0, 0.0, 1)}, r"temperature is \(1.0, 0.0, 1\); it must be above 0"),
        ("relax", {"temperature": (1.0, 0.0, 8)}, r"temperature is \(1.0, 0.0, 8\); it must be above 0"),
        ("wolf-phc", {"exploration": float("nan")}, r"exploration is nan; it must be in \[0, 1\]"),
        ("giga-wolf", {"minimum": 2}, r"minimum is 2; it must be in \[0, 1\]"),
        ("wpl", {"step": -1}, "step is -1; it must be at least 0"),
        ("wpl", {"rule": "algorithm-4"}, "rule is 'algorithm-4'; it must be 'algorithm-3', 'section-7.4' or 'full-vec"),
        ("wpl", {"topology": "shared"}, "topology is 'shared'"),
        ("wpl", {"minimum": 0.1}, "minimum is 0.1 beside rule 'algorithm-3', which has none; use 'full-vector'"),
        ("wpl", {"rule": "section-7.4", "value_step": 0.1}, "value_step is 0.1 beside rule 'section-7.4'"),
        ("reinforce", {"train_blocks": True}, "train_blocks is True beside network 'table', which does not see v"),
    ],
)
def test_bad_options_are_refused_by_the_constructor(name: str, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        make_router(name, SPEC, **options)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("gumbel-softmax", "gamma"),
        ("gumbel-softmax", "train_blocks"),
        ("relax", "train_blocks"),
        ("relax", "epsilon"),
        ("wpl-approx", "epsilon"),
        ("q-learning-approx", "entropy"),
        ("random", "gamma"),
    ],
)
def test_options_without_effect_do_not_exist(name: str, option: str) -> None:
    with pytest.raises(ValueError, match=f"has no option '{option}'"):
        make_router(name, SPEC, **{option: 0.5})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", ROUTERS)
def test_every_option_says_what_it_means(name: str) -> None:
    found = router_class(name)
    options = [option for option in signature(found).parameters if option != "spec"]
    assert options == (list(field_docs(found)) if is_dataclass(found) else ["seed"])
