"""Output files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from sr_edge.errors import CalibrationError


def write_whole(path: Path, content: bytes) -> None:
    """Writes beside `path` under a temporary name and moves the finished file into place.

    Raises:
        CalibrationError: the folder is missing or not writable, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise CalibrationError(f"cannot write {path} ({error.strerror}); free space or choose another") from error
    finally:
        temporary.unlink(missing_ok=True)
