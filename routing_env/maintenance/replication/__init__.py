"""The paper's numbers beside ours: ``python -m routing_env.maintenance.replication`` fills ``docs/replication.md``."""
