"""Runs one step of a session as this process: python -m gpu_session NAME ARGUMENTS."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from gpu_session.process import NOT_POSSIBLE
from gpu_session.reporting import context
from sr_edge.errors import RuntimeUnavailable, SrEdgeError

WITHOUT_GPU = ("doctor", "libraries", "publish")


def run_step(name: str, arguments: Sequence[str]) -> None:
    """Runs a step to its end. What it lacks here becomes one line, which the session takes for the reason."""
    try:
        if name not in WITHOUT_GPU:
            context().require_gpu()
        importlib.import_module(f"gpu_session.steps.{name}").main(arguments)
    except ImportError as error:
        _end(f"this interpreter lacks what the step needs: {error}", NOT_POSSIBLE)
    except RuntimeUnavailable as error:
        _end(str(error), NOT_POSSIBLE)
    except SrEdgeError as error:
        _end(str(error), 1)


def _end(line: str, exit_code: int) -> None:
    print(" ".join(line.split()), flush=True)
    raise SystemExit(exit_code)


if __name__ == "__main__":
    run_step(sys.argv[1], sys.argv[2:])
