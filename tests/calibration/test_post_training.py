"""Calibrating a file and writing its INT8 graph: the result, the cache, keeping layers float, and errors."""

from __future__ import annotations

import dataclasses
import errno
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import sr_edge.calibration
from sr_edge.bundle.store import sha256_of
from sr_edge.calibration import OBSERVERS, Calibration, calibrate, quantize_onnx, read_cache, write_cache
from sr_edge.calibration.graph.candidates import find_quantizable_ops
from sr_edge.calibration.graph.load import load_graph
from sr_edge.calibration.graph.placement import PlacementPolicy, decide
from sr_edge.errors import CacheMismatch, CalibrationError, NothingToQuantize, UnknownNameError, UsageError
from sr_edge.export.graph.metadata import Form, GraphMetadata, read_metadata, write_metadata
from sr_edge.frames import Batch
from sr_edge.spec import ActivationType, FrameFormat, ModelCard, Precision
from tests.calibration.graphs import PsnrDb, Run
from tests.expected_errors import raises


@pytest.fixture(scope="module")
def calibration(mixed_file: Path, batches: list[Batch]) -> Calibration:
    return calibrate(mixed_file, batches)


@pytest.mark.parametrize("method", [observer.name for observer in OBSERVERS])
def test_every_method_gives_a_graph_near_the_float_one(
    method: str, mixed_file: Path, batches: list[Batch], tmp_path: Path, run_as_written: Run, psnr_db: PsnrDb
) -> None:
    calibration = calibrate(mixed_file, batches, method=method)
    path = quantize_onnx(mixed_file, calibration, tmp_path / "int8.onnx")
    noise_db = psnr_db(run_as_written(onnx.load(path), batches[0]), run_as_written(onnx.load(mixed_file), batches[0]))
    assert 45.0 < noise_db < 90.0


def test_the_same_input_gives_the_same_bytes(mixed_file: Path, batches: list[Batch], tmp_path: Path) -> None:
    written = [quantize_onnx(mixed_file, calibrate(mixed_file, batches), tmp_path / name).read_bytes() for name in "ab"]
    assert written[0] == written[1]


def test_ranges_cover_the_layers_that_stay_float(calibration: Calibration) -> None:
    assert "/head/Conv" not in calibration.int8_nodes
    assert "input" in calibration.ranges


def test_layers_can_be_switched_to_float_one_by_one(calibration: Calibration, mixed_file: Path, tmp_path: Path) -> None:
    fake_quant = calibration.keep_float(["/fuse/Conv"], "it is noisy")
    assert set(calibration.int8_nodes) - set(fake_quant.int8_nodes) == {"/fuse/Conv"}
    assert {d.node: d.reason for d in fake_quant.decisions}["/fuse/Conv"] == "it is noisy"
    model = onnx.load(quantize_onnx(mixed_file, fake_quant, tmp_path / "int8.onnx"))
    inputs = {node.name: node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    assert inputs["/fuse/Conv"] == "fuse.weight"


def test_a_layer_that_is_not_int8_cannot_be_switched(calibration: Calibration) -> None:
    with raises(UsageError, found=("/head/Conv",), wanted=calibration.int8_nodes):
        calibration.keep_float(["/head/Conv"], "")


def test_a_layer_whose_input_was_always_zero_stays_float(
    mixed_file: Path, tmp_path: Path, batches: list[Batch]
) -> None:
    model = onnx.load(mixed_file)
    for tensor in model.graph.initializer:
        if tensor.name in ("head.weight", "head.bias"):
            zeros = np.zeros(tuple(tensor.dims), np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(zeros, tensor.name))
    onnx.save(model, tmp_path / "dead.onnx")
    decisions = {d.node: d for d in calibrate(tmp_path / "dead.onnx", batches).decisions}
    assert not decisions["/shared/Conv"].int8
    assert "zero on every" in decisions["/shared/Conv"].reason
    assert decisions["/fuse/Conv"].int8


def test_metadata_says_int8(mixed_file: Path, batches: list[Batch], tmp_path: Path) -> None:
    model = onnx.load(mixed_file)
    card = ModelCard("mixed", 2, 1000)
    write_metadata(model, GraphMetadata(card, Form.STATIC, Precision.FP32, FrameFormat.FLOAT_NCHW, None, "0", "2"))
    onnx.save(model, tmp_path / "float.onnx")
    calibration = calibrate(tmp_path / "float.onnx", batches)
    path = quantize_onnx(tmp_path / "float.onnx", calibration, tmp_path / "int8.onnx", ActivationType.UINT8)
    metadata = read_metadata(onnx.load(path))
    assert metadata.precision is Precision.INT8
    assert metadata.card == card


def test_progress_ends_at_its_total(mixed_file: Path, batches: list[Batch]) -> None:
    steps: list[tuple[int, int]] = []
    calibrate(mixed_file, batches, progress=lambda done, total: steps.append((done, total)))
    assert steps == [(done, len(steps)) for done in range(1, len(steps) + 1)]


class TestCache:
    @pytest.fixture
    def cache(self, mixed_file: Path, batches: list[Batch], tmp_path: Path) -> Path:
        path = tmp_path / "ranges.json"
        calibrate(mixed_file, batches, cache=path)
        return path

    def test_the_cache_holds_the_whole_calibration(self, cache: Path, calibration: Calibration) -> None:
        assert read_cache(cache) == calibration

    def test_the_cache_is_enough_to_write_the_graph(
        self, cache: Path, calibration: Calibration, mixed_file: Path, tmp_path: Path
    ) -> None:
        cached = quantize_onnx(mixed_file, read_cache(cache), tmp_path / "cached.onnx")
        fresh = quantize_onnx(mixed_file, calibration, tmp_path / "fresh.onnx")
        assert cached.read_bytes() == fresh.read_bytes()

    def test_nothing_is_measured_again(self, cache: Path, mixed_file: Path, batches: list[Batch]) -> None:
        steps: list[tuple[int, int]] = []
        calibrate(mixed_file, batches, cache=cache, progress=lambda *step: steps.append(step))
        assert not steps

    def test_the_policy_may_change(self, cache: Path, mixed_file: Path, batches: list[Batch]) -> None:
        again = calibrate(mixed_file, batches, cache=cache, include=["*"])
        assert "/head/Conv" in again.int8_nodes
        assert read_cache(cache) == again

    def test_another_model_patch_or_method_is_refused(
        self, cache: Path, mixed_file: Path, batches: list[Batch], tmp_path: Path
    ) -> None:
        other = onnx.load(mixed_file)
        other.producer_name = "someone"
        onnx.save(other, tmp_path / "other.onnx")
        provenance = read_cache(cache).provenance
        wanted_sha256 = sha256_of(tmp_path / "other.onnx")
        with raises(
            CacheMismatch, found={"model_sha256": provenance.model_sha256}, wanted={"model_sha256": wanted_sha256}
        ):
            calibrate(tmp_path / "other.onnx", batches, cache=cache)
        with raises(
            CacheMismatch,
            found={"patches_sha256": provenance.patches_sha256, "method": "search"},
            wanted={"patches_sha256": provenance.patches_sha256[1:], "method": "mse"},
        ):
            calibrate(mixed_file, batches[1:], method="mse", cache=cache)

    def test_a_foreign_cache_is_replaced_when_asked(self, cache: Path, mixed_file: Path, batches: list[Batch]) -> None:
        calibrate(mixed_file, batches, method="mse", cache=cache, recalibrate=True)
        assert read_cache(cache).provenance.method == "mse"

    def test_every_truncation_is_refused(self, cache: Path) -> None:
        content = cache.read_bytes()
        for size in range(0, len(content) - 2, 97):
            cache.write_bytes(content[:size])
            with raises(CalibrationError, found=cache, wanted="a readable calibration cache"):
                read_cache(cache)

    def test_a_changed_number_is_noticed(self, cache: Path) -> None:
        document = json.loads(cache.read_text())
        document["calibration"]["ranges"]["input"]["clip"] *= 2
        cache.write_text(json.dumps(document))
        with raises(CalibrationError, wanted=document["sha256"]):
            read_cache(cache)

    @pytest.mark.parametrize(
        ("content", "form"), [("[]", None), ("{}", None), ('{"format": "another 4"}', "another 4")]
    )
    def test_another_file_is_refused(self, tmp_path: Path, content: str, form: str | None) -> None:
        path = tmp_path / "other.json"
        path.write_text(content)
        with raises(CalibrationError, found=form, wanted="sr_edge calibration 5"):
            read_cache(path)

    def test_the_cache_of_another_version_is_a_mismatch(self, tmp_path: Path) -> None:
        path = tmp_path / "older.json"
        path.write_text('{"format": "sr_edge calibration 4"}')
        with raises(CacheMismatch, found="sr_edge calibration 4", wanted="sr_edge calibration 5"):
            read_cache(path)

    def test_a_missing_cache_is_refused(self, tmp_path: Path) -> None:
        with raises(CalibrationError, found=tmp_path / "missing.json", wanted="a calibration cache"):
            read_cache(tmp_path / "missing.json")

    def test_a_full_disk_leaves_the_old_cache(
        self, cache: Path, calibration: Calibration, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = cache.read_bytes()

        def fill_the_disk(path: Path, content: bytes) -> int:
            with path.open("wb") as file:
                file.write(content[:10])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", fill_the_disk)
        with raises(CalibrationError, found=cache) as caught:
            write_cache(cache, calibration)
        assert "No space left on device" in caught.value.problem
        assert cache.read_bytes() == before
        assert [path.name for path in cache.parent.iterdir()] == [cache.name]


class TestRefusals:
    def test_an_unknown_method(self, mixed_file: Path, batches: list[Batch]) -> None:
        with raises(UnknownNameError, found="average", wanted=["search", *(observer.name for observer in OBSERVERS)]):
            calibrate(mixed_file, batches, method="average")

    def test_a_missing_model(self, tmp_path: Path, batches: list[Batch]) -> None:
        with raises(CalibrationError, found=tmp_path / "missing.onnx", wanted="an ONNX file"):
            calibrate(tmp_path / "missing.onnx", batches)

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"", "an ONNX graph"),
            (b"not a model", "a readable ONNX file"),
            (b"\x00" * 1000, "a readable ONNX file"),
        ],
    )
    def test_a_file_that_is_no_model(self, tmp_path: Path, batches: list[Batch], content: bytes, expected: str) -> None:
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        with raises(CalibrationError, found=path, wanted=expected):
            calibrate(path, batches)

    def test_no_patches(self, mixed_file: Path) -> None:
        with raises(CalibrationError, found=0, wanted=1):
            calibrate(mixed_file, [])

    def test_everything_excluded(self, mixed_file: Path, batches: list[Batch]) -> None:
        model = load_graph(mixed_file)
        reasons = {
            d.node: d.reason for d in decide(model, find_quantizable_ops(model), PlacementPolicy(exclude=("*",)))
        }
        with raises(NothingToQuantize, found=reasons):
            calibrate(mixed_file, batches, exclude=["*"])

    def test_an_int8_model(
        self, mixed_file: Path, batches: list[Batch], calibration: Calibration, tmp_path: Path
    ) -> None:
        path = quantize_onnx(mixed_file, calibration, tmp_path / "int8.onnx")
        quantizer = next(n.name for n in onnx.load(path).graph.node if n.op_type == "QuantizeLinear")
        with raises(CalibrationError, found=quantizer, wanted="a float graph"):
            calibrate(path, batches)

    def test_the_calibration_of_another_model(self, mixed_file: Path, calibration: Calibration, tmp_path: Path) -> None:
        provenance = dataclasses.replace(calibration.provenance, model_sha256="0" * 64)
        foreign = dataclasses.replace(calibration, provenance=provenance)
        with raises(CalibrationError, found=sha256_of(mixed_file), wanted="0" * 64):
            quantize_onnx(mixed_file, foreign, tmp_path / "int8.onnx")
        assert not list(tmp_path.iterdir())

    def test_an_output_folder_that_is_not_there(
        self, mixed_file: Path, calibration: Calibration, tmp_path: Path
    ) -> None:
        out = tmp_path / "missing" / "int8.onnx"
        with raises(CalibrationError, found=out, wanted="a path that can be written to"):
            quantize_onnx(mixed_file, calibration, out)


def test_the_public_names_are_exactly_these() -> None:
    assert sr_edge.calibration.__all__ == [
        "OBSERVERS",
        "Budget",
        "CalibratedFile",
        "Calibration",
        "CalibrationConfig",
        "CalibrationReport",
        "Decision",
        "HeldOut",
        "LatencyMs",
        "LayerRow",
        "Observer",
        "PlacementPolicy",
        "Provenance",
        "TensorRange",
        "calibrate",
        "calibrate_file",
        "calibrate_within",
        "calibration_patches",
        "graph_tile",
        "held_out_pairs",
        "held_out_patches",
        "observer_named",
        "quantize_onnx",
        "read_cache",
        "write_cache",
        "write_curve",
    ]
