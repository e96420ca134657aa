"""The command ``routing-env``, and ``python -m routing_env``."""

from routing_env.interrupts import done, exit_at_once


def start() -> None:
    """Run the command line; Ctrl-C ends it with one line from the first moment on."""
    exit_at_once()
    from routing_env.cli import main

    try:
        main()
    finally:
        done()


if __name__ == "__main__":
    start()
