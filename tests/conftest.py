"""Settings of the whole test suite."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings
from zoo import small_data

from routing_env import MultiTaskData, RoutingParallelEnv

# One thread: sums come out in the same order every time, and parallel test workers do not fight for cores.
torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long tests play and train; by default as long as they must to show what they are about."""
    parser.addoption("--long", action="store_true", help="train as long as the pages say, for minutes")
    parser.addoption("--fuzz-calls", type=int, default=400, help="calls of each environment in tests/test_fuzz.py")
    parser.addoption(
        "--ray-seeds", type=int, default=1, help="runs of each of four entrants in tests/test_ray_engine.py"
    )


settings.register_profile("reproducible", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("reproducible")


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether trainings may take minutes."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="module")
def small() -> MultiTaskData:
    """Three tasks on twelve inputs."""
    return small_data()


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window that waits for nobody and needs no display."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setitem(RoutingParallelEnv.metadata, "render_fps", 0)
