"""The speed of routing relative to the plain network: ``python -m routing_env.maintenance.speed``."""
