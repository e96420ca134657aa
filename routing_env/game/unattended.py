"""Training steps that nobody waits for, such as captured ones: what they would tell Python is noted on the device."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from routing_env.game.blocks import BlockBank
from routing_env.game.dropout import SeededDropout


class Unattended:
    """What happens in steps that do not wait for the device.

    Args:
        network: What they train.

    Attributes:
        faults: bool [2]: whether an illegal action was taken, and whether a loss was not finite.
    """

    def __init__(self, network: nn.Module) -> None:
        self._banks = [part for part in network.modules() if isinstance(part, BlockBank)]
        self._dropouts = [part for part in network.modules() if isinstance(part, SeededDropout)]
        self._device = next(network.parameters()).device
        self.faults = torch.zeros(2, dtype=torch.bool, device=self._device)

    @property
    def illegal(self) -> Tensor:
        """The first fault, bool []."""
        return self.faults[0]

    @property
    def diverged(self) -> Tensor:
        """The second fault, bool []."""
        return self.faults[1]

    def draws(self, lanes: int) -> list[Tensor]:
        """What dropout draws for a step, see :meth:`running`; it is drawn on the CPU, and copied to the device."""
        return [dropout.draw(lanes).to(self._device) for dropout in self._dropouts]

    @contextmanager
    def running(self, draws: Sequence[Tensor]) -> Generator[None]:
        """Inside, a step runs: linear blocks all apply to all lanes, and dropout has drawn beforehand."""
        for bank in self._banks:
            bank.at_once, bank.chosen = True, None
        for dropout, drawn in zip(self._dropouts, draws, strict=True):
            dropout.drawn = drawn
        try:
            yield
        finally:
            for bank in self._banks:
                bank.at_once = False
            for dropout in self._dropouts:
                dropout.drawn = None

    def taking(self, parameters: Iterable[nn.Parameter]) -> dict[nn.Parameter, Tensor]:
        """Whether each of these parameters takes part in the step, bool []; the parameters of a block share a tensor.

        Those of blocks do if a lane has chosen the block, and all others always do.
        """
        chosen, always = self._chosen(), torch.ones_like(self.diverged)
        return {one: chosen.get(one, always) for one in parameters}

    def _chosen(self) -> dict[nn.Parameter, Tensor]:
        found: dict[nn.Parameter, Tensor] = {}
        for bank in self._banks:
            flags = () if bank.chosen is None else bank.chosen.unbind()
            for block, flag in zip(bank.blocks, flags, strict=False):
                for one in block.parameters():
                    found[one] = found[one] | flag if one in found else flag
        return found
