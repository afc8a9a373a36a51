"""What a library's C++ code prints on the file descriptors of stdout and stderr, which Python cannot redirect."""

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
"""Of what was printed: a graph of 15,000 nodes takes some 3 MB."""


@dataclass
class NativeOutput:
    """What was printed, once the block that printed it is left."""

    text: str = ""


@contextlib.contextmanager
def captured_native_output() -> Iterator[NativeOutput]:
    """Keeps the process's own stdout and stderr clean in the block, also of C++ code; not for several threads at once.

    Without such descriptors, as in a service that has closed them, nothing is captured.
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
        _flush()  # what C++ code has buffered so far belongs into the file
        os.dup2(original, descriptor)
        os.close(original)


def _flush() -> None:
    """Empties the buffers of Python and of the C library."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    with contextlib.suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).fflush(None)
