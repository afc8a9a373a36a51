"""Stored measurements of passes: what they depend on, and what is not read."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from sr_edge.bundle import PassMeasurement
from sr_edge.deploy.pass_cache import CacheKey, PassCache
from sr_edge.spec import Precision

KEY = CacheKey({"": "a1", "channel-first": "b2"}, "openvino", "2026.4.1", "fp32", "A CPU", threads=0)
MEASURED = PassMeasurement(
    "openvino", Precision.FP32, ("channel-first",), (), 0.5, (0.49, 0.51), rounds=60, cpu="A CPU", version="2026.4.1"
)


def test_a_measurement_is_found_by_what_it_depends_on(tmp_path: Path) -> None:
    cache = PassCache(tmp_path / "new")
    assert cache.load(KEY) is None
    assert cache.store(KEY, MEASURED) == ""
    assert PassCache(tmp_path / "new").load(replace(KEY)) == MEASURED


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, graphs={"": "a1", "channel-first": "c3"}),
        replace(KEY, graphs={"": "a1"}),
        replace(KEY, runtime="onnxruntime"),
        replace(KEY, version="2026.5.0"),
        replace(KEY, precision="int8"),
        replace(KEY, cpu="Another CPU"),
        replace(KEY, threads=1),
        replace(KEY, rule=KEY.rule + 1),
    ],
    ids=["graph", "candidates", "runtime", "version", "precision", "cpu", "threads", "rule"],
)
def test_a_measurement_of_something_else_is_not_used(tmp_path: Path, other: CacheKey) -> None:
    cache = PassCache(tmp_path)
    cache.store(KEY, MEASURED)
    assert cache.load(other) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b"{}", b'{"runtime": "openvino"}', b"[" * 60_000],
    ids=["empty", "cut", "no text", "list", "no fields", "fields missing", "nested"],
)
def test_a_damaged_file_counts_as_missing(tmp_path: Path, content: bytes) -> None:
    cache = PassCache(tmp_path)
    cache.store(KEY, MEASURED)
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert cache.load(KEY) is None
    cache.store(KEY, MEASURED)
    assert cache.load(KEY) == MEASURED


@pytest.mark.parametrize(
    "old, new",
    [('"time_ratio": 0.5', '"time_ratio": NaN'), ("0.49", "0.6"), (" 60", " -1"), ("A CPU", "A\\u001b[2JCPU")],
)
def test_impossible_values_count_as_missing(tmp_path: Path, old: str, new: str) -> None:
    cache = PassCache(tmp_path)
    cache.store(KEY, MEASURED)
    (file,) = tmp_path.iterdir()
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    assert cache.load(KEY) is None


def test_a_pipe_in_the_place_of_a_file_counts_as_missing(tmp_path: Path) -> None:
    cache = PassCache(tmp_path)
    cache.store(KEY, MEASURED)
    (file,) = tmp_path.iterdir()
    file.unlink()
    os.mkfifo(file)
    assert cache.load(KEY) is None


def test_without_a_home_folder_nothing_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "SR_EDGE_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    cache = PassCache()
    assert cache.load(KEY) is None
    assert "SR_EDGE_CACHE" in cache.store(KEY, MEASURED)


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_a_folder_that_cannot_be_written_is_a_note_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = PassCache(tmp_path / "file" / "passes")
    assert str(cache.folder) in cache.store(KEY, MEASURED)
    assert cache.load(KEY) is None


def test_the_folder_is_that_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SR_EDGE_CACHE", str(tmp_path))
    assert PassCache().folder == tmp_path / "passes"
