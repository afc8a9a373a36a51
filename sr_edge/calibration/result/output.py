"""Writes the files of a calibration."""

from __future__ import annotations

from pathlib import Path

from sr_edge.errors import CalibrationError
from sr_edge.files.whole_file import whole_file


def write_output(path: Path, content: bytes) -> None:
    """Writes `path` completely or not at all.

    Raises:
        CalibrationError: The folder is missing or not writable, or the disk is full.
    """
    try:
        with whole_file(path) as unfinished:
            unfinished.write_bytes(content)
    except OSError as error:
        raise CalibrationError(
            f"cannot write {path} ({error.strerror})",
            found=path,
            wanted="a path that can be written to",
            remedy="free disk space or choose another path",
        ) from error
