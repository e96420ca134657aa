"""The best sharing there is, where the data know it: the yardstick on ``planted``."""

from __future__ import annotations

import torch

from routing_env.types import Decision, GameSpec, Router, State


class Oracle(Router):
    """Tasks of group g take block g of each layer.

    Args:
        spec: of a game whose data know their groups.
        seed: taken for the sake of uniformity; nothing is random here.

    Raises:
        ValueError: data without groups, or fewer blocks in a layer than groups.
    """

    def __init__(self, spec: GameSpec, *, seed: int = 0) -> None:
        if spec.groups is None:
            raise ValueError("the oracle needs data that know which tasks belong together; use the data set 'planted'")
        groups = max(spec.groups) + 1
        layers = spec.layers
        if min(map(len, layers)) < groups:
            raise ValueError(f"a layer has {min(map(len, layers))} blocks for {groups} groups; raise blocks")
        self._block = torch.tensor([[layer[group] for group in spec.groups] for layer in layers], device=spec.device)

    def act(self, state: State, *, greedy: bool = False) -> Decision:
        """The block of each lane's group."""
        return Decision(self._block[state.depth][state.task])
