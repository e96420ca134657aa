"""Inject faults into runs and benchmarks, and hold what becomes of them to the same commands without a fault."""

from __future__ import annotations

import sys

import tyro
from rich.console import Console

from .campaign import Campaign, CampaignOptions

if __name__ == "__main__":
    options = tyro.cli(CampaignOptions, prog="python -m tests.faults", description=__doc__)
    sys.exit(1 if Campaign(options, Console()).run() else 0)
