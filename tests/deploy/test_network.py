"""deploy_network: the contents of the bundle, and its measurements."""

from __future__ import annotations

import errno
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from sr_edge.bench import (
    GoldenResult,
    OpenOptions,
    PairFiles,
    SelfTest,
    Variant,
    bench_bundle,
    self_test_bundle,
    variants_of,
)
from sr_edge.bench.recommendation import MIN_ROUNDS
from sr_edge.bundle import ArtifactKind, Manifest, open_bundle
from sr_edge.calibration import CalibrationConfig, CalibrationReport
from sr_edge.calibration.data.hard_edges import COUNT as HARD_EDGED
from sr_edge.deploy import DeployPlan, DeployReport, deploy_network
from sr_edge.deploy.golden import GOLDEN_FRAMES
from sr_edge.deploy.graphs import calibrate_with_fallback, calibration_configs
from sr_edge.deploy.manifest import WEIGHTS_FILE
from sr_edge.errors import (
    BundleError,
    EngineError,
    FrameError,
    NothingToQuantize,
    RuntimeUnavailable,
    TileError,
    UsageError,
)
from sr_edge.export import read_metadata
from sr_edge.frames import Picture
from sr_edge.image_files import read_picture, write_picture
from sr_edge.model_sources import open_session
from sr_edge.models import LoadedModel, load_model
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.runtimes.compile import CompileConfig, compile_bundle
from sr_edge.runtimes.measure.recommendations import fingerprint_here
from sr_edge.runtimes.tensorrt.api import Flavour
from sr_edge.runtimes.tensorrt.options import BuildOptions
from sr_edge.spec import ActivationType, FrameFormat, ModelCard, PassChoice, Precision, TileSpec
from tests.expected_errors import raises
from tests.runtimes.here import require_compiler

TILE = TileSpec(20, 28)
ALL = tuple(Precision)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures, one smaller than the tile."""
    folder = tmp_path_factory.mktemp("pictures")
    rows, columns = np.indices((40, 60))[..., np.newaxis]
    for index, size in enumerate((40, 18)):
        waves = 127.5 + 127.5 * np.sin(rows / 5 + columns / np.array([4, 5, 6]) + index)
        write_picture(folder / f"{index}.png", Picture(waves[:size].astype(np.uint8)))
    return folder


@pytest.fixture(scope="module")
def report(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> DeployReport:
    """A deployment in every precision, tested in ONNX Runtime and OpenVINO."""
    model = load_model("convnet-tiny", 2, random_weights=True)
    both = ("onnxruntime", "openvino")
    plan = DeployPlan(
        TILE,
        both,
        ALL,
        exclude=["/first/*"],
        rounds=MIN_ROUNDS,
        with_memory=False,
        passes=PassChoice.STRUCTURE,
        hr=pictures,
        nv12_colour=Nv12Colour.BT601_LIMITED,
    )
    return deploy_network(model, pictures, tmp_path_factory.mktemp("out") / "tiny.sredge", plan)


def test_the_paths_of_exports_are_those_in_the_bundle(report: DeployReport) -> None:
    assert all((report.path / export.path).is_file() for export in report.exports)
    assert not any(export.path.is_absolute() for export in report.exports)


def test_every_artifact_of_the_architecture_is_there(report: DeployReport) -> None:
    artifacts = {
        (item.kind, item.precision, item.float_precision, item.activation_type, item.io)
        for item in report.manifest.artifacts
        if item.io is not FrameFormat.NV12
    }
    fp32, fp16, int8 = Precision.FP32, Precision.FP16, Precision.INT8
    float_io, uint8_io = FrameFormat.FLOAT_NCHW, FrameFormat.UINT8_NHWC
    assert artifacts == {
        (ArtifactKind.ONNX, fp32, fp32, None, float_io),
        (ArtifactKind.ONNX, fp32, fp32, None, uint8_io),
        (ArtifactKind.ONNX, fp16, fp16, None, float_io),
        (ArtifactKind.ONNX, fp16, fp16, None, uint8_io),
        (ArtifactKind.ONNX, int8, fp32, ActivationType.INT8, float_io),
        (ArtifactKind.ONNX, int8, fp32, ActivationType.UINT8, float_io),
        (ArtifactKind.ONNX, int8, fp16, ActivationType.INT8, float_io),
        (ArtifactKind.ONNX, int8, fp32, ActivationType.UINT8, uint8_io),
        (ArtifactKind.ONNX, int8, fp32, ActivationType.INT8, uint8_io),
        (ArtifactKind.ONNX, int8, fp16, ActivationType.INT8, uint8_io),
        (ArtifactKind.WEIGHTS, fp32, fp32, None, float_io),
    }


def test_every_graph_for_uint8_frames_has_one_for_nv12_frames(report: DeployReport) -> None:
    graphs = {
        io: {
            (item.precision, item.float_precision, item.activation_type)
            for item in report.manifest.artifacts
            if item.io is io
        }
        for io in (FrameFormat.UINT8_NHWC, FrameFormat.NV12)
    }
    assert graphs[FrameFormat.NV12] == graphs[FrameFormat.UINT8_NHWC]
    colours = {item.io: item.nv12_colour for item in report.manifest.artifacts}
    assert colours.pop(FrameFormat.NV12) is Nv12Colour.BT601_LIMITED
    assert set(colours.values()) == {None}
    nv12 = next(item for item in report.manifest.artifacts if item.io is FrameFormat.NV12)
    metadata = read_metadata(onnx.load(report.path / nv12.file))
    assert (metadata.io, metadata.nv12_colour) == (nv12.io, nv12.nv12_colour)


def test_nv12_graphs_reproduce_their_golden_frames(report: DeployReport) -> None:
    with open_bundle(report.path) as bundle:
        variants = variants_of(bundle, ["onnxruntime", "openvino"], [Precision.FP32, Precision.INT8])
        tests = self_test_bundle(bundle, variants, OpenOptions(io=FrameFormat.NV12))
    ran = [test for test in tests if test.results]
    assert {(test.variant.runtime, test.variant.label) for test in ran} >= {
        (runtime, precision) for runtime in ("onnxruntime", "openvino") for precision in ("fp32", "int8")
    }
    for test in ran:
        assert test.passed
        assert len(test.results) == GOLDEN_FRAMES
        assert all(result.name.startswith("golden/nv12-") for result in test.results)


def test_nv12_graphs_are_timed_and_compared_with_the_reference(report: DeployReport) -> None:
    options = OpenOptions(io=FrameFormat.NV12)
    with open_bundle(report.path) as bundle:
        variants = variants_of(bundle, ["onnxruntime"], [Precision.FP32])
        bench = bench_bundle(bundle, variants, options, rounds=1, warm_up=0, with_memory=False)
        with raises(UsageError, found="nv12"):
            bench_bundle(bundle, variants, options, pairs=[PairFiles(Path("hr.png"))])
    (row,) = bench.rows
    assert row.latency is not None and row.quality is not None
    assert row.quality.psnr_float_db is not None and row.quality.psnr_float_db > 60


@pytest.mark.parametrize(("tile", "colour"), [("20x27", "bt601-full"), ("21x28", "bt709-limited")])
def test_odd_tiles_cannot_take_nv12_frames(tile: str, colour: str, pictures: Path, tmp_path: Path) -> None:
    plan = DeployPlan(TileSpec.parse(tile), ("onnxruntime",), (Precision.FP32,), nv12_colour=Nv12Colour(colour))
    with raises(TileError, found=plan.tile):
        deploy_network(load_model("convnet-tiny", 2), pictures, tmp_path / "x.sredge", plan)
    assert not (tmp_path / "x.sredge").exists()


def test_odd_overlaps_and_luma_networks_cannot_take_nv12_frames(pictures: Path, tmp_path: Path) -> None:
    model = load_model("convnet-tiny", 2)
    plan = DeployPlan(TILE, ("onnxruntime",), (Precision.FP32,), nv12_colour=Nv12Colour.BT709_FULL)
    with raises(TileError, found=7):
        odd = replace(model, card=replace(model.card, overlap_px=7))
        deploy_network(odd, pictures, tmp_path / "x.sredge", plan)
    with raises(UsageError, found=1):
        luma = replace(model, card=replace(model.card, input_channels=1, output_channels=1))
        deploy_network(luma, pictures, tmp_path / "x.sredge", plan)


def test_int8_graphs_of_both_frame_formats_give_the_same_frame(report: DeployReport) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (TILE.height, TILE.width, 3), np.uint8)
    outputs = []
    for io in (FrameFormat.FLOAT_NCHW, FrameFormat.UINT8_NHWC):
        with open_session(report.path, "openvino", Precision.INT8, io=io) as session:
            assert session.spec.io is io
            outputs.append(session.run(frame))
    first, second = outputs
    assert np.array_equal(first, second)


def test_the_manifest_says_where_everything_came_from(report: DeployReport) -> None:
    with open_bundle(report.path) as bundle:
        bundle.verify()
        manifest = bundle.manifest
    assert manifest == report.manifest
    assert manifest.card.random_weights
    assert manifest.calibration is not None
    assert manifest.calibration.patches == 40 + HARD_EDGED
    assert manifest.calibration.float_layers == {"/first/Conv": "excluded by '/first/*'"}
    assert {"onnx", "torch", "sr-edge"} <= set(manifest.tools)
    assert manifest.licences["weights"]


def test_golden_frames_cover_every_precision(report: DeployReport) -> None:
    for precision in ALL:
        for io in (FrameFormat.UINT8_NHWC, FrameFormat.NV12):
            frames = [frame for frame in report.manifest.golden if (frame.precision, frame.io) == (precision, io)]
            assert len(frames) == GOLDEN_FRAMES
    with open_bundle(report.path) as bundle:
        source, output = bundle.golden_files(report.manifest.golden[0])
        assert read_picture(source).pixels.shape == (20, 28, 3)
        assert read_picture(output).pixels.shape == (40, 56, 3)


def test_every_variant_that_ran_passed_its_self_test(report: DeployReport) -> None:
    ran = {(row.variant.runtime, row.variant.label) for row in report.bench.rows if not row.reason}
    assert {("onnxruntime", "fp32"), ("onnxruntime", "int8"), ("openvino", "fp32"), ("openvino", "int8")} <= ran
    assert report.failed == ()
    for row in report.bench.rows:
        half = row.variant.precision is Precision.FP16 and row.spec is not None and row.spec.ran is not Precision.FP16
        assert bool(row.latency) is not (bool(row.reason) or half), row.variant


def test_quality_was_measured_on_the_originals(report: DeployReport) -> None:
    assert report.bench.bicubic is not None
    scores = [row.quality.hr for row in report.bench.rows if row.quality]
    assert all(score is not None and len(score.pictures) == 2 for score in scores)


def test_what_to_run_is_recommended_for_every_runtime_that_was_timed(report: DeployReport) -> None:
    recommendations = {advice.runtime: advice for advice in report.recommendations}
    assert set(recommendations) == {"onnxruntime", "openvino"}
    for runtime, advice in recommendations.items():
        assert advice.variant is not None, advice.summary
        assert (
            len(advice.alternatives)
            == sum(bool(r.latency) and r.variant.runtime == runtime for r in report.bench.rows) - 1
        )
        assert str(report.path) in advice.command and str(report.path) in advice.python
        assert "dB on your originals" in advice.summary


def test_the_recommendations_are_in_the_bundle_with_the_machine_that_they_are_for(report: DeployReport) -> None:
    with open_bundle(report.path) as bundle:
        engines = bundle.manifest.recommendations
    assert engines == report.manifest.recommendations == report.bench.recommended
    advised = [(advice.runtime, advice.variant) for advice in report.recommendations]
    kept = [(each.runtime, Variant(each.runtime, each.precision, each.float_precision)) for each in engines]
    assert kept == advised
    for engine in engines:
        assert engine.fingerprint == fingerprint_here(engine.runtime, "cpu")
        assert (engine.measured_by, engine.max_drop_db, engine.threads) == ("deploy", 0.05, None)


@pytest.mark.parametrize("suffix", ["sredge", "zip"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeUnavailable("lost the device")])
def test_a_bundle_whose_measurement_is_stopped_is_whole_and_recommends_nothing(
    stop: BaseException | type[BaseException], suffix: str, pictures: Path, tmp_path: Path
) -> None:
    def stops(stage: str, done: int, total: int) -> None:
        if stage == "timing rounds":
            raise stop

    plan = DeployPlan(
        TILE, ("onnxruntime",), (Precision.FP32,), with_memory=False, passes=PassChoice.STRUCTURE, with_tile_needs=False
    )
    out = tmp_path / f"tiny.{suffix}"
    with pytest.raises((KeyboardInterrupt, RuntimeUnavailable)):
        deploy_network(load_model("convnet-tiny", 2, random_weights=True), pictures, out, plan, stops)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    with open_bundle(out) as bundle:
        bundle.verify()
        assert bundle.manifest.recommendations == ()


@pytest.mark.parametrize("suffix", ["sredge", "zip"])
def test_a_bundle_is_written_before_it_is_measured_as_a_killed_process_cannot_write_it(
    suffix: str, pictures: Path, tmp_path: Path
) -> None:
    """A second deployment replaces the bundle of the first, before and after its measurement."""
    found: list[Manifest] = []

    def look(stage: str, done: int, total: int) -> None:
        if stage == "timing rounds" and not done:
            with open_bundle(out) as bundle:
                bundle.verify()
                found.append(bundle.manifest)

    plan = DeployPlan(
        TILE, ("onnxruntime",), (Precision.FP32,), with_memory=False, passes=PassChoice.STRUCTURE, with_tile_needs=False
    )
    out = tmp_path / f"tiny.{suffix}"
    model = load_model("convnet-tiny", 2, random_weights=True)
    made = [deploy_network(model, pictures, out, plan, look).manifest for _ in range(2)]
    assert [manifest.recommendations for manifest in found] == [(), ()]
    assert [manifest.artifacts for manifest in found] == [manifest.artifacts for manifest in made]
    with open_bundle(out) as bundle:
        bundle.verify()
        assert bundle.manifest.recommendations == made[1].recommendations != ()
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_the_cost_of_every_variant_is_measured_in_float(report: DeployReport) -> None:
    costs = {(r.variant.runtime, r.variant.label): r.quality.cost_db for r in report.bench.rows if r.quality}
    assert costs["onnxruntime", "fp32"] == 0.0
    fp32, int8 = costs["openvino", "fp32"], costs["openvino", "int8"]
    assert fp32 is not None and int8 is not None
    assert fp32 < 1e-6
    assert 1e-6 < int8 < 0.1


def test_int8_agrees_between_runtimes(report: DeployReport) -> None:
    tests = {(row.variant.runtime, row.variant.label): row.self_test for row in report.bench.rows}
    openvino = tests["openvino", "int8"]
    assert openvino is not None
    assert min(result.psnr_db for result in openvino.results) >= 50


def test_the_bundle_runs_uint8_frames_in_every_runtime(report: DeployReport) -> None:
    frame = np.full((20, 28, 3), 100, np.uint8)
    outputs = []
    for runtime, io in (("torch", None), ("onnxruntime", FrameFormat.UINT8_NHWC), ("openvino", FrameFormat.UINT8_NHWC)):
        with open_session(report.path, runtime, io=io) as session:
            outputs.append(np.asarray(session.run(frame), np.int16))
    for output in outputs[1:]:
        assert np.abs(output - outputs[0]).max() <= 1


@pytest.mark.parametrize(
    ("precision", "float_precision", "io"),
    [
        (Precision.FP16, Precision.FP32, FrameFormat.UINT8_NHWC),
        (Precision.INT8, Precision.FP32, FrameFormat.UINT8_NHWC),
        (Precision.INT8, Precision.FP16, FrameFormat.UINT8_NHWC),
        (Precision.INT8, Precision.FP16, FrameFormat.NV12),
    ],
)
def test_tensorrt_compiles_graphs_of_a_cameras_frames(
    report: DeployReport, precision: Precision, float_precision: Precision, io: FrameFormat
) -> None:
    require_compiler()
    config = CompileConfig(Flavour.RTX, BuildOptions(precision, float_precision, compute_capability="8.6"), io)
    with open_bundle(report.path) as bundle:
        stored = compile_bundle(bundle, config)
    assert stored.record.key.options.io is io
    assert stored.record.notes.ran is precision


def test_a_variant_that_misses_its_golden_frames_is_named(report: DeployReport) -> None:
    row = report.bench.rows[0]
    missed = SelfTest(row.variant, Precision.FP32, (GoldenResult("golden/input0.png", 20.0, 60.0),))
    spoiled = replace(report, bench=replace(report.bench, rows=(replace(row, self_test=missed),)))
    assert spoiled.failed == (f"{row.variant.runtime} {row.variant.label}",)
    with raises(EngineError, found=("onnxruntime fp32",)):
        spoiled.require_reproduced()
    report.require_reproduced()


def test_a_self_test_without_results_has_not_passed() -> None:
    assert not SelfTest(Variant("torch", Precision.FP32), reason="no library").passed


def test_a_network_of_ones_own_keeps_its_range_and_needs_trust(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_network.py").write_text(
        "from torch import nn\n"
        "def factory():\n"
        "    body = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]\n"
        "    return nn.Sequential(*body, nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    model = load_model(None, 2, random_weights=True, arch="own_network:factory", input_range=255.0)
    precisions = (Precision.FP32,)
    plan = DeployPlan(
        TILE, ("torch", "onnxruntime"), precisions, rounds=1, with_memory=False, passes=PassChoice.STRUCTURE
    )
    report = deploy_network(model, pictures, tmp_path / "own.zip", plan)
    assert report.failed == ()
    assert [row.reason for row in report.bench.rows] == ["", ""]
    with raises(UsageError, found="own_network:factory"):
        open_session(tmp_path / "own.zip", "torch")
    monkeypatch.delitem(sys.modules, "own_network", raising=False)


def test_the_note_says_what_int8_costs(report: DeployReport) -> None:
    assert any("5 of 5 quantizable layers became INT8. INT8 loses 0.0" in note for note in report.notes)


def test_a_network_in_which_no_int8_layer_keeps_the_budget_is_deployed_in_float(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one_layer.py").write_text(
        "from torch import nn\n"
        "def factory():\n"
        "    return nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    model = load_model(None, 2, random_weights=True, arch="one_layer:factory")
    precisions = (Precision.FP32, Precision.INT8)
    plan = DeployPlan(
        TILE, ("onnxruntime",), precisions, max_drop_db=0.0, rounds=1, with_memory=False, passes=PassChoice.STRUCTURE
    )
    report = deploy_network(model, pictures, tmp_path / "one.sredge", plan)
    assert list(report.manifest.left_out) == ["int8"]
    with open_bundle(report.path) as bundle:
        assert bundle.manifest.left_out == report.manifest.left_out
    assert {item.precision for item in report.manifest.artifacts} == {Precision.FP32}
    assert [row.variant.precision for row in report.bench.rows] == [Precision.FP32]
    assert report.failed == ()
    with raises(NothingToQuantize):
        deploy_network(model, pictures, tmp_path / "two.sredge", replace(plan, exclude=["*"]))
    monkeypatch.delitem(sys.modules, "one_layer", raising=False)


@pytest.mark.parametrize("named", [True, False])
def test_a_write_that_fails_names_the_bundle_and_not_the_place_where_it_is_built(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    write_bytes = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name != WEIGHTS_FILE:
            return write_bytes(path, data)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *([str(path)] if named else []))

    monkeypatch.setattr(Path, "write_bytes", full)
    model = load_model("convnet-tiny", 2, random_weights=True)
    plan = DeployPlan(TILE, ("onnxruntime",), (Precision.FP32,))
    out = tmp_path / "x.sredge"
    with raises(BundleError, found=out) as caught:
        deploy_network(model, pictures, out, plan)
    assert str(out) in caught.value.problem and os.strerror(errno.ENOSPC) in caught.value.problem
    assert WEIGHTS_FILE not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_can_be_refused_before_the_work_is(pictures: Path, tmp_path: Path) -> None:
    model = load_model("convnet-tiny", 2, random_weights=True)
    plan = DeployPlan(TILE, ("onnxruntime",), (Precision.FP32,))
    with raises(TileError, found=16, wanted=17):
        deploy_network(model, pictures, tmp_path / "x.sredge", replace(plan, tile=TileSpec(16, 96)))
    with raises(FrameError) as caught:
        deploy_network(model, pictures, tmp_path / "x.sredge", replace(plan, hr=tmp_path / "absent"))
    assert str(tmp_path / "absent") in caught.value.problem
    with raises(UsageError, found=("int8",), wanted="fp32"):
        DeployPlan(TILE, ("onnxruntime",), (Precision.INT8,))
    assert list(tmp_path.iterdir()) == []


def test_an_older_deployment_is_replaced_whole(pictures: Path, tmp_path: Path) -> None:
    def fails_in_the_middle(stage: str, done: int, total: int) -> None:
        if stage == "golden frames":
            raise RuntimeUnavailable("no reference here")

    out = tmp_path / "tiny.sredge"
    plan = DeployPlan(
        TILE, ("onnxruntime",), (Precision.FP32,), rounds=1, with_memory=False, passes=PassChoice.STRUCTURE
    )
    model = load_model("convnet-tiny", 2, random_weights=True)
    first = deploy_network(model, pictures, out, plan).manifest
    with raises(RuntimeUnavailable):
        deploy_network(model, pictures, out, plan, fails_in_the_middle)
    with open_bundle(out) as bundle:
        bundle.verify()
        assert bundle.manifest == first
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.sredge"]


class TestLayersAreTimed:
    """With the float layers in the precision that users of that runtime will run."""

    @staticmethod
    def configs(*runtimes: str, has_bf16: bool = True) -> tuple[CalibrationConfig, ...]:
        return calibration_configs(DeployPlan(TILE, runtimes, ALL), supported=lambda runtime, precision: has_bf16)

    def test_in_bf16_where_the_runtime_has_it(self) -> None:
        preferred, other = self.configs("openvino")
        assert (preferred.runtime, preferred.float_precision) == ("openvino", Precision.BF16)
        assert other == replace(preferred, float_precision=Precision.FP32)

    def test_in_fp32_where_it_has_none(self) -> None:
        (config,) = self.configs("openvino", has_bf16=False)
        assert (config.runtime, config.float_precision) == ("openvino", Precision.FP32)

    def test_nowhere_where_the_bundle_is_for_several(self) -> None:
        (config,) = self.configs("onnxruntime", "openvino")
        assert (config.runtime, config.float_precision) == ("", Precision.FP32)

    def test_in_fp32_where_nothing_keeps_the_budget_beside_bf16(self) -> None:
        asked: list[CalibrationConfig] = []

        def calibrate(config: CalibrationConfig) -> CalibrationReport:
            asked.append(config)
            raise NothingToQuantize(f"no layer beside {config.float_precision}", found=config.float_precision)

        with raises(NothingToQuantize, found=Precision.FP32):
            calibrate_with_fallback(self.configs("openvino"), calibrate)
        assert [config.float_precision for config in asked] == [Precision.BF16, Precision.FP32]


class CancelsFeatures(nn.Module):
    """Loses the picture in float16: it is added to something large and taken back."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        large = 256.0 * (1.0 + x.repeat(1, 4, 1, 1))
        return nn.functional.pixel_shuffle((large + self.first(x)) - large, 2)


class CancelsWeights(nn.Module):
    """Loses the picture in bfloat16, which has no 255.5, and not in float16: 256 times it less 255.5 times it."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(6, 3, 1, bias=False)
        with torch.no_grad():
            self.mix.weight.copy_(torch.cat([256.0 * torch.eye(3), -255.5 * torch.eye(3)], 1)[..., None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        halved = self.mix(torch.cat([x, x], 1)) + 0.001  # off the ties in which half of a level is rounded either way
        return nn.functional.interpolate(halved, scale_factor=2.0)


@pytest.mark.parametrize(("network", "lost"), [(CancelsFeatures, Precision.FP16), (CancelsWeights, Precision.BF16)])
def test_a_precision_that_loses_the_picture_is_left_out_and_the_bundle_is_sound(
    network: type[nn.Module], lost: Precision, pictures: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    card = ModelCard(name="cancelling", scale=2, parameters=18)
    model = LoadedModel(network().eval().requires_grad_(False), card)
    plan = DeployPlan(
        TILE,
        ("torch", "onnxruntime"),
        tuple(Precision),
        rounds=1,
        with_memory=False,
        passes=PassChoice.STRUCTURE,
        nv12_colour=Nv12Colour.BT709_LIMITED,
    )
    report = deploy_network(model, pictures, tmp_path / "x.sredge", plan)
    left_out = report.manifest.left_out
    assert str(lost) in left_out
    assert all(reason in " ".join(report.notes) for reason in left_out.values())
    half = [item for item in report.manifest.artifacts if Precision.FP16 in (item.precision, item.float_precision)]
    assert bool(half) is ("fp16" not in left_out)
    assert {str(frame.precision) for frame in report.manifest.golden}.isdisjoint(left_out)
    assert report.failed == ()
    with open_bundle(report.path) as bundle:
        bundle.verify()
        tests = self_test_bundle(bundle, variants_of(bundle, plan.runtimes, tuple(Precision)), OpenOptions())
        nv12_tests = self_test_bundle(
            bundle, variants_of(bundle, ("onnxruntime",), (Precision.FP32,)), OpenOptions(io=FrameFormat.NV12)
        )
    assert all(test.passed for test in tests if test.results)
    assert any(test.passed for test in tests) and [test.passed for test in nv12_tests] == [True]


def test_a_half_precision_file_that_is_computed_in_float32_is_tested_and_not_timed(report: DeployReport) -> None:
    rows = [row for row in report.bench.rows if row.variant.precision is Precision.FP16 and row.spec is not None]
    in_float32 = [row for row in rows if row.spec is not None and row.spec.ran is not Precision.FP16]
    assert {row.variant.runtime for row in in_float32} >= {"onnxruntime"}
    for row in in_float32:
        assert row.self_test is not None and row.self_test.passed
        assert row.latency is None and row.memory is None and row.rounds_ms == ()
        assert any("not timed" in remark for remark in row.remarks)


def test_a_report_shows_what_was_deployed_in_one_line_and_as_a_table(report: DeployReport) -> None:
    line = repr(report)
    assert line.startswith(f"<DeployReport {report.path}: convnet-tiny x2, tile 20x28, fp32 fp16 int8")
    assert "\n" not in line and len(line) < 300
    noted = replace(report, notes=("a <script> in a note",))
    page = noted._repr_html_()
    assert page.count("<tr>") == sum(row.latency is not None for row in report.bench.rows) + 1
    assert "a &lt;script&gt; in a note" in page
    assert "<script>" not in page
    missed = Variant("openvino", Precision.FP32)
    failed = SelfTest(missed, Precision.FP32, (GoldenResult("0.png", 10.0, 40.0),))
    rows = tuple(replace(row, self_test=failed) if row.variant == missed else row for row in report.bench.rows)
    spoiled = replace(report, bench=replace(report.bench, rows=rows))
    assert "self-test failed in openvino fp32" in repr(spoiled)
    assert "self-test failed in openvino fp32" in spoiled._repr_html_()
