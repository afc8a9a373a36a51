"""Bundles with a tile for frames of a certain size: weights and calibration are shared, everything is verified."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from sr_edge.bench import OpenOptions, self_test_bundle, variants_of
from sr_edge.bench.golden import frames_psnr_db
from sr_edge.bench.recommendation import MIN_ROUNDS
from sr_edge.bundle import Bundle, open_bundle
from sr_edge.calibration.ranges.search import SEARCH
from sr_edge.deploy import DeployPlan, DeployReport, deploy_network
from sr_edge.deploy.frame_tiles import FloatTileMeter
from sr_edge.deploy.network import VISIBLE_TILES_DB
from sr_edge.errors import BundleError, TileError, UsageError
from sr_edge.frames import Frame, Picture
from sr_edge.image_files import write_picture
from sr_edge.model_sources import open_frame_session, open_session
from sr_edge.models import LoadedModel, load_model
from sr_edge.models.architectures.swinir import SwinIR
from sr_edge.models.layers.swin import SwinConfig, Upsampler
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.runtimes.engine.tile_session import TileSession
from sr_edge.spec import ActivationType, FrameFormat, ModelCard, PassChoice, Precision, TileSpec
from sr_edge.upscaler import Upscaler
from sr_edge.upscaler.tile_choice import TileChoice
from tests.expected_errors import raises
from tests.runtimes.here import require_compiler
from tests.runtimes.tensorrt.builds import built

MAIN, FITTED = TileSpec(24, 24), TileSpec(36, 52)
FP32, INT8 = Precision.FP32, Precision.INT8
BOTH = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(2):
        write_picture(folder / f"{index}.png", Picture(waves(60, 80, index)))
    return folder


def waves(height: int, width: int, phase: float) -> Frame:
    rows, columns = np.indices((height, width))[..., np.newaxis]
    return cast(Frame, (127.5 + 127.5 * np.sin(rows / 5 + columns / np.array([4, 5, 6]) + phase)).astype(np.uint8))


class SteadyMeter(FloatTileMeter):
    """Exports tiles, but takes their time and memory to be in proportion to the number of pixels."""

    def memory_bytes(self) -> int:
        return 1 << 20

    def times_ms(self, tiles: Sequence[TileSpec]) -> dict[TileSpec, list[float]]:
        return {tile: [float(tile.height * tile.width)] * 4 for tile in tiles}


def plan_for(
    tile: TileSpec, *frames: str, precisions: Sequence[Precision] = (FP32, INT8), runtimes: Sequence[str] = BOTH
) -> DeployPlan:
    return DeployPlan(
        tile,
        runtimes,
        precisions,
        method="percentile" if INT8 in precisions else SEARCH,
        rounds=MIN_ROUNDS,
        with_memory=False,
        passes=PassChoice.STRUCTURE,
        with_tile_needs=False,
        frames=frames,
        tile_meter=SteadyMeter,
    )


@pytest.fixture(scope="module")
def report(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> DeployReport:
    model = load_model("convnet-tiny", 2)
    return deploy_network(model, pictures, tmp_path_factory.mktemp("out") / "tiny.sredge", plan_for(MAIN, "52x36"))


@pytest.fixture
def unmeasured(bundle: Bundle) -> Bundle:
    """The bundle without times, so that the number of pixels decides."""
    return Bundle(bundle.path, bundle.folder, replace(bundle.manifest, recommendations=()))


@pytest.fixture
def bundle(report: DeployReport) -> Iterator[Bundle]:
    with open_bundle(report.path) as opened:
        yield opened


def test_the_bundle_has_the_same_graphs_for_both_tiles(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert (manifest.tile, manifest.tiles) == (MAIN, (MAIN, FITTED))
    kinds = [
        {(each.precision, each.float_precision, each.activation_type, each.io) for each in manifest.artifacts_of(tile)}
        for tile in manifest.tiles
    ]
    assert kinds[0] == kinds[1] and len(kinds[0]) > 4
    bundle.verify()


def test_the_precisions_of_both_tiles_reproduce_golden_frames_of_their_size(bundle: Bundle) -> None:
    tests = self_test_bundle(bundle, variants_of(bundle, BOTH, [FP32, INT8]), OpenOptions())
    passed = [test for test in tests if test.passed]
    assert {test.variant.precision for test in passed} == {FP32, INT8}
    assert all(any(str(FITTED) in result.name for result in test.results) for test in passed)


def test_the_graphs_of_both_tiles_build_with_tensorrt_rtx(bundle: Bundle) -> None:
    """In each precision, with as many layers for one tile as for the other."""
    library = require_compiler()
    for precision, activation_type in ((FP32, None), (INT8, ActivationType.INT8)):
        counts = []
        for tile in bundle.manifest.tiles:
            (artifact,) = (
                each
                for each in bundle.manifest.artifacts_of(tile)
                if (each.precision, each.activation_type, each.io)
                == (precision, activation_type, FrameFormat.FLOAT_NCHW)
                and each.float_precision is FP32
                and each.file.endswith(".onnx")
            )
            counts.append(built(library, bundle.folder / artifact.file, precision).types.counts)
        assert counts[0] == counts[1] and counts[0][precision] > 0


def test_a_damaged_graph_of_a_further_tile_fails_the_self_test(report: DeployReport, tmp_path: Path) -> None:
    copied = tmp_path / "copy.sredge"
    shutil.copytree(report.path, copied)
    (copied / f"{FITTED}/model.onnx").write_bytes(b"damaged")
    with open_bundle(copied) as opened, raises(BundleError):
        self_test_bundle(opened, variants_of(opened, ["onnxruntime"], [FP32]), OpenOptions())


def test_int8_has_the_layers_and_scales_of_the_main_tile(bundle: Bundle) -> None:
    def scales(prefix: str) -> dict[str, bytes]:
        graph = onnx.load(str(bundle.folder / f"{prefix}model.int8.onnx")).graph
        constants = {each.name: numpy_helper.to_array(each).tobytes() for each in graph.initializer}
        return {node.output[0]: constants[node.input[1]] for node in graph.node if "QuantizeLinear" in node.op_type}

    assert scales("") == scales(f"{FITTED}/") != {}


def test_int8_stays_within_the_budget_at_both_tiles(bundle: Bundle, report: DeployReport) -> None:
    assert not [note for note in report.notes if "without int8" in note]
    for tile in bundle.manifest.tiles:
        frame = waves(tile.height, tile.width, 0.3)
        outputs = []
        for precision in (FP32, INT8):
            with open_frame_session(bundle, "openvino", precision) as session:
                outputs.append(cast(Frame, session.run(frame)))
        assert frames_psnr_db([outputs[1]], [outputs[0]]) > 40.0


def test_frames_are_upscaled_in_the_tile_that_fits(unmeasured: Bundle) -> None:
    said: list[TileChoice] = []
    with open_frame_session(unmeasured, "openvino", FP32) as session:
        assert isinstance(session, TileSession)
        upscaler = Upscaler(session, on_tiles=said.append)
        frame = waves(36, 52, 0.7)
        np.testing.assert_array_equal(upscaler.upscale(frame), session.run(frame))
    assert [(choice.plan.tile, choice.plan.tiles) for choice in said] == [(FITTED, 1)]


def test_both_tiles_give_the_same_picture_but_for_what_seams_may_cost(unmeasured: Bundle) -> None:
    frame, manifest = waves(36, 52, 0.7), unmeasured.manifest
    of_main = replace(manifest, artifacts=tuple(each for each in manifest.artifacts if each.tile == MAIN))
    upscaled = []
    for each in (unmeasured, Bundle(unmeasured.path, unmeasured.folder, of_main)):
        with open_frame_session(each, "openvino", FP32) as session:
            upscaled.append(Upscaler(session).upscale(frame))
            assert session.spec.tiles == (() if each.manifest is of_main else (MAIN, FITTED))
    assert frames_psnr_db([upscaled[1]], [upscaled[0]]) >= VISIBLE_TILES_DB


def test_a_session_takes_both_tiles(bundle: Bundle) -> None:
    with open_session(bundle, "onnxruntime", FP32) as session:
        assert session.spec.tiles == (MAIN, FITTED)
        for tile in session.spec.tiles:
            batch = np.zeros((1, 3, tile.height, tile.width), np.float32)
            assert session.run(batch).shape == (1, 3, 2 * tile.height, 2 * tile.width)
        with raises(TileError):
            session.run(np.zeros((1, 3, 20, 20), np.float32))


def test_times_of_both_tiles_are_kept_with_what_is_recommended(bundle: Bundle) -> None:
    engines = bundle.manifest.recommendations
    assert engines and all([each.tile for each in engine.tile_times] == [MAIN, FITTED] for engine in engines)
    best = engines[0]
    with open_frame_session(bundle, best.runtime, best.precision, float_precision=best.float_precision) as session:
        assert session.spec.tile_times == best.tile_times


def test_a_bundle_whose_timing_is_interrupted_is_complete(pictures: Path, tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "timing tiles":
            raise KeyboardInterrupt

    plan = plan_for(MAIN, "52x36", precisions=(FP32,), runtimes=("onnxruntime",))
    with pytest.raises(KeyboardInterrupt):
        deploy_network(load_model("convnet-tiny", 2), pictures, tmp_path / "tiny.sredge", plan, interrupt)
    with open_bundle(tmp_path / "tiny.sredge") as opened:
        opened.verify()
        assert opened.manifest.tiles == (MAIN, FITTED) and not opened.manifest.recommendations


def test_networks_with_masks_for_their_size_are_exported_again(pictures: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    config = SwinConfig(12, (2,), 2, 8, 2, Upsampler.PIXELSHUFFLE_DIRECT)
    card = ModelCard("small-swin", scale=2, parameters=1, multiple_px=8, random_weights=True)
    network = LoadedModel(SwinIR(config).eval(), card)
    out = tmp_path / "swin.sredge"
    deployed = deploy_network(network, pictures, out, plan_for(TileSpec(16, 16), "24x16", runtimes=("onnxruntime",)))
    assert deployed.manifest.tiles == (TileSpec(16, 16), TileSpec(16, 24))
    deployed.require_reproduced()
    assert not [note for note in deployed.notes if "without" in note]


def test_sizes_that_cannot_be_deployed_leave_nothing(pictures: Path, tmp_path: Path) -> None:
    model, out = load_model("convnet-tiny", 2), tmp_path / "tiny.sredge"
    with raises(UsageError):
        plan_for(MAIN, "nonsense")
    for frames, kind in ((("52x36", "52x36"), UsageError), (("52x4",), TileError)):
        with raises(kind):
            deploy_network(model, pictures, out, plan_for(MAIN, *frames))
    assert not list(tmp_path.iterdir())


def test_a_frame_of_the_main_tile_adds_nothing(pictures: Path, tmp_path: Path) -> None:
    model = load_model("convnet-tiny", 2)
    deployed = deploy_network(model, pictures, tmp_path / "tiny.sredge", plan_for(MAIN, "24x24", precisions=(FP32,)))
    assert deployed.manifest.tiles == (MAIN,)
    assert any("fit the main tile" in note for note in deployed.notes)


@pytest.mark.parametrize("tile_ms", [0.0, -1.0, float("nan")])
def test_impossible_times_are_refused(report: DeployReport, tmp_path: Path, tile_ms: float) -> None:
    copied = tmp_path / "copy.sredge"
    shutil.copytree(report.path, copied)
    document = json.loads((copied / "manifest.json").read_text())
    engine = {
        "runtime": "openvino", "precision": "fp32", "float_precision": "fp32",
        "fingerprint": {"device": "cpu", "hardware": "", "instructions": [], "version": "1"},
        "latency_ms": 1.0, "cost_db": 0.0, "max_drop_db": 0.05, "measured_by": "deploy", "measured_at": "2026",
        "tile_times": [{"tile": {"height": 24, "width": 24}, "latency_ms": tile_ms}],
    }  # fmt: skip
    document["recommendations"] = [engine]
    (copied / "manifest.json").write_text(json.dumps(document))
    with raises(BundleError):
        open_bundle(copied)


def test_only_the_main_tile_has_nv12_graphs(pictures: Path, tmp_path: Path) -> None:
    plan = replace(
        plan_for(MAIN, "52x36", precisions=(FP32,), runtimes=("onnxruntime",)), nv12_colour=Nv12Colour.BT709_LIMITED
    )
    report = deploy_network(load_model("convnet-tiny", 2), pictures, tmp_path / "tiny.sredge", plan)
    assert any(f"only the main tile {MAIN} has NV12 graphs" in note for note in report.notes)
    with open_bundle(report.path) as bundle:
        assert {each.tile for each in bundle.manifest.artifacts if each.io is FrameFormat.NV12} == {MAIN}
        tested = self_test_bundle(
            bundle, variants_of(bundle, ("onnxruntime",), (FP32,)), OpenOptions(io=FrameFormat.NV12)
        )
        assert [test.passed for test in tested] == [True]
        with open_session(bundle, "onnxruntime", FP32, io="nv12") as session:
            assert (session.spec.tile, session.spec.tiles) == (MAIN, ())
