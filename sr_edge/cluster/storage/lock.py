"""The lock of a target, so that no two jobs write the same results.

In a local target it is an flock(2), which the kernel releases when the process ends, however it ends.

In an object store it is the object `lock.json`, renewed every 20 seconds. It is created on the condition that it does
not exist, where the store can do that, as S3 and Google Cloud Storage can. A lock that was not renewed for 120 seconds
is taken over; this compares the clocks of two machines, which must not differ by more than a minute. Where a lock is
taken over, or the store has no such condition, it is written and read again after a pause: of two jobs that do so at
the same time, the one that wrote last has the lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sr_edge.cluster.storage.locations import (
    BATCH_FOLDER,
    Location,
    file_system,
    read_bytes,
    remove,
    storage_errors,
    write_bytes,
)
from sr_edge.errors import StorageError


@dataclass(frozen=True)
class LockTiming:
    """How a lock in an object store is kept, in seconds; for tests with a clock of their own, too.

    Attributes:
        renewal_s: Time between renewals.
        expiry_s: Time after which a lock that was not renewed is taken over.
        pause_s: Time between writing a lock that was taken over and reading it again.
        now: The time of day.
        sleep: Waits.
    """

    renewal_s: float = 20.0
    expiry_s: float = 120.0
    pause_s: float = 2.0
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


class TargetLock:
    """A lock that this process has. Made by `target_lock`."""

    def __init__(self, target: Location) -> None:
        self._target = target
        self._lost_to = ""

    def lose(self, holder: str) -> None:
        """Notes that the lock is lost; may be called from another thread."""
        self._lost_to = holder

    def require_held(self) -> None:
        """Raises StorageError if the lock was lost, since another job may write the same results then."""
        if self._lost_to:
            raise StorageError(
                f"the lock of {self._target} was lost to {self._lost_to}",
                found=self._lost_to,
                remedy="check the network, and run the same command again when no other job uses the target",
            )


@contextmanager
def target_lock(target: Location, job: str, timing: LockTiming | None = None) -> Iterator[TargetLock]:
    """Locks a target until the block ends.

    Args:
        target: The folder of the results.
        job: The name of this job.
        timing: Times for locks in object stores.

    Raises:
        StorageError: Another job has the lock, or it cannot be written.
    """
    lock = TargetLock(target)
    holder = {"job": job, "host": socket.gethostname(), "pid": os.getpid()}
    if target.is_local:
        with _locked_file(target, holder):
            yield lock
        return
    lease = _Lease(lock, target, holder, timing or LockTiming())
    lease.acquire()
    renewal = threading.Thread(target=lease.renew_until_released, name="lock of the target", daemon=True)
    renewal.start()
    try:
        yield lock
    finally:
        lease.release(renewal)


@contextmanager
def _locked_file(target: Location, holder: dict[str, Any]) -> Iterator[None]:
    place = target.join(BATCH_FOLDER, "lock")
    folder = place.path.parent
    if folder.exists() and not folder.is_dir():
        raise StorageError(
            f"{folder} is not a folder, and a batch keeps its records there",
            found=str(folder),
            wanted="a folder, or nothing of that name",
            remedy="rename it, or choose another target",
        )
    with storage_errors(place, "lock"):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    with os.fdopen(descriptor, "r+b") as file:
        with storage_errors(place, "lock"):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _refusal(target, _parsed(file.read())) from None
            file.truncate()
            file.write(json.dumps(holder).encode())
            file.flush()
        yield  # the lock ends when the file is closed


class _Lease:
    """A lock in an object store."""

    def __init__(self, lock: TargetLock, target: Location, holder: dict[str, Any], timing: LockTiming) -> None:
        self._lock = lock
        self._target = target
        self._place = target.join(BATCH_FOLDER, "lock.json")
        self._holder = holder
        self._timing = timing
        self._released = threading.Event()
        self._renewed_at = timing.now()

    def acquire(self) -> None:
        """Creates the lock, or takes over one that was not renewed.

        Raises:
            StorageError: Another job has it.
        """
        if self._created():
            return
        other = _parsed(read_bytes(self._place) or b"")
        if self._timing.now() < _time_of(other) + self._timing.expiry_s:
            raise _refusal(self._target, other)
        self._write()
        self._require_last_writer()

    def renew_until_released(self) -> None:
        """Renews the lock, and notes when it is lost. A store that cannot be reached for a moment is tried again."""
        while not self._released.wait(self._timing.renewal_s):
            with suppress(StorageError):
                other = _parsed(read_bytes(self._place) or b"")
                if not self._is_own(other):
                    self._lock.lose(_name_of(other))
                    return
                self._write()
            if self._timing.now() > self._renewed_at + self._timing.expiry_s:
                self._lock.lose("a server that could not be reached for too long")
                return

    def release(self, renewal: threading.Thread) -> None:
        self._released.set()
        renewal.join()
        with suppress(StorageError):  # it expires then
            if self._is_own(_parsed(read_bytes(self._place) or b"")):
                remove(self._place)

    def _created(self) -> bool:
        """Creates the lock; False if there is one."""
        if read_bytes(self._place) is not None:
            return False
        system, path = file_system(self._place)
        with storage_errors(self._place, "lock"):
            try:
                system.pipe_file(path, self._content(), mode="create")
                return True
            except FileExistsError:
                return False
            except (NotImplementedError, TypeError):
                pass  # a store or a client that cannot create on a condition
            except OSError as error:
                if "NotImplemented" not in str(error):
                    raise
        self._write()
        self._require_last_writer()
        return True

    def _require_last_writer(self) -> None:
        self._timing.sleep(self._timing.pause_s)
        other = _parsed(read_bytes(self._place) or b"")
        if not self._is_own(other):
            raise _refusal(self._target, other)

    def _write(self) -> None:
        content = self._content()
        write_bytes(self._place, content)
        self._renewed_at = _time_of(_parsed(content))

    def _content(self) -> bytes:
        return json.dumps({**self._holder, "renewed": self._timing.now()}).encode()

    def _is_own(self, other: dict[str, Any]) -> bool:
        return all(other.get(key) == value for key, value in self._holder.items())


def _refusal(target: Location, other: dict[str, Any]) -> StorageError:
    return StorageError(
        f"another job writes to {target}: {_name_of(other)}",
        found=other,
        wanted="a target that no other job writes to",
        remedy="wait until it has ended, or give another folder for the results",
    )


def _name_of(other: dict[str, Any]) -> str:
    if not other:
        return "an unknown process"
    return f"job {other.get('job')}, process {other.get('pid')} on {other.get('host')}"


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(content)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _time_of(other: dict[str, Any]) -> float:
    renewed = other.get("renewed")
    return float(renewed) if isinstance(renewed, (int, float)) else 0.0
