"""The paper's numbers and ours: ``python -m routing_env.maintenance.replication`` fills ``docs/replication.md``."""
