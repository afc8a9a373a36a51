"""The benchmark of foreign networks: no family is left out, and the page is what the results say."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture
def page() -> Any:
    return importlib.import_module("speed_matrix.page")


@pytest.fixture
def subjects() -> Any:
    return importlib.import_module("speed_matrix.subjects")


@pytest.fixture
def benchmark() -> Any:
    return importlib.import_module("foreign_speed")


def cell(ratio: float, **others: Any) -> dict[str, Any]:
    times = {"rounds": 50, "ours_ms": 10 * ratio, "base_ms": 10.0, "passes": ["channel-first"], "remarks": []}
    return {"ratio": ratio, "low": ratio - 0.01, "high": ratio + 0.01, **times, **others}


def row(name: str, family: str, openvino: float, onnxruntime: float, side_px: int = 64) -> dict[str, Any]:
    cells = {
        "OpenVINO fp32": cell(openvino),
        "OpenVINO bf16": {"skipped": "this processor does not compute in bf16"},
        "ONNX Runtime fp32": cell(onnxruntime),
    }
    return {"name": name, "family": family, "side_px": side_px, "cells": cells}


def kept(*rows: dict[str, Any], pending: tuple[str, ...] = ()) -> dict[str, Any]:
    command = "python benchmarks/foreign_speed.py --publish"
    return {"rows": list(rows), "pending": list(pending), "command": command, "environment": "A CPU, 2 cores; onnx 1"}


def test_every_super_resolution_family_of_the_recipes_has_a_row(subjects: Any) -> None:
    recipes = importlib.import_module("network_recipes").RECIPES
    rows = subjects.subjects()
    assert {row.family for row in rows if row.family} == {item.family for item in recipes.values() if item.scale > 1}
    assert {"bsrn_like", "safmn_like", "compact_few", "swinir_light"} <= {row.name for row in rows}
    assert len({row.name for row in rows}) == len(rows)


def test_the_smaller_size_of_all_networks_comes_first(benchmark: Any, subjects: Any, tmp_path: Path) -> None:
    rows = benchmark.places(subjects.subjects(), tmp_path)
    sides = [place.side_px for place in rows]
    assert sides == sorted(sides)
    assert len(rows) == 2 * len(subjects.subjects())


def test_a_family_counts_once_in_the_mean(page: Any) -> None:
    rows = (row("a", "A", 0.5, 1.0), row("a2", "A", 0.5, 1.0), row("b", "B", 2.0, 1.0), row("own", "", 0.1, 0.1))
    assert page.family_mean(rows, "OpenVINO fp32", 64) == pytest.approx(1.0)
    assert page.family_mean(rows, "OpenVINO fp32", 128) is None
    assert page.family_mean(rows, "OpenVINO bf16", 64) is None


def test_targets_are_judged_by_the_worst_size(page: Any) -> None:
    rows = [row("bsrn_like", "", 0.5, 1.0), row("bsrn_like", "", 0.7, 1.0, side_px=128), row("a", "A", 0.8, 0.8)]
    verdicts = {target.name: target.verdict for target in page.targets(rows)}
    assert verdicts["BSRN-like in OpenVINO"] == "**missed**"
    assert verdicts["SAFMN-like in OpenVINO"] == "not measured"
    assert verdicts["geometric mean over families, OpenVINO fp32, 64x64"] == "met"
    assert verdicts["lower end of the interval of the slowest cell"] == "met"


def test_a_slower_network_is_bold_and_misses_the_target(page: Any) -> None:
    rows = [row("a", "A", 1.05, 0.8)]
    lines = page.section(kept(*rows))
    assert any("**1.050 (1.040 to 1.060)**" in line for line in lines)
    assert {target.verdict for target in page.targets(rows) if target.limit == page.NOT_SLOWER} == {"**missed**"}


def test_failed_and_skipped_cells_stay_in_the_table_with_their_reason(page: Any) -> None:
    failed = {"name": "b", "family": "B", "side_px": 64, "failed": "no form of Roll"}
    text = "\n".join(page.section(kept(row("a", "A", 0.5, 0.9), failed, pending=("c-64",))))
    assert "| b | **failed** |" in text
    assert "b 64x64: no form of Roll" in text
    assert "this processor does not compute in bf16" in text
    assert "Not measured yet: c-64" in text


def test_the_distance_from_our_twin_is_a_target(page: Any) -> None:
    light = row("swinir_light", "", 0.8, 0.9)
    light["cells"]["OpenVINO fp32"]["twin"] = cell(1.02)
    found = {target.name: target.measured for target in page.targets([light])}
    assert found["SwinIR-light of spandrel against our twin, OpenVINO fp32, 64x64"] == pytest.approx(1.02)


def test_int8_graphs_have_a_table(page: Any) -> None:
    graphs = {"fp32, passes none": {**cell(1.0), "convolutions": 40, "products": 20}}
    graphs["int8, passes all"] = {**cell(0.4), "layers": 60, "of": 61}
    document = {
        **kept(),
        "int8": [{"name": "bsrn_like", "side_px": 64, "graphs": graphs}, {"name": "b", "failed": "-"}],
    }
    lines = page.section(document)
    assert any("| 0.400 (0.390 to 0.410) | 60 of 61 |" in line for line in lines)
    assert "### INT8 after passes: b\n" in lines


def test_the_headline_needs_all_rows(page: Any) -> None:
    rows = (row("a", "A", 0.8, 0.9), row("b", "B", 0.8, 0.9))
    assert page.headline(kept(*rows, pending=("c-64",))) == ""
    assert page.headline(kept()) == ""
    headline = page.headline(kept(*rows))
    assert "0.80" in headline
    assert "0.90" in headline
    assert "2 families" in headline
    assert "A CPU, 2 cores" in headline


def test_the_readme_has_a_place_for_the_headline(benchmark: Any, page: Any) -> None:
    readme = benchmark.README.read_text(encoding="utf-8")
    document = kept(row("a", "A", 0.8, 0.9))
    changed = benchmark.with_headline(readme, document)
    assert page.headline(document) in changed
    assert benchmark.with_headline(changed, kept()) == benchmark.with_headline(readme, kept())


def test_the_readme_and_the_page_are_those_of_the_kept_results(benchmark: Any) -> None:
    if not benchmark.SPEED_RESULTS.exists():
        pytest.skip("the benchmark has not been published")
    document = json.loads(benchmark.SPEED_RESULTS.read_text(encoding="utf-8"))
    readme = benchmark.README.read_text(encoding="utf-8")
    assert benchmark.with_headline(readme, document) == readme
    assert "\n".join(importlib.import_module("speed_matrix.page").section(document)) in benchmark.PAGE.read_text(
        "utf-8"
    )


def test_rows_are_kept_and_the_time_limit_leaves_the_others(
    benchmark: Any, subjects: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = benchmark.places(subjects.subjects()[:2], tmp_path, (64,))
    for place in (first, second):
        place.graphs.mkdir(parents=True)
        (place.graphs / benchmark.RECORD).write_text(json.dumps({"failed": "no graph"}))
    benchmark.measure_all([first], minutes=1.0, again=False)
    assert json.loads(first.row.read_text())["failed"] == "no graph"
    first.row.write_text(json.dumps({"name": "kept"}))
    benchmark.measure_all([first, second], minutes=0.0, again=False)
    assert json.loads(first.row.read_text()) == {"name": "kept"}
    assert not second.row.exists()


def test_a_network_that_is_slow_at_the_smaller_size_is_skipped_at_the_larger_one(
    benchmark: Any, subjects: Any, tmp_path: Path
) -> None:
    (place,) = benchmark.places(subjects.subjects()[:1], tmp_path, (128,))
    place.graphs.mkdir(parents=True)
    (place.graphs / benchmark.RECORD).write_text(json.dumps({"passes": []}))
    base = row("a", "A", 0.8, 0.9)
    base["cells"]["OpenVINO fp32"]["base_ms"] = benchmark.SLOW_MS + 1
    assert "skipped" in benchmark.measure(place, 1.0, base)
