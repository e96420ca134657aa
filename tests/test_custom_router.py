"""The example of your own router: it does what every router must, and it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from routing_env import make_game
from routing_env.agents import make_router, router_class
from routing_env.testing import check_router

FILE = Path(__file__).parent.parent / "examples" / "custom_router.py"


def test_it_does_what_every_router_must() -> None:
    check_router(router_class(f"{FILE}:Greedy"))


@pytest.mark.parametrize(("page", "router"), [("README.md", "First"), ("docs/howto/benchmark-my-algorithm.md", "Mine")])
def test_the_routers_of_the_pages_do_too(page: str, router: str) -> None:
    blocks = (FILE.parent.parent / page).read_text().split("```python\n")[1:]
    (code,) = [block.split("```")[0] for block in blocks if f"class {router}(Router)" in block]
    names: dict[str, Any] = {}
    exec(code, names)
    check_router(names[router])


def test_it_learns_and_is_short() -> None:
    game = make_game(data="digits")
    router = make_router(f"{FILE}:Greedy", game.spec)
    router.play(game, 2 * len(game.data.train))

    def greedy(state: object) -> torch.Tensor:
        return router.act(state, greedy=True).action  # pyright: ignore[reportArgumentType]

    test = game.evaluate(greedy)
    assert test.overall_accuracy > float(test.majority.mean()) + 0.02
    lines = FILE.read_text().partition("class Greedy")[2].partition("if __name__")[0].splitlines()
    assert len([line for line in lines if line.strip()]) < 40
