"""``python -m routing_env.experiment.replication``."""

import tyro

from routing_env.experiment.replication.page import main

tyro.cli(main)
