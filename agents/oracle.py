"""The best sharing, if the data know it: the yardstick on ``planted``."""

from __future__ import annotations

import torch

from routing_env.types import Decision, GameSpec, Router, State


class Oracle(Router):
    """Oracle: the tasks of group g take block g of each layer.

    Args:
        spec: The specification of a game whose data know their groups.
        seed: Ignored; present because every router is built with one.

    Raises:
        ValueError: The data have no groups, or a layer has fewer blocks than there are groups.
    """

    def __init__(self, spec: GameSpec, *, seed: int = 0) -> None:
        if spec.groups is None:
            raise ValueError("the oracle needs data that know which tasks belong together; use the data set 'planted'")
        groups, blocks = max(spec.groups) + 1, min(map(len, spec.layers))
        if blocks < groups:
            raise ValueError(f"a layer has {blocks} blocks for {groups} groups; raise blocks")
        self._block = torch.tensor([[layer[g] for g in spec.groups] for layer in spec.layers], device=spec.device)

    def grow(self, spec: GameSpec) -> Oracle:
        """The best sharing of all tasks."""
        return Oracle(spec)

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """Take the block of each lane's group."""
        action = self._block[state.depth][state.task]
        return Decision(action, torch.nn.functional.one_hot(action, state.legal.shape[1]).to(torch.float32))
