"""Settings of the whole test suite."""

from __future__ import annotations

import torch
from hypothesis import settings

# One thread: sums come out in the same order every time, and parallel test workers do not fight for cores.
torch.set_num_threads(1)

settings.register_profile("reproducible", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("reproducible")
