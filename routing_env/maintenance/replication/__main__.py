"""``python -m routing_env.maintenance.replication``."""

import tyro

from routing_env.maintenance.replication.page import update

if __name__ == "__main__":
    tyro.cli(update, prog="python -m routing_env.maintenance.replication")
