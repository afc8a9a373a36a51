"""The deployability matrix: no family is left out, verdicts come from documents, and the page shows the kept rows."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
PARITY_FAILED = {"type": "ExportError", "found": 0.1, "wanted": 1e-4, "stage": "exporting"}


@pytest.fixture(autouse=True)
def _benchmarks_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.fixture
def rows() -> Any:
    return importlib.import_module("network_matrix.rows")


@pytest.fixture
def networks() -> Any:
    return importlib.import_module("networks")


@pytest.fixture
def recipes() -> Any:
    found = importlib.import_module("network_recipes")
    try:
        found.registered_families()
    except ImportError:
        pytest.skip("spandrel is not installed")
    return found


def test_every_family_of_the_registry_has_a_row_or_another_purpose(recipes: Any) -> None:
    found = importlib.import_module("network_matrix.subjects")
    others = found.families_of_other_purposes()
    assert set(others) == {"GFPGAN", "RestoreFormer", "LaMa"}
    shown = {subject.family for subject in found.subjects(None) if subject.source is found.Source.RECIPE}
    assert shown.isdisjoint(others)
    assert shown | set(others) == set(recipes.registered_families())


def test_a_family_without_a_recipe_is_a_red_row(
    recipes: Any, networks: Any, rows: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delitem(recipes.RECIPES, "span")
    found = importlib.import_module("network_matrix.subjects")
    (span,) = (subject for subject in found.subjects(None) if subject.family == "SPAN")
    row = networks.measure(span, networks.Settings(tmp_path, 1.0, rtx=False, times=False))
    assert not row.bundle
    assert [column for column, cell in row.red if cell.cause] == [rows.DETECTION]


def test_the_files_of_a_folder_are_rows(tmp_path: Path) -> None:
    found = importlib.import_module("network_matrix.subjects")
    for name in ("mine.pth", "theirs.onnx", "span_x4_ch28.pth", "README.md"):
        (tmp_path / name).touch()
    files = {subject.name: subject for subject in found.subjects(tmp_path) if subject.source is found.Source.FILE}
    assert set(files) == {"mine", "theirs", "span_x4_ch28"}
    assert files["mine"].choice == ("mine.pth",)
    assert files["span_x4_ch28"].choice[:2] == ("--arch", "network_matrix.variants:span_x4_ch28")


@pytest.mark.parametrize("name", ["compact", "dncnn"])
def test_a_recipe_builds_the_same_network_each_time(recipes: Any, name: str) -> None:
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    pair = (recipes.build(name), getattr(recipes, name)())
    with torch.inference_mode():
        outputs = [network(picture) for network in pair]
    assert outputs[0].shape[-1] == 16 * recipes.RECIPES[name].scale
    assert torch.equal(*outputs)


@pytest.mark.parametrize("name", ["span_x4_ch28", "safmn_x4_dim40_blocks15"])
def test_the_variants_enlarge_four_times(name: str) -> None:
    network = getattr(importlib.import_module("network_matrix.variants"), name)()
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 16, 24)).shape == (1, 3, 64, 96)


@pytest.mark.parametrize(
    ("error", "column"),
    [
        ({"type": "WeightsError", "stage": None}, "detection"),
        ({"type": "WeightsError", "stage": "loading x.pth"}, "detection"),
        ({"type": "NotStatic", "stage": "exporting"}, "form"),
        ({"type": "ExportError", "found": "aten::rand", "stage": "exporting"}, "form"),
        (PARITY_FAILED, "parity"),
        ({"type": "CalibrationError", "stage": "joint checks"}, "INT8"),
        ({"type": "EngineError", "stage": "golden frames"}, "self-test"),
    ],
)
def test_the_type_and_stage_of_an_error_name_the_red_column(rows: Any, error: dict[str, Any], column: str) -> None:
    document = {"error": {"problem": "it failed", "remedy": "mend it", **error}}
    cells = rows.cells_of(rows.Outcome(1, document, {}), {}, trained=True)
    at = rows.COLUMNS.index(column)
    assert {cells[name].verdict for name in rows.COLUMNS[:at]} <= {rows.Verdict.GOOD}
    assert cells[column] == rows.Cell(rows.Verdict.RED, "no", "it failed", "mend it")
    assert {cells[name].verdict for name in rows.COLUMNS[at + 1 :]} <= {rows.Verdict.NOT_REACHED}
    assert not rows.counts_as_deployed(cells)


def test_a_deployment_that_took_too_long_is_red_where_it_stood(rows: Any) -> None:
    cells = rows.cells_of(rows.Outcome(None, {}, {"exporting": 3.0, "calibrating": 9.0}), {}, trained=True)
    assert cells[rows.INT8].verdict is rows.Verdict.RED


def report(psnr_db: float | None = 61.0, left_out: dict[str, str] | None = None) -> dict[str, Any]:
    """A deployment's report, with what the matrix reads of it."""
    variants = [{"runtime": "openvino", "precision": name, "float_precision": "fp32"} for name in ("fp32", "int8")]
    test = {"results": [{"psnr_db": psnr_db, "min_psnr_db": 60.0}]}
    photograph = {"patch": "photograph 1", "kind": "photograph"}
    parity = {"patches": [{**photograph, "difference": {"max_abs_error": 1e-6}}]}
    float16 = {"patches": [{**photograph, "fidelity": {"psnr_db": 70.0}}]}
    exports = [{"metadata": {"form": "static"}, "parity": parity, "float16": check} for check in (None, float16)]
    needs = {"halo_px": 4, "reach_px": None}
    return {
        "manifest": {"card": {"family": "Compact", "tile_needs": needs}, "left_out": left_out or {}},
        "exports": exports,
        "bench": {
            "rows": [{"variant": variant, "self_test": test, "quality": {"cost_db": 0.03}} for variant in variants]
        },
    }


CHECKS = {
    "tensorrt": {"TensorRT 10.3": [{"problem": "fp32: Einsum: rank 6", "remedy": "use MatMul"}]},
    "float64": {"max_abs_error": 2e-6, "bound": 1e-4},
    "fp16": {"fp32_nodes": 3, "nodes": 40},
    "int8": {"layers": 7, "of": 9},
    "rtx": {"fp32": {"build_s": 1.0}, "int8": {"refused": "no kernel", "remedy": "leave it float"}},
    "times": {"failed": "no plain graph"},
}


@pytest.mark.parametrize(("trained", "int8"), [(True, "7 of 9, 0.030 dB"), (False, "7 of 9")])
def test_a_bundle_fills_every_cell(rows: Any, trained: bool, int8: str) -> None:
    cells = rows.cells_of(rows.Outcome(0, report(), {}), CHECKS, trained)
    assert set(cells) == set(rows.COLUMNS)
    assert rows.counts_as_deployed(cells)
    assert (cells[rows.INT8].text, cells[rows.FP16].text) == (int8, "3 of 40, 0.004 dB")
    assert cells[rows.HALO].text == "4 / all"
    refused = {column for column in rows.COLUMNS if cells[column].verdict is rows.Verdict.RED}
    assert refused == {"TensorRT 10.3", rows.RTX}
    assert cells["TensorRT 10.3"].remedy == "use MatMul"
    assert cells["TensorRT 11.4"].verdict is rows.Verdict.NOT_MEASURED
    assert cells[rows.TIMES[0]] == rows.Cell(rows.Verdict.NOT_MEASURED, cause="no plain graph")


@pytest.mark.parametrize(("high", "verdict"), [(1.02, "good"), (1.6, "not measured")])
def test_a_ratio_of_times_with_a_wide_spread_is_not_shown(rows: Any, high: float, verdict: str) -> None:
    times = {runtime: {"ratio": 1.0, "low": 0.98, "high": high, "rounds": 9} for runtime in rows.RUNTIMES}
    cells = rows.cells_of(rows.Outcome(0, report(), {}), {**CHECKS, "times": times}, trained=True)
    assert {cells[column].verdict.value for column in rows.TIMES} == {verdict}


def test_a_precision_that_was_left_out_is_red_and_the_bundle_counts(rows: Any) -> None:
    document = report(left_out={"fp16": "float16 costs 0.3 dB; put it into fp32_"})
    cells = rows.cells_of(rows.Outcome(0, document, {}), CHECKS, trained=True)
    assert cells[rows.FP16] == rows.Cell(rows.Verdict.RED, "left out", "float16 costs 0.3 dB", "put it into fp32_")
    assert rows.counts_as_deployed(cells)


def test_a_bundle_does_not_count_if_its_self_test_or_float64_fails(rows: Any) -> None:
    missed = rows.cells_of(rows.Outcome(1, report(psnr_db=20.0), {}), CHECKS, trained=True)
    assert missed[rows.SELF_TEST].verdict is rows.Verdict.RED
    assert not rows.counts_as_deployed(missed)
    wrong = {**CHECKS, "float64": {"max_abs_error": 2e-4, "bound": 1e-4}}
    differs = rows.cells_of(rows.Outcome(0, report(), {}), wrong, trained=True)
    assert differs[rows.PARITY].verdict is rows.Verdict.RED
    assert not rows.counts_as_deployed(differs)


def test_a_deployment_is_read_from_its_document_and_stages(networks: Any) -> None:
    program = "import sys; sys.stderr.write('exporting ...\\nwhat it says\\n'); print('{\"error\": {\"stage\": null}}')"
    outcome = networks.run_staged([sys.executable, "-S", "-c", program], 60.0)
    assert (outcome.exit_code, list(outcome.stages), outcome.output) == (0, ["exporting"], "what it says")
    assert outcome.error == {"stage": None}


def test_a_deployment_is_stopped_at_its_time_limit(networks: Any) -> None:
    program = "import sys, time; sys.stderr.write('exporting ...\\n'); sys.stderr.flush(); time.sleep(60)"
    outcome = networks.run_staged([sys.executable, "-S", "-c", program], 0.5)
    assert outcome.exit_code is None
    assert outcome.error["stage"] == "exporting"


def test_the_page_shows_the_kept_rows(networks: Any) -> None:
    kept = json.loads(networks.RESULTS.read_text(encoding="utf-8"))
    assert networks.PAGE.read_text(encoding="utf-8") == networks.published(kept)
    counted = [row for row in kept["rows"] if row["bundle"]]
    assert f"**{len(counted)} of {len(kept['rows'])} networks" in networks.PAGE.read_text(encoding="utf-8")


def test_every_family_of_the_registry_is_on_the_page(recipes: Any, networks: Any) -> None:
    kept = json.loads(networks.RESULTS.read_text(encoding="utf-8"))
    found = importlib.import_module("network_matrix.subjects")
    of_name = {subject.name: subject.family for subject in found.subjects(None)}
    shown = {row["family"] for row in kept["rows"]} | {of_name.get(name, "") for name in kept["pending"]}
    assert set(recipes.registered_families()) <= shown | set(kept["families_without_a_row"])


def test_kept_rows_are_judged_by_their_cells(networks: Any, rows: Any) -> None:
    kept = json.loads(networks.RESULTS.read_text(encoding="utf-8"))
    for document in kept["rows"]:
        row = rows.Row.read(document)
        assert row.bundle == rows.counts_as_deployed(row.cells), row.name
        assert all(cell.cause for _, cell in row.red), row.name


def test_a_changed_recipe_is_fitted_again(recipes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = importlib.import_module("network_fit")
    before = fit.recipe_digest("compact")
    assert before == fit.recipe_digest("compact")
    assert before != fit.recipe_digest("span")
    monkeypatch.setitem(recipes.RECIPES, "compact", recipes.RECIPES["span"])
    assert fit.recipe_digest("compact") == fit.recipe_digest("span")


def test_the_fit_ends_nearer_to_the_enlarged_picture(recipes: Any) -> None:
    fit = importlib.import_module("network_fit")
    plain, fitted = recipes.build("compact"), fit.fitted("compact", steps=8)
    assert fit.nearness_db(fitted, 4, 32) > fit.nearness_db(plain, 4, 32) + 3
