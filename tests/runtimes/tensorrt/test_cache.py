"""Engines on disk: found, refused, rebuilt with a reason, built once by two processes, never half-written."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sr_edge.errors import EngineError, UsageError
from sr_edge.files.cache_folder import cache_folder
from sr_edge.runtimes.tensorrt.cache import EngineCache, EngineKey, EngineNotes
from sr_edge.runtimes.tensorrt.options import BuildOptions, Compatibility, SizeRange
from sr_edge.spec import FrameFormat, Precision, TileSpec
from tests.expected_errors import raises

KEY = EngineKey("ab" * 32, BuildOptions(tile=TileSpec(16, 24)), "tensorrt", "10.3.0", "Orin", "8.7")
NOTES = EngineNotes(Precision.FP32, Precision.FP32, "", 4096, 128)


class Builder:
    """Builds engines with numbers on them."""

    def __init__(self) -> None:
        self.built = 0

    def __call__(self) -> tuple[bytes, EngineNotes]:
        self.built += 1
        return f"engine {self.built}".encode(), NOTES


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


@pytest.fixture
def build() -> Builder:
    return Builder()


@pytest.fixture
def events() -> list[str]:
    return []


def test_the_second_time_it_is_found(cache: EngineCache, build: Builder, events: list[str]) -> None:
    first = cache.fetch(KEY, build, events.append)
    second = cache.fetch(KEY, build, events.append)
    assert (first.was_built, second.was_built, build.built) == (True, False, 1)
    assert second.plan == first.plan == second.path.read_bytes() == b"engine 1"
    assert second.record == first.record
    assert second.record.notes == NOTES
    assert events == []


OTHERS: dict[str, Any] = {
    "model_sha256": "cd" * 32,
    "flavour": "tensorrt-rtx",
    "device": "Thor",
    "compute_capability": "11.0",
}
OTHER_OPTIONS: dict[str, Any] = {
    "precision": Precision.FP16,
    "float_precision": Precision.FP16,
    "io": FrameFormat.UINT8_NHWC,
    "tile": TileSpec(24, 24),
    "sizes": SizeRange.parse("16,24,32"),
    "workspace_bytes": 1 << 20,
    "optimization_level": 5,
    "compatible": (Compatibility.VERSION,),
    "dla_core": 0,
}


def other_keys() -> list[EngineKey]:
    options = [{"precision": Precision.FP16, name: value} for name, value in OTHER_OPTIONS.items()]
    return [replace(KEY, **{name: value}) for name, value in OTHERS.items()] + [
        replace(KEY, options=replace(KEY.options, **changes)) for changes in options
    ]


@pytest.mark.parametrize("other", other_keys(), ids=[*OTHERS, *OTHER_OPTIONS])
def test_nothing_else_fits_either(cache: EngineCache, build: Builder, events: list[str], other: EngineKey) -> None:
    base = replace(KEY, options=replace(KEY.options, precision=other.options.precision))
    if other == base:
        base = KEY
    cache.fetch(base, build, events.append)
    assert cache.fetch(other, build, events.append).was_built
    assert not cache.fetch(base, build, events.append).was_built
    assert events == []


def test_where_kernel_times_are_kept_does_not_matter(cache: EngineCache, build: Builder, events: list[str]) -> None:
    cache.fetch(KEY, build, events.append)
    elsewhere = replace(KEY, options=replace(KEY.options, timing_cache=Path("times")))
    assert not cache.fetch(elsewhere, build, events.append).was_built


def test_another_version_replaces_it_and_says_so(cache: EngineCache, build: Builder, events: list[str]) -> None:
    cache.fetch(KEY, build, events.append)
    newer = cache.fetch(replace(KEY, version="10.13.3"), build, events.append)
    assert newer.was_built
    assert len(list(cache.folder.glob("*.engine"))) == 1
    (line,) = events
    assert "is stale, it was built for version 10.3.0, and 10.13.3 is needed: building it again" in line


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"eng", "truncated: the file has 3 of 8 bytes"), (b"ENGINE 1", "changed since it was built")],
)
def test_a_damaged_engine_is_never_handed_out(
    cache: EngineCache, build: Builder, events: list[str], content: bytes, reason: str
) -> None:
    cache.fetch(KEY, build, events.append).path.write_bytes(content)
    assert cache.fetch(KEY, build, events.append).plan == b"engine 2"
    assert reason in events[0]


def test_an_engine_without_a_record_is_built_again(cache: EngineCache, build: Builder, events: list[str]) -> None:
    path = cache.fetch(KEY, build, events.append).path
    path.with_suffix(".json").write_text("{")
    assert cache.fetch(KEY, build, events.append).was_built
    assert "record is unreadable" in events[0]


def test_an_engine_of_an_older_sr_edge_is_stale_and_not_damaged(
    cache: EngineCache, build: Builder, events: list[str]
) -> None:
    """Its record and its name are those of the key when `float_precision` was called `rest`."""
    path = cache.fetch(KEY, build, events.append).path
    older = path.with_name(f"{path.stem.rpartition('-')[0]}-0123456789abcdef.engine")
    record = path.with_suffix(".json")
    older.with_suffix(".json").write_text(record.read_text().replace("float_precision", "rest"))
    path.rename(older)
    record.unlink()
    assert cache.fetch(KEY, build, events.append).was_built
    (line,) = events
    assert line.startswith(f"the engine {older.name} is stale, ")
    assert not cache.fetch(KEY, build, events.append).was_built
    assert len(events) == 1


def test_a_record_without_an_engine_is_built_again(cache: EngineCache, build: Builder, events: list[str]) -> None:
    cache.fetch(KEY, build, events.append).path.unlink()
    assert cache.fetch(KEY, build, events.append).plan == b"engine 2"


def test_deleting_an_engine_from_elsewhere_is_enough(cache: EngineCache, build: Builder, events: list[str]) -> None:
    path = cache.fetch(KEY, build, events.append).path
    (cache.folder / "maker.key").unlink()
    with raises(EngineError, found=path):
        cache.fetch(KEY, build, events.append)
    path.unlink()
    assert cache.fetch(KEY, build, events.append).plan == b"engine 2"


def test_an_engine_from_elsewhere_is_refused(
    cache: EngineCache, build: Builder, events: list[str], tmp_path: Path
) -> None:
    elsewhere = EngineCache(tmp_path / "elsewhere")
    foreign = elsewhere.fetch(KEY, lambda: (b"foreign", NOTES), events.append).path
    own = cache.fetch(KEY, build, events.append).path
    for suffix in (".engine", ".json"):
        own.with_suffix(suffix).write_bytes(foreign.with_suffix(suffix).read_bytes())
    with raises(EngineError, found=own) as caught:
        cache.fetch(KEY, build, events.append)
    assert f"--trust-engine {own}" in str(caught.value.remedy)
    assert build.built == 1


def test_a_record_that_was_touched_is_refused(cache: EngineCache, build: Builder, events: list[str]) -> None:
    path = cache.fetch(KEY, build, events.append).path
    record = path.with_suffix(".json")
    record.write_text(record.read_text().replace('"activation_bytes": 4096', '"activation_bytes": 1'))
    with raises(EngineError, found=path):
        cache.fetch(KEY, build, events.append)


def test_an_engine_that_the_user_vouches_for_is_taken(cache: EngineCache, build: Builder, events: list[str]) -> None:
    cache.adopt(KEY, b"theirs", NOTES)
    stored = cache.fetch(KEY, build, events.append)
    assert (stored.plan, stored.was_built) == (b"theirs", False)


def test_the_newest_choice_serves_who_has_none(cache: EngineCache, build: Builder, events: list[str]) -> None:
    assert cache.newest(KEY) is None
    chosen = replace(KEY, options=replace(KEY.options, optimization_level=5))
    for key in (KEY, chosen, replace(KEY, device="Thor"), replace(KEY, model_sha256="cd" * 32)):
        cache.fetch(key, build, events.append)
    newest = cache.newest(replace(KEY, version="11.0"))
    assert newest is not None
    assert newest.key == chosen


def test_a_failed_build_leaves_nothing(cache: EngineCache, events: list[str]) -> None:
    def fail() -> tuple[bytes, EngineNotes]:
        raise EngineError("no")

    with pytest.raises(EngineError):
        cache.fetch(KEY, fail, events.append)
    assert list(cache.folder.glob("*.engine")) + list(cache.folder.glob("*.json")) == []


def test_the_secret_is_its_owners_alone(cache: EngineCache, build: Builder, events: list[str]) -> None:
    cache.fetch(KEY, build, events.append)
    assert (cache.folder / "maker.key").stat().st_mode & 0o077 == 0


def test_kernels_are_read_back_and_others_are_not(cache: EngineCache, tmp_path: Path) -> None:
    cache.folder.mkdir()
    assert cache.read_signed("kernels") == b""
    cache.write_signed("kernels", b"mine")
    assert cache.read_signed("kernels") == b"mine"
    kept = (cache.folder / "kernels").read_bytes()
    for content in (b"evil", kept[:-1], kept + b"!", b""):
        (cache.folder / "kernels").write_bytes(content)
        assert cache.read_signed("kernels") == b""


def test_a_folder_that_cannot_be_made(tmp_path: Path, build: Builder, events: list[str]) -> None:
    (tmp_path / "file").touch()
    with raises(UsageError, found=tmp_path / "file" / "engines") as caught:
        EngineCache(tmp_path / "file" / "engines").fetch(KEY, build, events.append)
    assert "SR_EDGE_CACHE" in str(caught.value.remedy)


def test_a_folder_that_cannot_be_written(
    cache: EngineCache, build: Builder, events: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *arguments: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    cache.folder.mkdir()
    monkeypatch.setattr(Path, "open", refuse)
    with raises(UsageError, found=cache.folder) as caught:
        cache.fetch(KEY, build, events.append)
    assert "Read-only file system" in caught.value.problem


def test_where_engines_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SR_EDGE_CACHE", raising=False)
    assert cache_folder("engines") == tmp_path / "sr-edge" / "engines"
    monkeypatch.setenv("SR_EDGE_CACHE", str(tmp_path / "mine"))
    assert cache_folder("engines") == tmp_path / "mine" / "engines"


PROCESS = f"""
import os, signal, sys, time
from pathlib import Path
from sr_edge.runtimes.tensorrt.cache import *
from sr_edge.runtimes.tensorrt.options import BuildOptions
from sr_edge.spec import Precision, TileSpec

folder, what = Path(sys.argv[1]), sys.argv[2]
key = EngineKey("ab" * 32, BuildOptions(tile=TileSpec(16, 24)), "tensorrt", "10.3.0", "Orin", "8.7")

def build():
    print("building", flush=True)
    if what == "killed":
        os.kill(os.getpid(), signal.{signal.SIGKILL.name})
    sys.stdin.readline()
    return b"engine by " + str(os.getpid()).encode(), EngineNotes(Precision.FP32, Precision.FP32)

print(EngineCache(folder).fetch(key, build, lambda line: print(line, flush=True)).plan.decode())
"""


def start(folder: Path, what: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROCESS, str(folder), what]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_of_two_processes_one_builds_and_both_have_it(tmp_path: Path) -> None:
    with start(tmp_path, "whole") as one:
        assert first_line(one) == "building"
        with start(tmp_path, "whole") as other:
            assert first_line(other).startswith("waiting for another process")
            first = one.communicate("go on\n")[0].strip()
            second = other.communicate()[0].strip()
    assert first == second == f"engine by {one.pid}"


def test_a_kill_during_the_build_leaves_nothing_and_no_lock(tmp_path: Path, build: Builder, events: list[str]) -> None:
    with start(tmp_path, "killed") as killed:
        assert first_line(killed) == "building"
    assert killed.returncode == -signal.SIGKILL
    assert {path.suffix for path in tmp_path.iterdir()} <= {".lock", ".key"}
    assert EngineCache(tmp_path).fetch(KEY, build, events.append).was_built


def test_what_a_killed_writer_left_is_cleared_away(cache: EngineCache, build: Builder, events: list[str]) -> None:
    cache.folder.mkdir()
    leftover = cache.folder / f".{KEY.name}.engine.sr-edge.part"
    leftover.write_bytes(b"half an eng")
    assert cache.fetch(KEY, build, events.append).plan == b"engine 1"
    assert not leftover.exists()


def test_who_fetches_an_engine_leaves_kernels_that_another_writes_alone(
    cache: EngineCache, build: Builder, events: list[str]
) -> None:
    cache.folder.mkdir()
    unfinished = cache.folder / f".{KEY.name}.kernels.sr-edge.part"
    unfinished.write_bytes(b"half the kern")
    cache.fetch(KEY, build, events.append)
    assert unfinished.exists()
    cache.write_signed(f"{KEY.name}.kernels", b"kernels")
    assert not unfinished.exists()
