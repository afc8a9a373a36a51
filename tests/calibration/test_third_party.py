"""Small trained networks exported by torch.onnx alone: without metadata, dynamic or static, every kind of layer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from sr_edge.calibration import CalibrationConfig, CalibrationReport, HeldOut, calibrate_within, quantize_onnx
from sr_edge.spec import ActivationType
from tests.calibration.graphs import Run, photo_like
from tests.calibration.networks import FIGURES, NETWORKS, export, weights_of
from tests.calibration.train_networks import unseen_psnr_db

STATISTICS = {
    "channel attention": ["/body/body.0/layers/layers.2/squeeze/squeeze.0/Conv"],
    "contrast attention": ["/body/body.0/layers/layers.2/squeeze/squeeze.2/Conv"],
    "linear attention": ["/body/body.0/layers/layers.0/MatMul_2"],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_has_learned_what_the_script_says(name: str) -> None:
    """On a photograph that it was not trained on: above bicubic enlargement, or above the noisy picture."""
    figures = json.loads(FIGURES.read_text())[name]
    network_db, bicubic_db = unseen_psnr_db(name)
    assert network_db > bicubic_db + 0.5
    assert (network_db, bicubic_db) == pytest.approx((figures["network_db"], figures["bicubic_db"]), abs=0.02)
    assert weights_of(name).stat().st_size <= 30_000


class Calibrated:
    def __init__(self, name: str, folder: Path) -> None:
        self.path = folder / "third-party.onnx"
        export(name, self.path)
        patches = photo_like(20, NETWORKS[name].colours)
        self.held_out = [HeldOut(patch) for patch in patches[16:]]
        self.report: CalibrationReport = calibrate_within(self.path, patches[:16], self.held_out, CalibrationConfig())


@pytest.fixture(scope="module", params=NETWORKS)
def calibrated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    return Calibrated(request.param, tmp_path_factory.mktemp("third-party"))


def test_the_budget_is_kept_and_most_layers_are_int8(calibrated: Calibrated) -> None:
    report = calibrated.report
    assert report.selection.drop_db <= 0.05
    quantizable = [row for row in report.layers if row.noise_db is not None]
    assert len(report.selection.int8) >= len(quantizable) / 2


def test_both_activation_types_give_the_same_bits(calibrated: Calibrated, tmp_path: Path, run_as_written: Run) -> None:
    outputs = []
    for activation_type in ActivationType:
        path = quantize_onnx(
            calibrated.path, calibrated.report.calibration, tmp_path / f"{activation_type}.onnx", activation_type
        )
        onnx.checker.check_model(onnx.load(path), full_check=True)
        outputs.append(run_as_written(onnx.load(path), calibrated.held_out[0].patch))
    np.testing.assert_array_equal(outputs[0], outputs[1])


@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_never_become_int8(name: str, tmp_path: Path) -> None:
    rows = {row.node: row for row in Calibrated(name, tmp_path).report.layers}
    for node in STATISTICS[name]:
        assert rows[node].noise_db is None
        assert rows[node].reason
