"""The lock of a target: refused to a second job, released by any end of the first."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from sr_edge.cluster.storage.folders import list_files
from sr_edge.cluster.storage.locations import BATCH_FOLDER, Location, read_bytes, write_bytes
from sr_edge.cluster.storage.lock import LockTiming, TargetLock, target_lock
from sr_edge.errors import StorageError
from tests.expected_errors import raises

NOW = 1_000_000.0
AT_ONCE = LockTiming(now=lambda: NOW, sleep=lambda seconds: None)
HOLDER = {"job": "job-1", "host": socket.gethostname(), "pid": os.getpid()}
PROGRAM = """
import sys
from sr_edge.cluster.storage.lock import target_lock
from sr_edge.cluster.storage.locations import Location
with target_lock(Location(sys.argv[1]), "job-1"):
    print("locked", flush=True)
    sys.stdin.read()
"""


class StoreWithoutConditions(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A store that cannot create an object on the condition that it does not exist."""

    protocol = "unconditional"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: object) -> None:
        if mode == "create":
            raise NotImplementedError
        super().pipe_file(path, value, mode, **options)


@pytest.fixture
def unconditional() -> Location:
    fsspec.register_implementation("unconditional", StoreWithoutConditions, clobber=True)
    return Location(f"unconditional://folder-{time.monotonic_ns()}")


@pytest.fixture(params=["local", "memory", "s3", "unconditional"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """An empty folder of each kind."""
    if request.param == "local":
        return Location(str(tmp_path / "results"))
    location: Location = request.getfixturevalue(request.param)
    return location


@pytest.fixture
def other_process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has locked the folder "results"."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "results")]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def holder_of(error: StorageError) -> dict[str, object]:
    assert isinstance(error.found, dict)
    return {key: value for key, value in error.found.items() if key != "renewed"}


def wait_until_lost(lock: TargetLock) -> None:
    """Returns when the lock is lost, by raising its error; fails after 20 s."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        lock.require_held()
        time.sleep(0.005)


def test_a_second_job_is_refused_until_the_first_ends(target: Location) -> None:
    with target_lock(target, "job-1", AT_ONCE) as lock:
        lock.require_held()
        with raises(StorageError) as caught, target_lock(target, "job-2", AT_ONCE):
            pass
        assert holder_of(caught.value) == HOLDER
        lock.require_held()
    with target_lock(target, "job-2", AT_ONCE) as lock:
        lock.require_held()


def test_a_file_in_place_of_the_folder_of_the_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / BATCH_FOLDER).touch()
    with raises(StorageError, found=str(tmp_path / BATCH_FOLDER)), target_lock(Location(str(tmp_path)), "job"):
        pass


def test_an_error_in_the_block_releases_the_lock(target: Location) -> None:
    with pytest.raises(KeyboardInterrupt), target_lock(target, "job-1", AT_ONCE):
        raise KeyboardInterrupt
    with target_lock(target, "job-2", AT_ONCE):
        pass


def test_one_of_many_jobs_gets_the_lock(target: Location) -> None:
    timing = LockTiming(pause_s=0.5)
    barrier, release = threading.Barrier(5), threading.Event()
    outcomes: list[str] = []

    def run(number: int) -> None:
        barrier.wait()
        try:
            with target_lock(target, f"job-{number}", timing):
                outcomes.append("locked")
                release.wait(20)
        except StorageError:
            outcomes.append("refused")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    barrier.wait()
    end = time.monotonic() + 20
    while len(outcomes) < 4 and time.monotonic() < end:
        time.sleep(0.005)
    release.set()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["locked", "refused", "refused", "refused"]


class TestLocalFolder:
    def test_is_locked_for_other_processes(self, tmp_path: Path, other_process: subprocess.Popen[str]) -> None:
        with raises(StorageError) as caught, target_lock(Location(str(tmp_path / "results")), "job-2"):
            pass
        assert holder_of(caught.value) == {**HOLDER, "pid": other_process.pid}

    def test_is_released_when_its_process_is_killed(self, tmp_path: Path, other_process: subprocess.Popen[str]) -> None:
        other_process.send_signal(signal.SIGKILL)
        other_process.wait()
        with target_lock(Location(str(tmp_path / "results")), "job-2"):
            pass

    def test_that_cannot_be_written_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "results").write_bytes(b"")
        with raises(StorageError), target_lock(Location(str(tmp_path / "results")), "job-2"):
            pass


class TestObjectStore:
    def write_lock(self, target: Location, renewed: object) -> None:
        content = {"job": "job-0", "host": "other", "pid": 1, "renewed": renewed}
        write_bytes(target.join(BATCH_FOLDER, "lock.json"), json.dumps(content).encode())

    @pytest.mark.parametrize("age_s", [0, 119])
    def test_lock_is_valid_for_two_minutes(self, s3: Location, age_s: float) -> None:
        self.write_lock(s3, NOW - age_s)
        with raises(StorageError) as caught, target_lock(s3, "job-1", AT_ONCE):
            pass
        assert holder_of(caught.value) == {"job": "job-0", "host": "other", "pid": 1}

    @pytest.mark.parametrize("renewed", [NOW - 121, None, "yesterday"])
    def test_lock_of_a_killed_job_is_taken_over(self, s3: Location, renewed: object) -> None:
        self.write_lock(s3, renewed)
        with target_lock(s3, "job-1", AT_ONCE) as lock:
            lock.require_held()

    def test_lock_that_another_job_takes_over_at_the_same_time_is_refused(self, s3: Location) -> None:
        self.write_lock(s3, NOW - 121)
        timing = LockTiming(now=lambda: NOW, sleep=lambda seconds: self.write_lock(s3, NOW))
        with raises(StorageError) as caught, target_lock(s3, "job-1", timing):
            pass
        assert holder_of(caught.value)["job"] == "job-0"

    def test_lock_is_renewed_and_removed(self, s3: Location) -> None:
        times = iter(range(1000, 10**9))
        place = s3.join(BATCH_FOLDER, "lock.json")
        with target_lock(s3, "job-1", LockTiming(renewal_s=0.01, expiry_s=1e9, now=lambda: float(next(times)))):
            first = read_bytes(place)
            end = time.monotonic() + 20
            while read_bytes(place) == first and time.monotonic() < end:
                time.sleep(0.005)
            assert read_bytes(place) != first
        assert list(list_files(s3)) == []

    def test_lock_that_was_taken_over_is_lost(self, s3: Location) -> None:
        with target_lock(s3, "job-1", LockTiming(renewal_s=0.01)) as lock:
            self.write_lock(s3, time.time())
            with raises(StorageError):
                wait_until_lost(lock)
        assert json.loads(read_bytes(s3.join(BATCH_FOLDER, "lock.json")) or b"")["job"] == "job-0"

    def test_lock_without_a_bucket_is_refused(self, s3_settings: None) -> None:
        with raises(StorageError), target_lock(Location("s3://no-such-bucket/x"), "job-1"):
            pass
