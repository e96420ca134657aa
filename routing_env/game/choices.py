"""A decision in a routed model: what can be chosen for which lanes, and what the chosen blocks make of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from routing_env.game.blocks import Representation, in_rows, map_tensors, tensors_of


class Bank(Protocol):
    """What a choice chooses from, by default a :class:`~routing_env.game.blocks.BlockBank`."""

    def __len__(self) -> int:
        """K, the number of blocks."""
        ...

    def __call__(self, v: Any, choice: Tensor) -> Any:
        """Apply block ``choice[b]``, int64 [B], to row b."""
        ...

    def blank(self, v: Any) -> Any:
        """Zeros of the form that the blocks return."""
        ...


@dataclass(frozen=True)
class Choice:
    """A decision: one block of a bank for each lane. A route yields it and gets back what the blocks return.

    A bank of one block is applied without a decision, unless ``legal`` is given or lanes may pass.

    Attributes:
        bank: The blocks. A tuple ``v`` is passed to a block as several arguments.
        v: The representation, see ``Representation``.
        legal: bool [B, K], or [K] for all lanes; None: every block.
        active: bool [B], the lanes that take part; None: all. The others can only PASS.
        may_pass: Whether active lanes may PASS as well.
        otherwise: What lanes that PASS get, of the form that blocks return; by default v. If v has another form, lanes
            that are not active get zeros, and active lanes may not PASS.
        observed: float [B, ...], what routers see as v; by default v itself, a tuple's tensors side by side.
    """

    bank: Bank
    v: Representation
    legal: Tensor | None = None
    active: Tensor | None = None
    may_pass: bool = False
    otherwise: Representation | None = None
    observed: Tensor | None = None

    @property
    def is_decision(self) -> bool:
        """Whether there is something to decide."""
        return len(self.bank) > 1 or self.may_pass or self.legal is not None

    def seen(self) -> Tensor:
        """What routers see, float [B, n]."""
        if self.observed is not None:
            return self.observed.flatten(1)
        parts = [tensor.flatten(1) for tensor in tensors_of(self.v) if tensor.is_floating_point()]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def apply(self, action: Tensor, playing: Tensor | None = None) -> Representation:
        """Apply one block per lane.

        Args:
            action: int64 [B]; K or more is PASS where lanes may pass.
            playing: bool [B], lanes that have not forfeited their route; None: all. The others count as not active.
        """
        takes = self.active if playing is None else playing if self.active is None else self.active & playing
        if self.may_pass:
            blocks = action < len(self.bank)
            takes = blocks if takes is None else takes & blocks
        if takes is None:
            return self.bank(self.v, action)
        rows = takes.nonzero().squeeze(1)
        if not len(rows):
            return self._kept(self.bank.blank(self.v))
        output = self.bank(in_rows(self.v, rows), action[rows])
        kept = self._kept(map_tensors(lambda part: part.new_zeros(len(action), *part.shape[1:]), output))
        return map_tensors(lambda old, new: old.to(new.dtype).index_copy(0, rows, new), kept, output)

    def _kept(self, zeros: Representation) -> Representation:
        """What the lanes that take no block go on with."""
        kept = self.v if self.otherwise is None else self.otherwise
        forms = [[list(part.shape[1:]) for part in tensors_of(parts)] for parts in (kept, zeros)]
        if forms[0] == forms[1]:
            return kept
        if self.may_pass or self.otherwise is not None:
            raise ValueError(f"lanes that PASS would go on with {forms[0]}, but the blocks return {forms[1]}")
        return zeros
