"""Passes in deployed bundles: the graphs of each runtime, their precisions, and the record of the measurement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from sr_edge.bundle import ArtifactKind, Manifest, open_bundle
from sr_edge.deploy import DeployPlan, DeployReport, deploy_network
from sr_edge.deploy.pass_timing import Candidates, Decide, Decision, OpenGraph, Passes
from sr_edge.errors import RuntimeUnavailable
from sr_edge.export.graph.patches import PICTURES
from sr_edge.export.passes.speed_passes import SpeedPass
from sr_edge.model_sources import open_session
from sr_edge.models import load_model
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.runtimes import MedianInterval, load_runtime
from sr_edge.spec import FrameFormat, PassChoice, Precision, TileSpec
from tests.export.speed_passes import CANCELLING, CLIP, MAX, WRONG

TILE = TileSpec(20, 28)
FP32, INT8 = Precision.FP32, Precision.INT8
BOTH = ("onnxruntime", "openvino")
ONNX = ArtifactKind.ONNX
WITH_MAX = ("clip", "max")


def always(choose: Callable[[Candidates], Passes]) -> Decide:
    """A decision without a measurement: each graph is run once, and `choose` names the one that was the fastest."""

    def decide(candidates: Candidates, open_graph: OpenGraph, budget_s: float, clock: Callable[[], float]) -> Decision:
        assert 0 < budget_s <= 20.0
        for passes in candidates.first:
            with open_graph(passes) as run:
                assert min(run()) > 0
        return Decision(choose(candidates), candidates.plain, MedianInterval(0.5, 0.48, 0.53), rounds=60)

    return decide


def fastest(candidates: Candidates) -> Passes:
    """The last candidate: the one with a further pass."""
    return candidates.first[-1]


def deploy(
    out: Path,
    passes: PassChoice,
    *precisions: Precision,
    runtimes: tuple[str, ...] = BOTH,
    decide: Decide | None = None,
    speed_passes: tuple[SpeedPass, ...] = (CLIP, MAX),
    nv12_colour: Nv12Colour | None = None,
) -> DeployReport:
    plan = DeployPlan(
        TILE,
        runtimes,
        (FP32, *precisions),
        rounds=1,
        with_memory=False,
        with_tile_needs=False,
        passes=passes,
        speed_passes=speed_passes,
        decide_passes=decide or always(fastest),
        nv12_colour=nv12_colour,
    )
    return deploy_network(load_model("convnet-tiny", 2), PICTURES, out, plan)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SR_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def require_library(runtime: str) -> None:
    try:
        load_runtime(runtime)
    except RuntimeUnavailable as error:
        pytest.skip(str(error))


def operators(bundle: Path, file: str) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(bundle / file).graph.node)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> DeployReport:
    """A bundle in which graphs with a further pass were the fastest everywhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SR_EDGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        out = tmp_path_factory.mktemp("out") / "tiny.sredge"
        return deploy(out, PassChoice.MEASURED, INT8, nv12_colour=Nv12Colour.BT709_FULL)


def artifacts(manifest: Manifest, *runtimes: str) -> dict[str, tuple[str, ...]]:
    return {
        item.file: item.passes for item in manifest.artifacts if item.runtimes == runtimes and item.file.endswith("x")
    }


def test_the_graphs_of_all_runtimes_have_the_passes_for_all_targets(report: DeployReport) -> None:
    shared = artifacts(report.manifest)
    assert len(shared) == 12
    assert set(shared.values()) == {("clip",)}
    assert not any(operators(report.path, file)["Relu"] for file in shared)


def test_the_graphs_that_were_the_fastest_are_for_the_runtimes_in_which_they_were(report: DeployReport) -> None:
    assert artifacts(report.manifest, "openvino", "onnxruntime") == {
        "model.openvino-onnxruntime.onnx": WITH_MAX,
        "model.openvino-onnxruntime.uint8.onnx": WITH_MAX,
        "model.openvino-onnxruntime.nv12.onnx": WITH_MAX,
    }
    assert artifacts(report.manifest, "openvino") == {
        "model.openvino.int8-u8.onnx": WITH_MAX,
        "model.openvino.int8-u8.uint8.onnx": WITH_MAX,
        "model.openvino.int8-u8.nv12.onnx": WITH_MAX,
    }
    for item in (item for item in report.manifest.artifacts if item.kind is ONNX):
        assert (operators(report.path, item.file)["Max"] > 0) == bool(item.runtimes)


@pytest.mark.parametrize(
    "runtime, precision, float_precision, file",
    [
        ("openvino", FP32, FP32, "model.openvino-onnxruntime.onnx"),
        ("openvino", Precision.BF16, FP32, "model.openvino-onnxruntime.onnx"),
        ("openvino", INT8, FP32, "model.openvino.int8-u8.onnx"),
        ("openvino", INT8, Precision.BF16, "model.openvino.int8-u8.onnx"),
        ("onnxruntime", FP32, FP32, "model.openvino-onnxruntime.onnx"),
        ("onnxruntime", INT8, FP32, "model.int8.onnx"),
        ("tensorrt-rtx", FP32, FP32, "model.onnx"),
        ("tensorrt-rtx", INT8, Precision.FP16, "model.int8-fp16.onnx"),
    ],
)
def test_runtimes_open_their_own_graphs_and_never_those_of_others(
    report: DeployReport, runtime: str, precision: Precision, float_precision: Precision, file: str
) -> None:
    require_library(runtime)
    chosen = load_runtime(runtime).choose_artifact(report.manifest.artifacts, precision, float_precision, None)
    assert chosen is not None
    assert chosen.file == file


def test_every_variant_reproduces_the_golden_frames(report: DeployReport) -> None:
    assert report.failed == ()
    tested = {(row.variant.runtime, row.variant.label) for row in report.bench.rows if row.self_test is not None}
    assert {("openvino", "fp32"), ("openvino", "int8"), ("onnxruntime", "fp32")} <= tested


@pytest.mark.parametrize("precision", [FP32, INT8])
def test_graphs_of_both_frame_formats_give_the_same_frame(report: DeployReport, precision: Precision) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (TILE.height, TILE.width, 3), np.uint8)
    outputs = []
    for io in (FrameFormat.FLOAT_NCHW, FrameFormat.UINT8_NHWC):
        with open_session(report.path, "openvino", precision, io=io) as session:
            outputs.append(np.asarray(session.run(frame), np.int16))
    assert np.abs(outputs[0] - outputs[1]).max() <= 1


def test_the_manifest_records_what_was_measured(report: DeployReport) -> None:
    with open_bundle(report.path) as bundle:
        bundle.verify()
        measurements = {(each.runtime, each.precision): each for each in bundle.manifest.passes}
        lines = bundle.manifest.pass_lines
    assert set(measurements) == {("openvino", FP32), ("openvino", INT8), ("onnxruntime", FP32)}
    assert all(each.passes == WITH_MAX and each.rounds == 60 for each in measurements.values())
    assert all(each.cpu and each.version and not each.remark for each in measurements.values())
    assert measurements["openvino", FP32].base == ()
    assert measurements["openvino", INT8].base == ("clip",)
    assert [line.partition(":")[0] for line in lines] == ["openvino", "onnxruntime"]


def test_a_second_deployment_takes_the_measurement_from_the_cache(cache: Path, tmp_path: Path) -> None:
    def never(*arguments: object) -> Decision:
        raise AssertionError("the passes were timed again")

    first = deploy(tmp_path / "first.sredge", PassChoice.MEASURED, runtimes=("onnxruntime",))
    again = deploy(tmp_path / "again.sredge", PassChoice.MEASURED, runtimes=("onnxruntime",), decide=never)
    assert again.manifest.passes == first.manifest.passes
    assert again.manifest.artifacts == first.manifest.artifacts
    assert len(list((cache / "passes").iterdir())) == 1


def test_the_plain_graph_is_written_where_it_was_the_fastest(tmp_path: Path) -> None:
    out = tmp_path / "tiny.sredge"
    report = deploy(out, PassChoice.MEASURED, runtimes=("onnxruntime",), decide=always(lambda graphs: graphs.plain))
    assert artifacts(report.manifest, "onnxruntime") == {
        "model.onnxruntime.onnx": (),
        "model.onnxruntime.uint8.onnx": (),
    }
    assert operators(out, "model.onnxruntime.onnx")["Relu"] > 0
    assert report.failed == ()


def test_a_graph_that_was_fast_but_fails_its_checks_is_left_out_and_recorded(tmp_path: Path) -> None:
    wrong = replace(WRONG, gain=MAX.gain)
    out = tmp_path / "tiny.sredge"
    report = deploy(out, PassChoice.MEASURED, runtimes=("onnxruntime",), speed_passes=(CLIP, wrong))
    assert artifacts(report.manifest, "onnxruntime") == {}
    (measurement,) = report.manifest.passes
    assert (measurement.passes, measurement.rounds) == (("clip",), 0)
    assert "wrong" in measurement.remark
    assert report.failed == ()


@pytest.mark.parametrize(
    "choice, passes",
    [(PassChoice.NONE, ()), (PassChoice.STRUCTURE, ("clip",)), (PassChoice.ALL, ("clip", "max"))],
)
def test_without_a_measurement_all_runtimes_have_the_same_graph(
    tmp_path: Path, choice: PassChoice, passes: tuple[str, ...]
) -> None:
    report = deploy(tmp_path / "tiny.sredge", choice, runtimes=("onnxruntime",))
    assert artifacts(report.manifest) == {"model.onnx": passes, "model.uint8.onnx": passes}
    assert report.manifest.passes == ()
    assert report.failed == ()


def test_a_runtime_that_is_not_timed_leads_to_no_measurement(tmp_path: Path) -> None:
    report = deploy(tmp_path / "tiny.sredge", PassChoice.MEASURED, runtimes=("torch",))
    assert report.manifest.passes == ()
    assert artifacts(report.manifest) == {"model.onnx": ("clip",), "model.uint8.onnx": ("clip",)}


def test_fp16_without_the_passes_after_which_it_fails_and_no_int8_with_such_float_layers(tmp_path: Path) -> None:
    report = deploy(
        tmp_path / "tiny.sredge",
        PassChoice.STRUCTURE,
        Precision.FP16,
        INT8,
        runtimes=("onnxruntime",),
        speed_passes=(CANCELLING,),
    )
    assert artifacts(report.manifest) == {
        "model.onnx": ("cancelling",),
        "model.uint8.onnx": ("cancelling",),
        "model.fp16.onnx": (),
        "model.fp16.uint8.onnx": (),
        **dict.fromkeys(("model.int8.onnx", "model.int8.uint8.onnx"), ("cancelling",)),
        **dict.fromkeys(("model.int8-u8.onnx", "model.int8-u8.uint8.onnx"), ("cancelling",)),
    }
    assert not report.manifest.left_out
    assert any("without passes" in note for note in report.notes)
    assert report.failed == ()
