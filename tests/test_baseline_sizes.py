"""Depth and width of baselines, and networks with as many parameters as the routed layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from plans import a_plan, lanes
from torch import Tensor

from routing_env.baselines import BASELINES, Baseline, Plan, baseline_class, make_baseline, size_options
from routing_env.cli import main
from routing_env.runs.learners import BaselineLearner
from routing_env.runs.run import Run

SIZED = [name for name in BASELINES if "equal_parameters" in size_options(baseline_class(name))]
"""Baselines whose width may be chosen by the number of parameters."""


class HomeMade(Baseline):
    """Somebody's own baseline: one hidden layer for all tasks, and one linear layer."""

    def __init__(self, plan: Plan, *, scale: float = 1.0) -> None:
        super().__init__(plan)
        self.layers = torch.nn.Sequential(
            *(torch.nn.Linear(*pair) for pair in zip(plan.widths[:-1], plan.widths[1:], strict=True))
        )
        self.scale = scale

    def head(self, v: Tensor, task: Tensor) -> Tensor:
        """Apply the layers."""
        return self.layers(v) * self.scale


class WithItsOwnWidth(HomeMade):
    """Its constructor has an option of the same name, which keeps its own meaning."""

    def __init__(self, plan: Plan, *, width: str = "narrow") -> None:
        super().__init__(plan)
        self.own = width


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_a_plan_is_resized() -> None:
    plan = a_plan(5, 7, 6, 2)  # the hidden width is 6
    assert plan.depth == 3
    assert plan.resized() is plan
    assert plan.resized(depth=3) is plan
    assert plan.resized(depth=1).widths == (5, 2)
    assert plan.resized(depth=2).widths == (5, 6, 2)
    assert plan.resized(depth=4).widths == (5, 6, 6, 6, 2)
    assert plan.resized(width=9).widths == (5, 9, 9, 2)
    assert plan.resized(depth=2, width=9).widths == (5, 9, 2)
    assert plan.resized(width=9).hidden == 9
    assert plan.resized(width=9).parameters == plan.parameters
    assert plan.resized(width=9).stem is plan.stem


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_every_baseline_takes_a_depth_and_a_width(name: str, depth: int) -> None:
    found = baseline_class(name)
    given: dict[str, Any] = {"depth": depth, "width": 8}
    if name == "linear_heads":
        for option in given:
            with pytest.raises(ValueError, match=f"has no option '{option}'"):
                make_baseline(name, a_plan(), **{option: 1})
        return
    torch.manual_seed(0)
    sized = make_baseline(name, a_plan(), **given)
    torch.manual_seed(0)
    plan = a_plan().resized(**given)
    direct: Baseline = found(plan) if "width" in size_options(found) else found(plan, width=8)  # pyright: ignore[reportCallIssue]
    assert {key: value.shape for key, value in sized.state_dict().items()} == {
        key: value.shape for key, value in direct.state_dict().items()
    }
    x, task = lanes()
    assert torch.equal(sized.eval()(x, task), direct.eval()(x, task))
    assert sized(x, task).shape == (11, 2)


def test_your_own_baseline_is_sized_through_its_plan() -> None:
    network = make_baseline(HomeMade, a_plan(), depth=2, width=9, scale=2.0)
    assert isinstance(network, HomeMade)
    assert [tuple(layer.weight.shape) for layer in network.layers] == [(9, 5), (2, 9)]  # pyright: ignore
    assert network.scale == 2
    named = make_baseline(WithItsOwnWidth, a_plan(), width="wide", depth=1)
    assert isinstance(named, WithItsOwnWidth)
    assert named.own == "wide"
    assert len(named.layers) == 1


@pytest.mark.parametrize("name", [*SIZED, HomeMade])
@pytest.mark.parametrize("widths", [(40, 30, 30, 4), (128, 64, 5)])
def test_equal_parameters_are_at_most_a_tenth_fewer(name: str | type[Baseline], widths: tuple[int, ...]) -> None:
    plan = a_plan(*widths)
    state = torch.get_rng_state()
    network = make_baseline(name, plan, equal_parameters=True)
    torch.set_rng_state(state)
    width = next(width for width in range(1, 2000) if count(make_baseline(name, plan, width=width)) > plan.parameters)
    assert 0.9 * plan.parameters <= count(network) <= plan.parameters
    assert count(network) == count(make_baseline(name, plan, width=width - 1)), "a wider network would fit"
    assert not network.warning
    torch.set_rng_state(state)
    same = make_baseline(name, plan, width=width - 1)
    x, task = lanes(widths[0])
    assert torch.equal(network.eval()(x, task), same.eval()(x, task)), "the search draws random numbers"


def test_the_stem_does_not_count() -> None:
    plan = a_plan(40, 30, 30, 4)
    stem = torch.nn.Linear(100, 40)
    deep = Plan(stem, plan.widths, plan.tasks, plan.blocks, plan.hidden, plan.parameters)
    network = make_baseline("mmoe", deep, equal_parameters=True)
    assert count(network) - count(stem) == count(make_baseline("mmoe", plan, equal_parameters=True))
    assert network.stem is stem
    assert stem.weight.device.type == "cpu"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"depth": 0}, "depth is 0; it must be an integer of at least 1"),
        ({"width": 2.5}, "width is 2.5; it must be an integer"),
        ({"equal_parameters": "yes"}, "equal_parameters is 'yes'; it must be true or false"),
        ({"equal_parameters": True, "width": 8}, "leave out width=8"),
        ({"equal_parameters": True, "depth": 1}, "does not depend on the width at depth 1.*give depth=2"),
        ({"equal_parameters": True, "experts": 400, "depth": 4}, "at width 1, more than the 416"),
        ({"dept": 2}, "did you mean 'depth'"),
    ],
)
def test_sizes_that_cannot_be_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_baseline("mmoe", a_plan(), **given)


@pytest.mark.parametrize(("name", "of"), [("pcgrad", "dense"), ("ensemble", "dense"), ("ensemble", "linear_heads")])
def test_a_width_that_would_change_nothing_is_refused(name: str, of: str) -> None:
    with pytest.raises(ValueError, match=f"width is 8, which changes nothing in .*'{of}'; leave it out"):
        make_baseline(name, a_plan(), of=of, width=8)
    widths = (8, 16)
    narrow, wide = (count(make_baseline(name, a_plan(), of="task_specific_1_fc", width=width)) for width in widths)
    assert narrow < wide


def test_a_network_that_falls_short_says_so() -> None:
    plan = a_plan(5, 4, 2, tasks=40)
    network = make_baseline("task_specific_all_fc", a_plan(2, 90, 1, tasks=200), equal_parameters=True)
    assert "the largest width that fits is 1: " in network.warning
    assert plan.depth == 2


def test_a_run_takes_the_sizes_as_router_options() -> None:
    options = ("depth=3", "equal_parameters=true")
    learner = Run.of({"router": "task_specific_1_fc", "router_options": options, "data": "planted"}).learner
    assert isinstance(learner, BaselineLearner)
    blocks = learner.settings.blocks
    assert isinstance(blocks, int)
    assert len(learner.network.trunk) == 4  # pyright: ignore[reportArgumentType]
    routed = blocks * (128 + 1) * 4
    assert 0.9 * routed <= count(learner.network) <= routed


@pytest.mark.parametrize(
    ("name", "listed", "hidden"),
    [
        ("mmoe", ("experts", "depth", "width", "equal_parameters"), ()),
        ("dense", ("depth", "width"), ("equal_parameters",)),
        ("linear_heads", ("It has no options.",), ("depth", "width")),
    ],
)
def test_the_list_shows_the_sizes(
    name: str,
    listed: tuple[str, ...],
    hidden: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["routing-env", "list", name])
    main()
    shown = capsys.readouterr().out
    for word in listed:
        assert word in shown
    for word in hidden:
        assert f"{word} " not in shown


def test_linear_heads_are_one_layer_of_task_specific_1_fc() -> None:
    torch.manual_seed(0)
    heads = make_baseline("linear_heads", a_plan())
    torch.manual_seed(0)
    shallow = make_baseline("task_specific_1_fc", a_plan(), depth=1)
    x, task = lanes()
    assert torch.equal(heads(x, task), shallow(x, task))
    assert list(heads.state_dict()) == list(shallow.state_dict())
    for lane, t in enumerate(task.tolist()):
        torch.testing.assert_close(heads(x, task)[lane], heads.heads.blocks[t](x[lane]))  # pyright: ignore


def test_one_import_path_is_enough(tmp_path: Path) -> None:
    """A baseline in your own file is sized too."""
    path = tmp_path / "mine.py"
    path.write_text(
        "from torch import nn\n"
        "from routing_env.baselines import Baseline\n"
        "class Mine(Baseline):\n"
        "    def __init__(self, plan):\n"
        "        super().__init__(plan)\n"
        "        self.layer = nn.Linear(plan.widths[0], plan.widths[-1] * plan.depth)\n"
        "    def head(self, v, task):\n"
        "        return self.layer(v)\n"
    )
    assert count(make_baseline(f"{path}:Mine", a_plan(), depth=4)) == 6 * 8
