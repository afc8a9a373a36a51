"""A library's exceptions become ours where the call is made, in one line that a person can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sr_edge.errors import EngineError, SrEdgeError

_LONGEST_REASON = 300


@contextmanager
def vendor_errors(failed: str, advice: str, found: object = None) -> Iterator[None]:
    """Turns whatever a library raises into EngineError("`failed`: the library's own words; `advice`").

    Args:
        failed: What the library could not do.
        advice: The error's remedy.
        found: What it could not do it with, for example the path of a graph; the error's `found`.
    """
    try:
        yield
    except SrEdgeError:
        raise
    except Exception as error:  # each library has exceptions of its own, most of them plain RuntimeErrors
        raise EngineError(f"{failed}: {reason_of(error)}", found=found, remedy=advice) from error


def reason_of(error: BaseException) -> str:
    """The part of a library's message that tells something: no C++ source lines, one line, not endless."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept_lines = [line for line in lines if line and not line.startswith(("Exception from", "Check '"))]
    reason = " ".join(kept_lines) or type(error).__name__
    return reason if len(reason) <= _LONGEST_REASON else reason[: _LONGEST_REASON - 3] + "..."
