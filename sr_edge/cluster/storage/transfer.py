"""Brings files to this machine and to their target, so that each appears under its name when it is complete."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sr_edge.cluster.storage.locations import Location, file_system, remove, stamp, storage_errors
from sr_edge.errors import StorageError
from sr_edge.files.unfinished import temporary_folder
from sr_edge.files.whole_file import whole_file

_MAX_NAME_BYTES, _MAX_SUFFIX = 200, 16
"""Longer names of objects are replaced, because temporary files beside a file have longer names still."""


@contextmanager
def fetch(location: Location) -> Iterator[Path]:
    """Yields a path under which the file can be read until the block ends; local files are not copied.

    A remote file is downloaded to a temporary folder and keeps its name, or at least its suffix.

    Raises:
        StorageError: There is no file, it cannot be downloaded, or it changed during the download.
    """
    if location.is_local:
        if stamp(location) is None:
            raise StorageError(
                f"there is no file {location} on this machine",
                found=str(location),
                wanted="a file that every machine sees under the same path",
                remedy="use a shared file system or an object store",
            )
        yield location.path
        return
    with temporary_folder("fetch") as folder:
        path = folder / _local_name(location)
        _download(location, path)
        yield path


@contextmanager
def output(location: Location) -> Iterator[Path]:
    """Yields a path to which the result has to be written, whole; folders that it needs are created.

    For a local target it is the target itself: the functions that write pictures and videos rename complete files. For
    a URL it is a temporary file with the same name, which is uploaded when the block ends without an error.

    Raises:
        StorageError: A folder cannot be created, or the upload failed.
    """
    if location.is_local:
        with storage_errors(location.parent, "create"):
            location.path.parent.mkdir(parents=True, exist_ok=True)
        yield location.path
        return
    with temporary_folder("output") as folder:
        path = folder / _local_name(location)
        yield path
        publish(path, location)


def publish(file: Path, location: Location) -> None:
    """Copies a file to its target, where it appears under its name when it is complete.

    Raises:
        StorageError: It cannot be read or written, or the object has another size than the file.
    """
    with storage_errors(location, "write"):
        if location.is_local:
            location.path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(location.path) as unfinished:
                shutil.copyfile(file, unfinished)
            return
        system, path = file_system(location)
        system.put_file(str(file), path)
    uploaded, size = stamp(location), file.stat().st_size
    if uploaded is None or uploaded.size != size:
        remove(location)
        raise StorageError(
            f"{location} has {uploaded.size if uploaded else 0:,} bytes after the upload of {size:,}",
            found=uploaded.size if uploaded else 0,
            wanted=size,
            remedy="run the same command again",
        )


def _download(location: Location, path: Path) -> None:
    with storage_errors(location, "read"):
        system, key = file_system(location)
        before = stamp(location)
        if before is None:
            raise FileNotFoundError(location.address)
        system.get_file(key, str(path))
        size = path.stat().st_size
        if size != before.size:
            raise StorageError(
                f"{location} changed while it was downloaded: {size:,} bytes instead of {before.size:,}",
                found=size,
                wanted=before.size,
                remedy="run the same command again",
            )


def _local_name(location: Location) -> str:
    name = location.name
    try:
        length = len(name.encode())
    except UnicodeEncodeError:  # half of a surrogate pair
        length = _MAX_NAME_BYTES + 1
    return f"file{location.suffix[:_MAX_SUFFIX]}" if length > _MAX_NAME_BYTES or "\0" in name or not name else name
