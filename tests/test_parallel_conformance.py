"""PettingZoo's own conformance tests and registry, and the first example."""

from __future__ import annotations

import itertools
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pettingzoo
import pytest
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, render_test, seed_test
from pettingzoo.test.max_cycles_test import max_cycles_test
from pettingzoo.test.state_test import state_test
from zoo import GAMES, MASKS, TOPOLOGIES

from routing_env import MultiTaskData, RoutingParallelEnv, parallel_env, routing_v0

PARTS = [parts for size in (1, 2, 3) for parts in itertools.combinations(("v", "task", "depth"), size)]


# Remarks that PettingZoo makes about any environment with unbounded or masked observations, whose agents ignore masks,
# or where not every possible agent takes part, and ours about seeds and further worlds that its tests give.
@pytest.mark.filterwarnings(
    "error",
    "ignore:.*infinity.*",
    "ignore:Observation is not a NumPy array",
    "ignore:Observation space for each agent probably",
    "ignore:.*heed the action mask",
    "ignore:.*all zeros",
    "ignore:.*all-zero",
    "ignore:State is a single number",
    "ignore:.*discards what its blocks have learned",
    "ignore:a second world of the same data and settings",
    "ignore:No agents present but not all possible_agents",
)
@pytest.mark.parametrize("game", GAMES, ids=lambda game: "-".join(name for name, on in game.items() if on) or "layered")
@pytest.mark.parametrize("mask", MASKS)
def test_conforms_to_pettingzoo(small: MultiTaskData, mask: Any, game: dict[str, Any]) -> None:
    # Every mask meets every game in every topology, and all parts meet each of these; all four together take too long.
    turn = MASKS.index(mask) * len(GAMES) + GAMES.index(game)
    for number, topology in enumerate(TOPOLOGIES, turn * len(TOPOLOGIES)):
        parts = PARTS[number % len(PARTS)]
        seen = {"mask": mask, "parts": parts, "state_parts": [None, *PARTS][number % (len(PARTS) + 1)]}
        arguments: dict[str, Any] = {"data": small, "hidden": 4, **seen, **game, **topology}
        parallel_api_test(parallel_env(**arguments), num_cycles=20)
        parallel_seed_test(lambda arguments=arguments: parallel_env(**arguments), num_cycles=20)
        api_test(routing_v0.env(**arguments), num_cycles=20)
        seed_test(lambda arguments=arguments: routing_v0.env(**arguments), num_cycles=20)
        state_test(routing_v0.env(**arguments), parallel_env(**arguments))


@pytest.mark.filterwarnings("ignore:.*heed the action mask")
@pytest.mark.parametrize(
    ("mask", "game", "topology"), list(zip(MASKS, GAMES, [*TOPOLOGIES, TOPOLOGIES[2]], strict=True))
)
@pytest.mark.usefixtures("window")
def test_renders_as_pettingzoo_expects(
    small: MultiTaskData, mask: Any, game: dict[str, Any], topology: dict[str, Any]
) -> None:
    # Pictures depend on neither mask nor parts: each mask is paired with one game.
    def make(**render_mode: Any) -> Any:
        return routing_v0.env(data=small, hidden=4, mask=mask, **render_mode, **game, **topology)

    render_test(make)


@pytest.mark.filterwarnings("ignore:.*heed the action mask")
def test_an_episode_has_as_many_steps_as_the_game_is_deep(small: MultiTaskData) -> None:
    def of_depth(make: Any) -> Any:
        return lambda max_cycles: make(data=small, recursive=True, pass_action=True, depth=max_cycles)

    max_cycles_test(SimpleNamespace(parallel_env=of_depth(parallel_env), env=of_depth(routing_v0.env)))


@pytest.mark.skipif(not hasattr(pettingzoo, "make"), reason="this PettingZoo has no registry")
def test_the_registry_knows_the_environment() -> None:
    program = (
        "import sys, routing_env, pettingzoo; [pettingzoo.spec(kind, 'routing_env/routing-v0') for kind in "
        "('parallel', 'aec')]; assert not {'torch', 'matplotlib', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert isinstance(pettingzoo.make("parallel", "routing_env/routing-v0", rho=0.1), RoutingParallelEnv)
    assert isinstance(pettingzoo.make("aec", "routing_env/routing_v0", rho=0.1).unwrapped, RoutingParallelEnv)


def test_the_quickstart_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    script = str(Path(__file__).parent.parent / "examples" / "quickstart.py")
    monkeypatch.setattr(sys, "argv", [script, "--episodes", "10"])
    runpy.run_path(script, run_name="__main__")
    output = capsys.readouterr().out
    assert "episode   10" in output
    assert "test accuracy" in output
