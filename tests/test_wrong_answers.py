"""What a router or another part of your own gets wrong is said in one line, by training and ``check_router`` alike."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch.nn.functional import one_hot
from worlds import little_data

from routing_env import Decision, Router, State, Trace, make_game
from routing_env.agents import make_router
from routing_env.baselines import BASELINES
from routing_env.cli import main
from routing_env.runs.process import explained
from routing_env.testing import check_router


def first(state: State) -> torch.Tensor:
    """The first legal action of each lane."""
    return state.legal.int().argmax(1)


def certain(state: State) -> torch.Tensor:
    """The policy that always takes it."""
    return one_hot(first(state), state.legal.shape[1]).float()


def last(state: State) -> torch.Tensor:
    """The policy that always takes the last legal action."""
    return certain(replace(state, legal=state.legal.flip(1))).flip(1)


def answering(act: Callable[[State], Any], learned: Any = None) -> type[Router]:
    """A router that answers like this."""

    class Answers(Router):
        def __init__(self, spec: object, *, seed: int = 0) -> None:
            pass

        def act(self, state: State, *, greedy: bool = False) -> Any:
            """What is asked for."""
            return act(state)

        def learn(self, trace: Trace) -> Any:
            """What is asked for."""
            return learned

    return Answers


def giving(policy: Callable[[State], Any]) -> type[Router]:
    """A router that takes the first legal action and gives such probabilities."""
    return answering(lambda state: Decision(first(state), policy(state)), {})


def learning(learned: Any) -> type[Router]:
    """A router that returns something from learn."""
    return answering(lambda state: Decision(first(state)), learned)


class NoSeed(answering(first)):
    """Has no seed."""

    def __init__(self, spec: object) -> None:
        pass


class Demanding(answering(first)):
    """Has an option without a default."""

    def __init__(self, spec: object, width: int, *, seed: int = 0) -> None:
        pass


INT64 = r"actions must be int64 of shape \[\d+\]; got "
TENSOR = r"actions must be an int64 tensor of shape \[\d+\]; got a list"
FLOATS = r"probability must be a float tensor of shape \[\d+, \d+\] on cpu; got a"
POLICY = "it must be a distribution over the legal actions"

WRONG: list[tuple[type[Router], str]] = [
    (answering(first), r"act must return a routing_env\.Decision; it returned a tensor torch\.int64 of shape \["),
    (answering(lambda state: (first(state), None)), r"act must return a routing_env\.Decision; it returned a tuple"),
    (
        answering(lambda state: Decision(cast(Any, first(state).tolist()))),
        TENSOR,
    ),
    (
        answering(lambda state: Decision(first(state).float())),
        INT64 + r"torch\.float32",
    ),
    (
        answering(lambda state: Decision(first(state)[:, None])),
        INT64 + r"torch\.int64 of shape \[\d+, 1\]",
    ),
    (
        answering(lambda state: Decision(first(state).to("meta"))),
        "actions must be on cpu, as the state is",
    ),
    (
        answering(lambda state: Decision(first(state), agent=first(state).int()), {}),
        r"agent must be an int64 tensor of shape \[\d+\] on cpu; got a tensor torch\.int32",
    ),
    (
        answering(lambda state: Decision(first(state), agent=cast(Any, 0)), {}),
        r"agent must be an int64 tensor of shape \[\d+\] on cpu; got 0",
    ),
    (giving(lambda state: torch.zeros(state.legal.shape)), POLICY),
    (giving(lambda state: 2 * certain(state)), POLICY),
    (
        giving(lambda state: 1.5 * certain(state) - 0.5 * last(state)),
        POLICY,
    ),
    (
        giving(lambda state: torch.full(state.legal.shape, torch.nan)),
        POLICY,
    ),
    (giving(last), "with the action among those that it can draw"),
    (
        giving(lambda state: certain(state).long()),
        FLOATS + r" tensor torch\.int64",
    ),
    (
        giving(lambda state: certain(state)[0]),
        FLOATS + r" tensor torch\.float32",
    ),
    (
        giving(lambda state: certain(state).numpy()),
        FLOATS + r" ndarray",
    ),
    (learning(None), "learn must return a dict of floats by name, or an empty one; it returned None"),
    (learning(torch.tensor(0.5)), "learn must return a dict of floats by name, or an empty one; it returned a tensor"),
    (learning({"loss": torch.tensor(0.5)}), "learn must return floats; loss is a tensor"),
    (learning({1: 0.5}), "learn must name what it returns by strings; got 1"),
    (NoSeed, r"is built as Class\(spec, seed=seed.*\), which its constructor does not allow: .*seed"),
    (Demanding, r"is built as Class\(spec, seed=seed.*\), which its constructor does not allow: .*width"),
]


@pytest.mark.parametrize(("router", "message"), WRONG, ids=range(len(WRONG)))
def test_training_and_checking_say_the_same(router: type[Router], message: str) -> None:
    def train() -> None:
        game = make_game(data=little_data(), network="mlp", hidden=4, blocks=3)
        make_router(router, game.spec, seed=0).play(game, 40)

    with pytest.raises(ValueError, match=message):
        train()
    with pytest.raises(AssertionError, match=message):
        check_router(router)


def run(*arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int = 2) -> str:
    """What the command line says on standard error, or if it succeeds on standard output."""
    monkeypatch.setattr(sys, "argv", ["routing-env", *arguments])
    if not code:
        main()
        return capsys.readouterr().out
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == code
    said = capsys.readouterr()
    assert "tasks," not in said.out, "an error in the options comes before the banner"
    return said.err


OWN = """
import torch
from routing_env import Decision, Router

class Mine(Router):
    def __init__(self, spec, *, seed=0):
        pass

    def act(self, state, *, greedy=False):
        return self.choose(state)

    def choose(self, state):
        BODY


def final_reward(outcome):
    return outcome.lost
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return Decision(state.tasks)", "AttributeError: 'State' object has no attribute 'tasks'"),
        ("return Decision(state.task + torch.ones(3))", "RuntimeError: The size of tensor a"),
        ("return {}['x']", "KeyError: 'x'"),
        ("raise ValueError('my own [bold] message')", "ValueError: my own [bold] message"),
        ("raise Exception", "Exception: without a message"),
    ],
)
def test_an_error_in_code_of_your_own_is_a_line_with_its_place(
    body: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = OWN.replace("BODY", body)
    Path("mine.py").write_text(source, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["routing-env", "train", "--network", "mlp", "--router", "mine.py:Mine"])
    with pytest.raises(SystemExit):
        main()
    error = capsys.readouterr().err
    line = source.splitlines().index(f"        {body}") + 1
    assert f"mine.py, line {line}, in choose: {message}" in error
    assert len(error.splitlines()) == 1
    monkeypatch.setenv("ROUTING_ENV_TRACEBACK", "1")
    with pytest.raises(BaseException) as raised:  # noqa: PT011
        main()
    assert not isinstance(raised.value, SystemExit)


def test_a_library_installed_elsewhere_is_not_code_of_your_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "dist-packages"  # as that of a system whose packages the environment sees
    folder.mkdir()
    (folder / "calling_library.py").write_text("def call(function):\n    return function()\n", encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    with pytest.raises(ValueError, match="oracle needs data") as raised:
        importlib.import_module("calling_library").call(
            functools.partial(make_router, "oracle", make_game(data="digits").spec)
        )
    assert raised.tb.tb_next is not None
    error = raised.value.with_traceback(raised.tb.tb_next)  # without the frame of this test
    assert explained(error) == str(error)


@pytest.mark.parametrize(
    ("library", "options", "extra"),
    [
        ("plotly", ["--html"], "html"),
        ("mlflow", ["--log", "mlflow"], "mlflow"),
        ("torchjd", ["--router", "pcgrad"], "torchjd"),
    ],
)
def test_an_extra_that_is_missing_is_named_with_its_remedy(
    library: str,
    options: list[str],
    extra: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setattr(sys, "argv", ["routing-env", "train", "--data", "planted", "--epochs", "1", *options])
    with pytest.raises(SystemExit):
        main()
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert error.endswith(f"pip install 'routing-env[{extra}]'")


def test_other_parts_of_your_own_are_named_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(OWN.replace("BODY", "pass"), encoding="utf-8")
    Path("broken.py").write_text("class Mine(:\n", encoding="utf-8")
    quick = ("train", "--network", "mlp", "--epochs", "1", "--router", "random")
    monkeypatch.setattr(sys, "argv", ["routing-env", *quick, "--final-reward", "mine.py:final_reward"])
    with pytest.raises(SystemExit):
        main()
    assert "mine.py, line 17, in final_reward: AttributeError" in capsys.readouterr().err
    error = run("train", "--router", "broken.py:Mine", monkeypatch=monkeypatch, capsys=capsys)
    assert "broken.py, line 1" in error
    assert "SyntaxError" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seed", "-1"), "seed is -1; it must be an integer from 0 to 2**63 - 1"),
        (("--router", "wpl", "--router-options", "step=-1"), "step is -1; it must be"),
        (("--router", "wpl", "--router-options", "gamma=nan"), "gamma is"),
        (("--hidden", "128"), "hidden is 128 beside a single layer; leave it out, or set layers above 1"),
        (("--collaboration", "count"), "collaboration is 'count' without rho and pays nothing; give rho too"),
        (("--router", "mmoe", "--rho", "0.3"), "rho is 0.3 beside mmoe, which does not route; leave it out"),
        (("--router", "mmoe", "--pass-action"), "pass_action is True beside mmoe, which does not route"),
        (("--router", "sb3:PPO", "--router-options", "n_steps=0"), "n_steps"),
        (("--router", "sb3:PPO", "--router-options", "batch_size=abc"), "batch_size=abc"),
    ],
)
def test_bad_options_are_refused_before_anything_is_shown(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in run("train", "--data", "planted", *arguments, monkeypatch=monkeypatch, capsys=capsys)
    assert not list(tmp_path.iterdir())


def test_versions_and_options_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    versions = dict(
        line.split() for line in run("--version", monkeypatch=monkeypatch, capsys=capsys, code=0).splitlines()
    )
    assert {"routing-env", "python", "torch"} <= set(versions)
    assert torch.__version__.startswith(versions["torch"])
    listed = run("list", "q-learning", monkeypatch=monkeypatch, capsys=capsys, code=0)
    assert "epsilon" in listed
    assert "(1.0, 0.02, 20000)" in " ".join(listed.split())
    assert "Discount of the action rewards" in " ".join(listed.split())
    for name in BASELINES:
        run("list", name, monkeypatch=monkeypatch, capsys=capsys, code=0)
    assert "did you mean 'wpl'" in run("list", "wpll", monkeypatch=monkeypatch, capsys=capsys)
