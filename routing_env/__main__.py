"""``python -m routing_env`` is ``routing-env``."""

from routing_env.cli import main

main()
