"""What is told of a session on a GPU: its page, the figures that are published, and what is never published."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from sr_edge.bench import describe_environment
from sr_edge.errors import UsageError
from tests.benchmarks.gpu_sessions import (
    GpuSession,
    compared_row,
    doctor_figures,
    document,
    engine_row,
    latency,
    loaded,
    reading,
    step_document,
)
from tests.expected_errors import raises

REFUSAL = "tensorrt-rtx does not run on Made-up GPU (compute capability 9.0)"


@pytest.fixture(scope="module")
def gpu() -> Iterator[GpuSession]:
    yield from loaded()


def measured_session(**changes: Any) -> dict[str, Any]:
    """A session in which most was measured."""
    rates = {
        "matmul_macs_per_s": {"fp16": 25e12},
        "copy_bytes_per_s": 4.3e12,
        "source": "torch 2.11.0",
        "obstacles": [],
    }
    tile_ms = latency(2.0)
    compared = [
        compared_row("tensorrt", "static", tile_ms=tile_ms, peak_share=0.25, roofline_share=0.5, fps={"270p": 120.5}),
        compared_row("tensorrt", "traced", tile_ms=tile_ms, of_static={"median": 1.75, "low": 1.7, "high": 1.8}),
        compared_row("onnxruntime", "static"),
    ]
    compiled = [compared_row("torch.compile", "traced", tile_ms=latency(3.0), on_device=None)]
    checks = [
        {"name": "uint8 frames", "kept": True, "told": "50 dB"},
        {"name": "CUDA through pycuda", "kept": None, "told": "not installed"},
    ]
    steps = [
        step_document("doctor", doctor_figures(environment=asdict(describe_environment()))),
        step_document(
            "engines-convnet-tiny-x2", {"rows": [engine_row(), engine_row(precision="int8+fp16", ran="int8")]}
        ),
        step_document("features", {"network": "convnet-tiny-x2", "runtime": "tensorrt", "checks": checks}),
        step_document("engines-swinir-light-x2", None, "timed out", reason="ended after its limit of 60 s"),
        step_document("roofline", rates),
        step_document("compare-convnet-light", {"rounds": 20, "rows": compared}),
        step_document("compile-convnet-light", {"rounds": 20, "rows": compiled}),
        step_document("gpu-tests", {"passed": 12, "failed": 0, "skipped": 3, "error": 0, "reasons": []}),
    ]
    return document(*steps, **changes)


def test_the_page_has_every_step_and_what_it_measured(gpu: GpuSession) -> None:
    page = gpu.page.session_page(json.loads(json.dumps(measured_session())))
    assert "| title of engines-swinir-light-x2 | timed out | 2.0 | 1980 | 350 | 41 | ended after" in page
    assert "Made-up GPU, driver 580.1, compute capability 9.0" in page
    assert "| convnet-tiny-x2 | tensorrt | fp16 | fp16 | 12.0 | 61.5 | 45 | 0.500 | 6.0 |" in page
    assert "| convnet-light | 192x192 | tensorrt | fp16 | static | 2.00 | 2.00 |  | 25.0% | 50.0% | 120.5 |" in page
    assert "| convnet-light | 192x192 | tensorrt | fp16 | traced | 2.00 | 2.00 | 1.75 |  |  |  |" in page
    assert "torch.compile" in page and "12 passed" in page and "4,300 GB a second" in page


def test_the_page_of_a_session_in_which_nothing_was_possible(gpu: GpuSession) -> None:
    steps = [
        step_document(name, None, "not possible here", reason="no GPU | here", before=None, after=None)
        for name in ("doctor", "features")
    ]
    page = gpu.page.session_page(document(*steps, telemetry="nvidia-smi is not installed"))
    assert "nvidia-smi is not installed" in page and "no GPU \\| here" in page and "as above" in page
    assert gpu.report.gpu_report(document(*steps)) is None


def test_the_last_lines_of_what_went_wrong_are_on_the_page(gpu: GpuSession) -> None:
    page = gpu.page.session_page(
        document(step_document("features", None, "crashed", last_lines=["frame 1", "frame 2"]))
    )
    assert "frame 1\nframe 2" in page


def test_odd_figures_do_not_cost_the_page(gpu: GpuSession) -> None:
    steps = [step_document("doctor", doctor_figures()), step_document("engines-a", {"rows": [{"network": "a"}]})]
    page = gpu.page.session_page(document(*steps, step_document("compare-a", "no object")))
    assert "title of compare-a" in page and "in gpu.json" in page


def test_a_refusal_leaves_the_rest_of_the_page(gpu: GpuSession) -> None:
    """TensorRT-RTX on compute capability 9.0."""
    steps = [
        step if not step["name"].startswith(("engines", "features"))
        else step_document(step["name"], None, "not possible here", reason=REFUSAL)
        for step in measured_session()["steps"]
    ]  # fmt: skip
    told = document(*steps)
    page = gpu.page.session_page(told)
    assert page.count(REFUSAL) == 2  # in the table once, and once with all the steps that it kept from being done
    assert "| convnet-light | 192x192 | tensorrt | fp16 | static |" in page
    assert gpu.publishing.kept_figures(told)["figures"]["engines"] == []


def test_an_engine_that_gives_wrong_pictures_is_marked(gpu: GpuSession) -> None:
    rows = [
        engine_row(passed=False, golden_db=12.0, reason="the golden frames are not reproduced"),
        engine_row(ran="", open_s=None, golden_db=None, passed=None, on_device=None, reason="the parser refuses it"),
        engine_row(golden_db=None, on_device=None),
    ]
    told = document(step_document("doctor", doctor_figures()), step_document("engines-a", {"rows": rows}))
    page = gpu.page.session_page(told)
    assert "12.0 **not reproduced**" in page and "**no engine**: the parser refuses it" in page and "| equal |" in page


def test_clocks_that_moved_are_warned_about(gpu: GpuSession) -> None:
    names = ("engines-a", "compare-b")
    same = document(*(step_document(name) for name in names))
    moved = document(
        *(step_document(name, after=reading(clock)) for name, clock in zip(names, (1980, 1410), strict=True))
    )
    assert gpu.report.clock_warning(same) == ""
    assert "1410" in gpu.report.clock_warning(moved)
    assert gpu.report.clock_warning(document(*(step_document(name, after=None) for name in names))) == ""


def test_nvidia_smis_line_is_read(gpu: GpuSession) -> None:
    line = "NVIDIA H200, 580.1, 9.0, 143771, 4, 75.01, [N/A], 345, 1980, 3201, 28"
    told = gpu.telemetry.read_csv(line + "\nanother GPU\n")
    assert told["name"] == "NVIDIA H200" and told["driver"] == "580.1" and told["compute_capability"] == "9.0"
    assert told["power_limit_w"] is None and told["clock_mhz"] == 345.0
    assert gpu.telemetry.read_csv("no devices were found") is None


def test_a_session_is_published_from_its_document(
    gpu: GpuSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_all: Any = importlib.import_module("run_all")
    monkeypatch.setattr(run_all, "ROOT", tmp_path)
    monkeypatch.setattr(run_all, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(run_all, "PAGE", tmp_path / "benchmarks.md")
    file = tmp_path / "gpu.json"
    file.write_text(json.dumps(measured_session()), encoding="utf-8")
    gpu.publishing.main([str(file)])
    kept = json.loads((tmp_path / "results" / "gpu.json").read_text(encoding="utf-8"))
    assert kept["figures"]["device"] == "Made-up GPU" and kept["commands"] == ["make bench-gpu"]
    page = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert "## On an NVIDIA GPU, x2" in page and "| convnet-light | 192x192 | tensorrt | fp16 | static | 2.00 |" in page


def test_what_is_never_published(gpu: GpuSession) -> None:
    measured = measured_session()
    doctor_alone = document(measured["steps"][0])
    undescribed = document(step_document("doctor", doctor_figures()), *measured["steps"][1:])
    for refused, fields in (
        (measured_session(rehearsal=True), {"found": "rehearsal"}),
        (doctor_alone, {"wanted": "measurements on a GPU"}),
        (document(), {"wanted": "measurements on a GPU"}),
        (undescribed, {"wanted": "environment"}),
        ({**measured, "schema_version": 0}, {"found": 0}),
    ):
        with raises(UsageError, **fields):
            gpu.publishing.kept_figures(refused)
    assert gpu.publishing.kept_figures(measured)["figures"]["driver"] == "580.1"
