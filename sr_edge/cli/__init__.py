"""The `sr-edge` command. Heavy libraries are imported only when a command runs, so that `sr-edge --help` is fast."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Runs the command line and exits: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    from sr_edge.cli.interrupts import exit_with_code_of
    from sr_edge.cli.standard_streams import open_standard_streams

    open_standard_streams()
    exit_with_code_of(lambda: _run(sys.argv[1:]))


def _run(arguments: list[str]) -> int:
    from sr_edge.cli.app import app
    from sr_edge.cli.failures import run_command

    # Idle OpenMP threads of torch would spin, which slows the runtime that is timed next and other processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return run_command(app, arguments)
