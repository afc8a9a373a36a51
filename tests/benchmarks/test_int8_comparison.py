"""The INT8 comparison: a bundled network is measured, and the page tells met from missed and who gave up."""

from __future__ import annotations

import importlib
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sr_edge.frames import Picture
from sr_edge.image_files import write_picture
from sr_edge.models import load_model
from sr_edge.runtimes import availability
from sr_edge.spec import Precision

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("page_networks")


def network(change_db: float, ratio: float) -> dict[str, Any]:
    spread = {"median": ratio, "low": ratio, "high": ratio}
    ours = {
        "maker": "sr-edge",
        "ran": "int8, rest bf16",
        "failure": "",
        "quality": {"set5": {"psnr_db": 37.0, "change_db": change_db, "noise_below_residual_db": 25.0}},
        "ratios": {"fp32": spread, "bf16": spread},
    }
    other = {"maker": "another", "failure": "RuntimeError: no", "quality": {}, "ratios": {}}
    return {"network": "convnet-tiny-x2", "rows": [ours, other], "targets": {"bf16": 0.68}}


@pytest.mark.parametrize(
    ("change_db", "ratio", "verdict"),
    [(-0.01, 0.6, "| met |"), (-0.06, 0.6, "| **missed** dB |"), (-0.06, 0.7, "| **missed** dB, 0.68 x bf16 |")],
)
def test_the_page_tells_what_is_kept(page: Any, change_db: float, ratio: float, verdict: str) -> None:
    table = "\n".join(page.int8([network(change_db, ratio)])).splitlines()
    assert len({line.count("|") for line in table[:4]}) == 1
    assert table[2].endswith(verdict)
    assert "failed: RuntimeError: no" in table[3]


def test_the_page_names_networks_that_were_measured_again(page: Any) -> None:
    found = [network(-0.01, 0.6), {**network(-0.01, 0.6), "network": "ups-tiny-x2", "measured": "2026-11-28"}]
    assert "Measured again later: ups-tiny-x2 (2026-11-28)." in list(page.int8(found))
    assert not [text for text in page.int8(found[1:]) if "again" in text]


def test_the_page_names_networks_whose_weights_are_others_now(page: Any) -> None:
    found = [network(-0.01, 0.6), {**network(-0.01, 0.6), "network": "ups-tiny-x2", "weights_sha256": "of before"}]
    assert "Measured with weights that have been trained further since: ups-tiny-x2." in list(page.int8(found))
    assert not [text for text in page.int8(found[:1]) if "since" in text]


def test_networks_that_are_not_measured_now_keep_their_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    kept = importlib.import_module("int8_comparison").kept
    file = tmp_path / "int8.json"
    assert kept(file, ["a"]) == []
    file.write_text('[{"network": "a"}, {"network": "b"}]', encoding="utf-8")
    assert kept(file, ["a"]) == [{"network": "b"}]
    assert kept(file, None) == []


@pytest.mark.skipif(find_spec("nncf") is not None, reason="nncf is installed, so that nothing is missing")
def test_the_package_that_makers_lack_is_named_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    comparison = importlib.import_module("int8_comparison")
    makers = importlib.import_module("int8_makers")
    assert makers.missing_package([makers.OURS, makers.ORT]) == ""
    monkeypatch.setattr("sys.argv", ["int8_comparison.py"])
    with pytest.raises(SystemExit) as stopped:
        comparison.main()
    assert stopped.value.code == 2
    assert ".[comparison]" in capsys.readouterr().err


@pytest.mark.skipif(not availability("openvino").works, reason="OpenVINO is not installed")
def test_a_bundled_network_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("nncf", reason="nncf, of the extra [comparison], is not installed")
    monkeypatch.syspath_prepend(BENCHMARKS)
    comparison = importlib.import_module("int8_comparison")
    rows, columns = np.indices((96, 96))[..., np.newaxis]
    waves = 127.5 + 127.5 * np.sin(0.3 * rows + np.array([0.2, 0.4, 0.1]) * columns)
    write_picture(tmp_path / "waves.png", Picture(waves.astype(np.uint8)))
    source = tmp_path / "model.onnx"
    model = load_model("convnet-tiny", 2)
    comparison.export_onnx(model, comparison.TILE, source)
    material = comparison.Material.of(source, comparison.CALIBRATION, comparison.TILE)
    made = list(comparison.made_graphs(material, ["sr-edge", "onnxruntime static"], tmp_path, Precision.FP32))
    graphs = [comparison.Graph("fp32", Precision.FP32, source), *made]
    pictures = {"waves": list(comparison.test_pictures(tmp_path, 2))}
    first, ours, other = comparison.measured(model, graphs, pictures, 1)
    assert (first.quality["waves"].change_db, first.quality["waves"].noise_below_residual_db) == (0.0, None)
    assert ours.ran == "int8, rest fp32"
    assert ours.int8_layers is not None and ours.int8_layers > 0
    assert other.failure == ""
    assert set(asdict(ours)["ratios"]) == {"fp32"}
