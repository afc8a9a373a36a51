"""Every command does its work, prints one result, and with --json one JSON document and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from sr_edge.bench.tile_choice import TileCost, candidate_tiles
from sr_edge.bundle import open_bundle, sha256_of
from sr_edge.cli.prepare.export import CHECKED_PATCHES
from sr_edge.cli.prepare.models import family_table
from sr_edge.cli.prepare.tiles import chosen_tile, requested_tile
from sr_edge.frames import Picture
from sr_edge.image_files import list_pictures, read_picture, write_picture
from sr_edge.installation import how_to_install
from sr_edge.models import load_model
from sr_edge.models.loading.spandrel_networks import family_rows
from sr_edge.spec import TileSpec
from tests.command_line import SrEdge

MEASURED = ("--runtimes", "onnxruntime,openvino", "--precisions", "fp32,fp16,int8")


def json_of(sr_edge: SrEdge, *arguments: str | Path) -> Any:
    """The JSON document of a successful command; JSON is of any type."""
    outcome = sr_edge(*arguments, "--json")
    assert outcome.code == 0, outcome.stderr
    return json.loads(outcome.stdout, parse_constant=not_json)


def not_json(constant: str) -> None:
    """Python's json module accepts Infinity and NaN, which JSON does not allow."""
    raise AssertionError(f"{constant} is no JSON")


def test_no_arguments_shows_the_commands(sr_edge: SrEdge) -> None:
    outcome = sr_edge()
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout == sr_edge("--help").stdout
    assert "selftest" in outcome.stdout


def test_models_lists_parameter_counts(sr_edge: SrEdge) -> None:
    rows = {row["name"]: row for row in json_of(sr_edge, "models")["models"]}
    assert rows["taylor-swinir-m"]["parameters"]["2"] == 11_704_103
    assert "11.70" in sr_edge("models").stdout


def test_models_lists_the_families_recognised_in_a_checkpoint(sr_edge: SrEdge) -> None:
    document = json_of(sr_edge, "models", "--families")
    assert "spandrel/Compact" in {row["architecture"] for row in document["families"]}
    assert "Compact (SRVGGNetCompact)" in sr_edge("models", "--families").stdout


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_word_of_the_families_is_cut(width: int) -> None:
    text = StringIO()
    rows = family_rows()
    Console(file=text, width=width).print(family_table(rows, how_to_install("spandrel")), crop=False)
    words = {word for row in rows for cell in (row.name, row.purpose, row.licence) for word in cell.split()}
    assert [word for word in words if word not in text.getvalue()] == []
    assert max(map(len, text.getvalue().splitlines())) <= width


def test_doctor_names_every_runtime(sr_edge: SrEdge) -> None:
    document = json_of(sr_edge, "doctor")
    names = [report["entry"]["name"] for report in document["runtimes"]]
    assert names == ["torch", "onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"]
    assert "openvino" in sr_edge("doctor").stdout


def test_doctor_says_that_onnxruntime_refuses_int8_for_our_graphs_and_that_is_so(
    sr_edge: SrEdge, bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    runtimes = {report["entry"]["name"]: report["availability"] for report in json_of(sr_edge, "doctor")["runtimes"]}
    (cpu,) = [device for device in runtimes["onnxruntime"]["devices"] if device["name"] == "cpu"]
    assert "int8" in cpu["caveats"]["int8"]
    assert all(device["caveats"] == {} for device in runtimes["openvino"]["devices"])
    assert "int8*" in sr_edge("doctor").stdout
    assert "* onnxruntime on cpu, int8: " in sr_edge("doctor").stdout
    arguments = ("--runtime", "onnxruntime", "--precision", "int8")
    refused = sr_edge("upscale", bundle, pictures / "waves0.png", tmp_path / "out.png", *arguments).error
    assert "model.int8.onnx" in refused and "fp32" in refused


def test_export_then_calibrate(sr_edge: SrEdge, tmp_path: Path, pictures: Path) -> None:
    graph, quantized = tmp_path / "model.onnx", tmp_path / "model.int8.onnx"
    tiny = ("convnet-tiny", "--scale", "2", "--random-weights")
    exported = json_of(sr_edge, "export", *tiny, "--tile", "24x32", "-o", graph)
    assert exported["metadata"]["tile"] == {"height": 24, "width": 32}
    calibrated = json_of(sr_edge, "calibrate", graph, "--images", pictures, "--patches", "4", "-o", quantized)
    assert calibrated["calibration"]["provenance"]["method"] == "search"
    assert quantized.stat().st_size < graph.stat().st_size


def test_export_checks_fp16_on_pictures_too(sr_edge: SrEdge, tmp_path: Path, pictures: Path) -> None:
    tiny = ("convnet-tiny", "--scale", "2", "--random-weights", "--tile", "24", "--precision", "fp16")
    without = json_of(sr_edge, "export", *tiny, "-o", tmp_path / "without.onnx")
    checked = json_of(sr_edge, "export", *tiny, "--images", pictures, "-o", tmp_path / "with.onnx")
    for check in ("float16", "parity"):
        photographs = [
            [patch for patch in document[check]["patches"] if patch["kind"] == "photograph"]
            for document in (without, checked)
        ]
        assert [len(patches) for patches in photographs] == [2, CHECKED_PATCHES + 1]
    assert "absent" in sr_edge("export", *tiny, "--images", tmp_path / "absent", "-o", tmp_path / "no.onnx").error


def test_export_takes_a_network_of_ones_own(sr_edge: SrEdge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def network():\n"
        "    return nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))\n"
    )
    monkeypatch.chdir(tmp_path)
    arguments = ("--arch", "mine:network", "--scale", "2", "--random-weights", "--input-range", "255")
    document = json_of(sr_edge, "export", *arguments, "--tile", "16", "--io", "uint8", "-o", "mine.onnx")
    assert document["metadata"]["card"]["input_range"] == 255.0
    assert (tmp_path / "mine.onnx").is_file()


def test_inspect_shows_artifacts_and_golden_frames(sr_edge: SrEdge, bundle: Path) -> None:
    document = json_of(sr_edge, "inspect", bundle)
    assert {item["precision"] for item in document["manifest"]["artifacts"]} == {"fp32", "int8"}
    assert len(document["manifest"]["golden"]) == 6
    assert "RANDOM" in sr_edge("inspect", bundle).stdout


def test_selftest_passes_where_the_bundle_was_made(sr_edge: SrEdge, bundle: Path) -> None:
    document = json_of(sr_edge, "selftest", bundle)
    passed = {(test["runtime"], test["precision"]) for test in document["tests"] if test["passed"]}
    assert {("torch", "fp32"), ("onnxruntime", "int8"), ("openvino", "fp32"), ("openvino", "int8")} <= passed


@pytest.mark.parametrize("command", ["selftest", "evaluate"])
def test_reasons_of_what_cannot_run_are_listed_only_if_all_are_wanted(
    command: str, sr_edge: SrEdge, bundle: Path, pictures: Path
) -> None:
    originals = ("--hr", pictures) if command == "evaluate" else ()
    arguments = (command, bundle, *originals, "--runtimes", "onnxruntime", "--precisions", "fp32,bf16")
    short, long = (sr_edge(*arguments, *more).stdout.splitlines() for more in ((), ("--all",)))
    assert "cannot run here: onnxruntime bf16 (--all lists the reasons)" in short
    assert not [line for line in short if line.startswith("onnxruntime bf16:")]
    assert [line for line in long if line.startswith("onnxruntime bf16:")]
    table_rows = [line for line in short if line.startswith("│ onnxruntime")]
    assert len(table_rows) == 1 and "fp32" in table_rows[0]


def test_selftest_fails_on_other_golden_frames(sr_edge: SrEdge, bundle: Path, tmp_path: Path) -> None:
    spoiled = tmp_path / "spoiled.sredge"
    shutil.copytree(bundle, spoiled)
    golden = spoiled / "golden" / "fp320.png"
    write_picture(golden, Picture(255 - read_picture(golden).pixels))
    with open_bundle(bundle) as opened:
        old = opened.manifest.golden[0].output_sha256
    text = (spoiled / "manifest.json").read_text().replace(old, sha256_of(golden))
    document = json.loads(text)
    document["sizes"]["golden/fp320.png"] = golden.stat().st_size
    (spoiled / "manifest.json").write_text(json.dumps(document))
    outcome = sr_edge("selftest", spoiled, "--runtimes", "onnxruntime", "--precisions", "fp32")
    assert outcome.code == 1
    assert "onnxruntime fp32" in outcome.error
    assert "FAILED" in outcome.stdout


def test_bench_has_a_row_for_each_even_if_unavailable(sr_edge: SrEdge, bundle: Path, tmp_path: Path) -> None:
    csv = tmp_path / "rows.csv"
    document = json_of(sr_edge, "bench", bundle, *MEASURED, "--runs", "2", "--no-memory", "--csv", csv)
    rows = {
        (row["variant"]["runtime"], row["variant"]["precision"], row["variant"]["float_precision"]): row
        for row in document["rows"]
    }
    assert rows["onnxruntime", "fp32", "fp32"]["latency"]["total"]["runs"] == 2
    assert rows["openvino", "int8", "fp32"]["spec"]["ran"] == "int8"
    assert "fp16" in rows["onnxruntime", "fp16", "fp32"]["reason"]
    assert rows["onnxruntime", "int8", "fp32"]["quality"]["psnr_float_db"] > 30
    assert len(csv.read_text().splitlines()) == 1 + len(document["rows"])


def test_bench_measures_memory_in_a_fresh_process(sr_edge: SrEdge, bundle: Path) -> None:
    arguments = ("--runtimes", "onnxruntime", "--precisions", "fp32", "--runs", "1")
    (row,) = json_of(sr_edge, "bench", bundle, *arguments)["rows"]
    assert row["memory"]["peak_rss_bytes"] > row["memory"]["baseline_rss_bytes"]


def test_evaluate_compares_with_originals_and_bicubic(sr_edge: SrEdge, bundle: Path, pictures: Path) -> None:
    document = json_of(sr_edge, "evaluate", bundle, "--hr", pictures, *MEASURED)
    assert len(document["bicubic"]["pictures"]) == 3
    scored = [row for row in document["rows"] if row["quality"]]
    assert {row["quality"]["hr"]["psnr_y_db"] > 0 for row in scored} == {True}
    shown = sr_edge("evaluate", bundle, "--hr", pictures, *MEASURED).stdout
    assert f"{document['bicubic']['psnr_y_db']:.3f}" in shown


def test_infinite_decibels_are_null_in_json(sr_edge: SrEdge, bundle: Path, tmp_path: Path) -> None:
    """Bicubic interpolation reproduces a black picture exactly."""
    write_picture(tmp_path / "black.png", Picture(np.zeros((32, 32, 3), np.uint8)))
    arguments = ("--hr", tmp_path, "--runtimes", "onnxruntime", "--precisions", "fp32")
    bicubic = json_of(sr_edge, "evaluate", bundle, *arguments)["bicubic"]
    assert bicubic["psnr_y_db"] is None and bicubic["pictures"][0]["psnr_y_db"] is None
    assert bicubic["ssim_y"] == 1.0


def test_upscale_a_picture(sr_edge: SrEdge, bundle: Path, pictures: Path, tmp_path: Path) -> None:
    document = json_of(sr_edge, "upscale", bundle, pictures / "waves0.png", tmp_path / "big.png", "--precision", "int8")
    assert document["session"]["ran"] == "int8"
    assert read_picture(tmp_path / "big.png").pixels.shape == (80, 104, 3)


def test_upscale_a_picture_into_a_folder_keeps_its_name(
    sr_edge: SrEdge, bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    assert sr_edge("upscale", bundle, pictures / "waves0.png", tmp_path, "--runtime", "onnxruntime").code == 0
    assert [path.name for path in list_pictures(tmp_path)] == ["waves0.png"]


def test_upscale_a_folder_and_resume(sr_edge: SrEdge, bundle: Path, pictures: Path, tmp_path: Path) -> None:
    arguments = ("upscale", bundle, pictures, tmp_path / "out", "--runtime", "onnxruntime")
    first, second = json_of(sr_edge, *arguments), json_of(sr_edge, *arguments)
    assert [file["outcome"] for file in first["files"]] == ["written"] * 3
    assert [file["outcome"] for file in second["files"]] == ["kept"] * 3


def test_deploy_shows_the_table_and_writes_the_bundle(sr_edge: SrEdge, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny.zip"
    tiny = ("convnet-tiny", "--scale", "2", "--random-weights", "--tile", "24", "--runs", "1", "--no-memory")
    chosen = ("--runtimes", "openvino", "--precisions", "fp32,int8")
    outcome = sr_edge("deploy", *tiny, *chosen, "--images", pictures, "--hr", pictures, "-o", out)
    assert outcome.code == 0, outcome.stderr
    assert "RANDOM WEIGHTS" in outcome.stdout
    assert "calibrating" in outcome.stderr
    with open_bundle(out) as opened:
        opened.verify()
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.zip"]


def test_json_is_alone_on_stdout_of_a_real_process(bundle: Path) -> None:
    """Runs in a separate process to capture also the output of C libraries."""
    command = [sys.executable, "-m", "sr_edge", "inspect", str(bundle), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["path"] == str(bundle)


def test_tile_auto_takes_the_cheapest_measured_tile() -> None:
    def measured(model: object, tile: TileSpec, runtime: str) -> TileCost:
        return TileCost(tile, latency_ms=1.0 if tile.height == 64 else 100.0, memory_bytes=1)

    reports: list[tuple[str, int, int]] = []
    model = load_model("convnet-tiny", 2, random_weights=True, tile=requested_tile("auto"))
    assert chosen_tile("auto", model, lambda *report: reports.append(report), measured) == TileSpec(64, 64)
    assert reports[-1][1:] == (len(candidate_tiles(model.card)),) * 2
