"""Values that a router logs, until somebody asks for their means."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


class LoggedMeans:
    """A running mean of each value by its name."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float | Tensor, int]] = {}

    def add(self, values: Mapping[str, float | Tensor]) -> None:
        """Count every value once more; tensors, float [], stay on their device until :meth:`drain`."""
        for name, value in values.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = total + value, count + 1

    def drain(self) -> dict[str, float]:
        """The means since the last call."""
        means = {name: float(total) / count for name, (total, count) in self._sums.items()}
        self._sums = {}
        return means
