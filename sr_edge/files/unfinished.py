"""Temporary files and folders of which a killed process leaves nothing for good.

Each of them is locked with flock(2) while a process uses it. The operating system releases the lock when the process
ends, however it ends, so a temporary file that is not locked is a leftover. Beside an output the names are fixed, and
the next process that writes the same output removes what it finds under them; they have a number for the case that
several processes write the same output at the same time.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, count, islice
from pathlib import Path

_MAX_WRITERS = 100
_SUFFIX = ".sr-edge.part"
_LONG_NAME_BYTES, _MAX_NAME_BYTES = 230, 255
"""From the first on, the temporary name of an output is a digest, because it would be longer than the second, the limit
of file systems."""


@contextmanager
def unfinished_file(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """Creates an empty file beside `path` and yields its name; it is removed at the end unless it was moved.

    Raises:
        OSError: The file cannot be created; the error names `path`.
    """

    def create(candidate: Path) -> None:
        os.close(os.open(candidate, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode))

    with _claimed(path, create) as claimed:
        yield claimed


@contextmanager
def unfinished_folder(path: Path) -> Iterator[Path]:
    """Creates an empty folder beside `path`, for this user only; it is removed at the end unless it was moved.

    Raises:
        OSError: The folder cannot be created; the error names `path`.
    """
    with _claimed(path, lambda candidate: candidate.mkdir(0o700)) as claimed:
        yield claimed


def remove_unfinished(path: Path) -> None:
    """Removes the temporary files and folders of processes that were killed while they wrote `path`."""
    for candidate in _candidates(path):
        if not os.path.lexists(candidate):
            return
        _remove_leftover(candidate)


@contextmanager
def temporary_folder(purpose: str) -> Iterator[Path]:
    """Creates a folder of this user in the system's folder for temporary files; it is removed at the end.

    The folders that killed processes left there are removed as well.

    Args:
        purpose: A word for the name of the folder.
    """
    for leftover in Path(tempfile.gettempdir()).glob(f"*{_SUFFIX}"):
        _remove_leftover(leftover)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{purpose}-", suffix=_SUFFIX))
        lock = _locked(folder)
        if lock is not None:
            break
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _candidates(path: Path) -> Iterator[Path]:
    numbers = chain([""], (f"-{number}" for number in count(1)))
    name = path.name
    if _LONG_NAME_BYTES <= len(os.fsencode(name)) <= _MAX_NAME_BYTES:  # a longer one is to fail here, before the work
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return (path.with_name(f".{name}.sr-edge{number}.part") for number in islice(numbers, _MAX_WRITERS))


@contextmanager
def _claimed(path: Path, create: Callable[[Path], None]) -> Iterator[Path]:
    """Creates and locks the first name that no other process uses."""
    claimed, lock = _claim(path, create)
    try:
        yield claimed
    finally:
        # Once it was moved, another process that writes the same output may use the name.
        if _is_same_file(claimed, lock):
            _remove(claimed)
        os.close(lock)


def _claim(path: Path, create: Callable[[Path], None]) -> tuple[Path, int]:
    candidates = _candidates(path)
    for candidate in candidates:
        _remove_leftover(candidate)
        try:
            create(candidate)
        except FileExistsError:
            continue
        except OSError as error:
            error.filename = os.fspath(path)
            raise
        lock = _locked(candidate)
        if lock is not None:
            for leftover in candidates:
                if not os.path.lexists(leftover):
                    break
                _remove_leftover(leftover)
            return candidate, lock
    raise OSError(errno.EBUSY, "too many processes write it at the same time", os.fspath(path))


def _locked(path: Path) -> int | None:
    """Opens and locks a file or folder; None if another process uses it, or has removed it meanwhile.

    On a file system without locks the descriptor is not locked, and nothing counts as a leftover there.
    """
    descriptor = _opened(path)
    if descriptor is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        return descriptor
    if _is_same_file(path, descriptor):
        return descriptor
    os.close(descriptor)
    return None


def _remove_leftover(path: Path) -> None:
    """Removes a temporary file or folder of this user that no process has locked."""
    descriptor = _opened(path)
    if descriptor is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_uid == os.geteuid() and _is_same_file(path, descriptor):
            _remove(path)
    except OSError:
        pass  # it is in use, or the file system has no locks
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None


def _is_same_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except OSError:
        return False


def _remove(path: Path) -> None:
    """Removes a file or folder; if that fails, too, the earlier error is the one to report."""
    with suppress(OSError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
