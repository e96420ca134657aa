"""Your own router in under 40 lines: each task keeps the average return of every block and takes the best one.

Train it with ``python examples/custom_router.py``, or with everything that the command line adds by
``routing-env train --router examples/custom_router.py:Greedy``.
"""

from collections.abc import Mapping
from typing import Any

import torch

from routing_env import Decision, GameSpec, Router, State, Trace, make_game


class Greedy(Router):
    """Epsilon-greedy on average returns: a bandit for every task and depth."""

    def __init__(self, spec: GameSpec, *, seed: int = 0, epsilon: float = 0.02, step: float = 0.01) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        # A little noise, so that not all tasks start with block 0.
        self.value = 0.01 * torch.rand(spec.tasks, spec.depth, spec.actions, generator=self.generator)
        self.epsilon, self.step = epsilon, step

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """Take the best legal block, and with probability epsilon a random one."""
        best = self.value[state.task, state.depth].masked_fill(~state.legal, -torch.inf).argmax(1)
        if greedy:
            return Decision(best)
        explore = torch.rand(len(best), generator=self.generator) < self.epsilon
        other = torch.multinomial(state.legal.float(), 1, generator=self.generator).squeeze(1)
        return Decision(torch.where(explore, other, best))

    def learn(self, trace: Trace) -> dict[str, float]:
        """Move the value of every block taken towards the return that followed."""
        depth = torch.arange(len(trace.states))
        cell = (trace.task[:, None], depth, trace.actions)
        error = trace.returns() - self.value[cell]
        self.value.index_put_(cell, self.step * error, accumulate=True)
        return {"error": float(error.abs().mean())}

    def state_dict(self) -> dict[str, Any]:
        """What an interrupted run needs to resume."""
        return {"value": self.value, "generator": self.generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore from state_dict()."""
        self.value.copy_(state["value"])
        self.generator.set_state(state["generator"])


if __name__ == "__main__":
    torch.set_num_threads(1)
    game = make_game(scenario="planted-3x4")
    router = Greedy(game.spec)
    for epoch in range(1, 7):
        router.play(game, len(game.data.train))
        test = game.evaluate(lambda state: router.act(state, greedy=True).action)
        print(f"epoch {epoch}: test {test.overall_accuracy:.1%}, balanced {test.overall_balanced_accuracy:.1%}")
