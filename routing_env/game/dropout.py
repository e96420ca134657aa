"""Draws that belong to a network, so that the same seed gives the same bits wherever it is trained; dropout."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from routing_env.game.settings import Settings, check


class SeededModule(nn.Module):
    """A module with a generator, since every game of a process would share torch's global one.

    The generator starts from torch's seed at the time of construction, which in a game is that of the game. Its state
    is part of ``state_dict``, so a resumed run draws as if it had never stopped. It draws on the CPU, so that every
    device gets the same numbers.

    Args:
        offset: Added to the seed, for modules that must not draw the same numbers.
    """

    def __init__(self, offset: int = 0) -> None:
        super().__init__()
        self._offset = offset
        self._generator = torch.Generator("cpu")
        self.restart()

    def restart(self, offset: int = 0) -> None:
        """Start the generator anew, from a seed that is greater by an offset: copies can draw other numbers."""
        self._generator.manual_seed((torch.initial_seed() + self._offset + offset) % 2**64)

    def get_extra_state(self) -> Tensor:
        """The state of the generator, for ``state_dict``."""
        return self._generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the generator from ``state_dict``."""
        self._generator.set_state(state.cpu())


class SeededDropout(SeededModule):
    """Dropout (Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov, JMLR 2014) with its own generator.

    Args:
        p: Probability that a feature is dropped in training, in [0, 1). The others are divided by 1 - p.

    Attributes:
        drawn: What :meth:`draw` gave beforehand, for calls that must not draw; None: every call draws.

    Raises:
        ValueError: ``p`` is out of range.
    """

    def __init__(self, p: float) -> None:
        check({"dropout": p}, Settings)
        super().__init__()
        self.p = p
        self.drawn: Tensor | None = None
        self._sample: tuple[int, ...] = ()  # the shape of the last call's samples

    def draw(self, lanes: int) -> Tensor:
        """Draw for samples of the last call's shape: 1 for features that are kept, float32 [lanes, ...] on the CPU."""
        kept = torch.empty(lanes, *self._sample, dtype=torch.float32, device="cpu")
        return kept.bernoulli_(1 - self.p, generator=self._generator)

    def forward(self, v: Tensor) -> Tensor:
        """Drop features of float [B, ...] in training, each with probability p; return them as they are otherwise."""
        self._sample = tuple(v.shape[1:])
        if not self.training:
            return v
        kept = self.draw(len(v)) if self.drawn is None else self.drawn
        return v * kept.to(v) / (1 - self.p)

    def extra_repr(self) -> str:
        """As nn.Dropout shows itself."""
        return f"p={self.p}"


def with_dropout(stem: nn.Module, share: float) -> nn.Module:
    """A stem that drops a share of its features in training; with 0 the stem itself.

    Raises:
        ValueError: The share is not in [0, 1).
    """
    if not share:
        return stem
    modules = stem if isinstance(stem, nn.Sequential) else [stem]
    return nn.Sequential(*modules, SeededDropout(share))
