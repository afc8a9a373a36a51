"""Atomic output files: written under a temporary name, then renamed; and checks of an output path before the work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sr_edge.errors import UsageError
from sr_edge.files.unfinished import unfinished_file


@contextmanager
def whole_file(path: Path, mode: int = 0o666, is_synced: bool = True) -> Iterator[Path]:
    """Yields an empty temporary file beside `path` to write to, and renames it when the block ends without error.

    The content is on the disk before the file gets its name, so that even a power failure leaves either the old file or
    the whole new one; `is_synced=False` leaves that to the operating system, for files that are replaced all the time.
    The temporary file is removed however the block ends, also by KeyboardInterrupt; that of a process that was killed
    is removed by the next one that writes `path`. An OSError names `path` instead of the temporary file.
    """
    with unfinished_file(path, mode) as unfinished:
        try:
            yield unfinished
            if is_synced:
                sync_to_disk(unfinished)
            unfinished.replace(path)
            if is_synced:
                sync_to_disk(path.parent)
        except OSError as error:
            if error.filename is not None and Path(error.filename) == unfinished:
                error.filename = os.fspath(path)
            raise


def sync_to_disk(path: Path) -> None:
    """Waits until the content of a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_output_file(path: Path) -> None:
    """Raises UsageError unless a file can be created at `path`; call it before the work whose result the file is."""
    if path.is_dir():
        raise UsageError(
            f"{path} is a folder", found=path, wanted="a file name", remedy="give the name of a file to write"
        )
    if path.exists() and not path.is_file():
        raise UsageError(
            f"{path} is a device or a pipe, which would be replaced",
            found=path,
            wanted="a regular file",
            remedy="give the name of a file to write",
        )
    if path.exists() and not os.access(path, os.W_OK):
        raise UsageError(
            f"cannot write {path}: its permissions do not allow it",
            found=path,
            wanted="a writable file",
            remedy="change its permissions or give another name",
        )
    require_output(path)


def require_output(path: Path) -> None:
    """Raises UsageError unless a file or folder can be created at `path`."""
    if not path.parent.is_dir():
        raise UsageError(
            f"cannot write {path}: the folder {path.parent} does not exist",
            found=path.parent,
            wanted="an existing folder",
            remedy="create it first",
        )
    try:
        with unfinished_file(path):
            pass
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}", found=path, remedy="choose another folder or name"
        ) from error
