"""Captures what C++ libraries print directly to the file descriptors of stdout and stderr, past Python's streams."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

STDOUT, STDERR = 1, 2
MAX_READ_BYTES = 4_000_000
"""The part of the output that is kept: torch prints about 3 MB for a graph of 15,000 nodes."""


@dataclass
class NativeOutput:
    """The captured output; `text` is set when the block that captures it ends."""

    text: str = ""


@contextlib.contextmanager
def captured_native_output() -> Iterator[NativeOutput]:
    """Captures everything that is written to stdout and stderr in the block, also by C++ code.

    The descriptors belong to the whole process: output of other threads is captured, too, and two such blocks must not
    run at once. Where the descriptors are closed, as in some services, nothing is captured.
    """
    output = NativeOutput()
    with tempfile.TemporaryFile() as file, contextlib.ExitStack() as restored:
        for descriptor in (STDOUT, STDERR):
            restored.enter_context(_redirected(descriptor, file))
        try:
            yield output
        finally:
            restored.close()
            file.seek(0)
            output.text = file.read(MAX_READ_BYTES).decode(errors="replace")


@contextlib.contextmanager
def _redirected(descriptor: int, file: IO[bytes]) -> Iterator[None]:
    _flush()
    try:
        original = os.dup(descriptor)
    except OSError:
        yield
        return
    os.dup2(file.fileno(), descriptor)
    try:
        yield
    finally:
        _flush()  # what C++ code has buffered so far belongs to the block
        os.dup2(original, descriptor)
        os.close(original)


def _flush() -> None:
    """Flushes the buffers of Python and of the C library."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    with contextlib.suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).fflush(None)
