"""Entry point of the command line: `drakkar-flow` and `python -m drakkar_flow`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Runs the command line and exits; Ctrl-C while the command itself is still imported ends with 130, silently."""
    from drakkar_flow._imports import collector_paused

    try:
        with collector_paused():
            from drakkar_flow.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
