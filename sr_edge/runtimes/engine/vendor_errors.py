"""Turns the exceptions of the runtimes' libraries into EngineError, with a message of one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sr_edge.errors import EngineError, SrEdgeError

_LONGEST_REASON = 300


@contextmanager
def vendor_errors(failed: str, advice: str, found: object = None) -> Iterator[None]:
    """Turns any exception of a library into an EngineError; errors of sr-edge pass unchanged.

    Args:
        failed: what the library could not do, the beginning of the message; the library's own reason follows it.
        advice: the error's remedy.
        found: the object concerned, for example the path of a graph; the error's `found`.

    Raises:
        EngineError: the library raised an exception.
    """
    try:
        yield
    except SrEdgeError:
        raise
    except Exception as error:  # the libraries share no base class, and most raise a plain RuntimeError
        raise EngineError(f"{failed}: {reason_of(error)}", found=found, remedy=advice) from error


def reason_of(error: BaseException) -> str:
    """The informative part of a library's message: without C++ source lines, in one line of limited length."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept_lines = [line for line in lines if line and not line.startswith(("Exception from", "Check '"))]
    reason = " ".join(kept_lines) or type(error).__name__
    return reason if len(reason) <= _LONGEST_REASON else reason[: _LONGEST_REASON - 3] + "..."
