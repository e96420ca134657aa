"""The paper's numbers beside ours: ``python -m routing_env.experiment.replication`` fills ``docs/replication.md``."""
