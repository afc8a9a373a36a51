"""Standard streams that are closed, full, or connected to a program that no longer reads."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO


def open_standard_streams() -> None:
    """Connects standard streams that the caller has closed.

    Otherwise the next file that is opened gets the descriptor of the closed stream, and what a library prints would be
    written into that file. Input is at its end, output to stderr is discarded, and output to stdout is an error.
    """
    for descriptor, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        if not _is_open(descriptor):
            opened = os.open(os.devnull, flags)  # the lowest free descriptor, which is this one
            os.set_inheritable(opened, True)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, "r", closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    # A name that the encoding of the terminal does not have must not be the end of the program.
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def flush_stdout(is_discarding: bool = False) -> None:
    """Writes what stdout has buffered, so that a failure is noticed here and not by Python when the program ends.

    Args:
        is_discarding: Whether what cannot be written is discarded, because an error has been reported already.

    Raises:
        OSError: It cannot be written, and `is_discarding` is false.
    """
    try:
        sys.stdout.flush()
    except OSError:
        _discard(sys.stdout)
        if not is_discarding:
            raise


def _discard(stream: TextIO) -> None:
    """Connects the stream to /dev/null, where Python can write what it has still buffered."""
    null = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):
        os.dup2(null, stream.fileno())
        stream.flush()
    os.close(null)
