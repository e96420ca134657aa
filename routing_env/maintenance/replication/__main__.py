"""``python -m routing_env.maintenance.replication``."""

import tyro

from routing_env.maintenance.replication.page import main

tyro.cli(main)
