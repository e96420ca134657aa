"""How fast routing is beside the plain network: ``routing-env speed``."""
