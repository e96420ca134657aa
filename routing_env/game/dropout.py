"""Dropout whose draws belong to the network, so that the same seed gives the same bits wherever it is trained."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SeededDropout(nn.Dropout):
    """Dropout (Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov, JMLR 2014) with a generator of its own.

    ``nn.Dropout`` draws from torch's global generator, which every game of a process would share. This generator starts
    from torch's seed at the time of construction, its state is part of ``state_dict``, and it draws on the CPU, so that
    every device drops the same features.

    Args:
        p: Probability that a feature is dropped in training, in [0, 1). The others are divided by 1 - p.

    Raises:
        ValueError: ``p`` is out of range.
    """

    def __init__(self, p: float) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"dropout is {p}; it must be in [0, 1)")
        super().__init__(p)
        self._generator = torch.Generator().manual_seed(torch.initial_seed())

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # as nn.Dropout names it
        """Drop features of float [B, ...] in training, each with probability p; return them as they are otherwise."""
        if not self.training:
            return input
        kept = torch.empty(input.shape, dtype=torch.float32, device="cpu")
        kept.bernoulli_(1 - self.p, generator=self._generator)
        return input * kept.to(input) / (1 - self.p)

    def get_extra_state(self) -> Tensor:
        """The state of the generator."""
        return self._generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Restore from :meth:`get_extra_state`."""
        self._generator.set_state(state.cpu())


def with_dropout(stem: nn.Module, share: float) -> nn.Module:
    """A stem that drops a share of its features in training; with 0 the stem itself.

    Raises:
        ValueError: The share is not in [0, 1).
    """
    if not share:
        return stem
    modules = stem if isinstance(stem, nn.Sequential) else [stem]
    return nn.Sequential(*modules, SeededDropout(share))
