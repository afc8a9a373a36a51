"""The benchmark of reuse: its clips, its targets and the table that it publishes."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av")


@pytest.fixture(autouse=True)
def _benchmarks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))


def row(network: str = "swinir-light", clip: str = "still-noise1-crf23", **figures: Any) -> dict[str, Any]:
    return {
        "network": network,
        "clip": clip,
        "frames": 10,
        "fps": {"off": 1.0, "exact": 2.0, "bound": 4.0},
        "share": {"exact": 0.5, "bound": 0.75},
        "exact_equal": True,
        "loss_mean_db": 0.01,
        "loss_worst_db": 0.1,
        "local_error_levels": 3.0,
        "flicker_levels": {"scene": {"off": 0.5, "exact": 0.5, "bound": 0.1}, "input": {}},
        "memory_bytes": 10_000_000,
        "overhead": None,
        "key_frames": {"exact": [1.0], "bound": [1.0]},
    } | figures


def test_a_still_clip_changes_only_where_its_objects_are() -> None:
    clips = importlib.import_module("reuse_clips")
    first, second = clips.Clip(0.0, 23).originals(20, 2)
    changed = (first != second).any(axis=2)
    assert 0 < changed.mean() < 0.05
    assert first.shape == (720, 1280, 3)


def test_a_moving_clip_moves_everywhere() -> None:
    clips = importlib.import_module("reuse_clips")
    first, second = clips.Clip(0.0, 23, everything_moves=True).originals(20, 2)
    np.testing.assert_array_equal(first[700:, clips.PAN_PX :], second[700:, : -clips.PAN_PX])


def test_targets_are_judged_by_the_worst_row() -> None:
    reuse = importlib.import_module("reuse")
    good = {target.name: target for target in reuse.targets([row(), row(clip="moving", overhead=0.01)])}
    assert all(target.is_met(target.measured) for target in good.values())
    slow = {"off": 1.0, "exact": 1.6, "bound": 2.0}
    bad = row(exact_equal=False, fps=slow, loss_mean_db=0.06, loss_worst_db=0.4, overhead=0.03)
    bad["key_frames"] = {"exact": [1.1], "bound": []}
    assert not any(target.is_met(target.measured) for target in reuse.targets([row(), bad]))
    assert all(target.measured is None for target in reuse.targets([row(network="convnet-tiny")]))


def test_the_page_has_a_line_for_each_row_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reuse = importlib.import_module("reuse")
    page = tmp_path / "camera.md"
    page.write_text(f"before\n{reuse.START}\nold\n{reuse.END}\nafter\n")
    monkeypatch.setattr(reuse, "PAGE", page)
    monkeypatch.setattr(reuse, "RESULTS", tmp_path / "reuse.json")
    kept = {"command": "c", "environment": "e", "bound_db": 0.05, "rows": [row()], "pending": ["swinir-light moving"]}
    reuse.publish(kept)
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("| swinir-light")]
    header = next(line for line in text.splitlines() if line.startswith("| network"))
    assert line.count("|") == header.count("|")
    assert "4.00" in line and "75%" in line and "swinir-light moving" in text


def test_the_page_has_the_place_for_the_table() -> None:
    reuse = importlib.import_module("reuse")
    text = reuse.PAGE.read_text(encoding="utf-8")
    assert text.count(reuse.START) == text.count(reuse.END) == 1
