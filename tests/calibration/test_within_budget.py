"""Calibration within a budget: measured on held-out patches, continued after an interruption, refused for flat ones."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from sr_edge.calibration import (
    Budget,
    CalibrationConfig,
    CalibrationReport,
    HeldOut,
    LatencyMs,
    calibrate,
    calibrate_within,
    quantize_onnx,
    read_cache,
    write_curve,
)
from sr_edge.calibration.config import Limits, timed_runtime
from sr_edge.calibration.graph.im2col import quantizable_layers
from sr_edge.calibration.graph.load import load_graph
from sr_edge.calibration.graph.probe import InstrumentedGraph
from sr_edge.calibration.qdq.fake_quant import FakeQuantGraph
from sr_edge.calibration.result.timings import Timings
from sr_edge.calibration.selection.openvino_timings import MAX_ROLES, conditions, roles, scaled_to_total
from sr_edge.calibration.selection.quality import QualityEvaluator, cost_of_pictures_db
from sr_edge.calibration.verify import AGREEMENT_DB
from sr_edge.errors import CacheMismatch, CalibrationError, NothingToQuantize, UnknownNameError, UsageError
from sr_edge.export.passes.tracing import trace
from sr_edge.frames import Batch
from sr_edge.runtimes import availability, describe_machine, supports
from sr_edge.spec import ActivationType, Precision
from tests.calibration.fake_timer import FakeTimer
from tests.calibration.graphs import TILE, Run, with_input_range_255
from tests.expected_errors import raises


class Restorer(nn.Module):
    """x2: nearest neighbour plus a learned residual, so that the output is a picture even with random weights."""

    def __init__(self) -> None:
        super().__init__()
        middle = [layer for _ in range(3) for layer in (nn.Conv2d(12, 12, 3, padding=1), nn.ReLU())]
        self.body = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), *middle, nn.Conv2d(12, 12, 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        residual = nn.functional.pixel_shuffle(self.body(x), 2)
        picture: torch.Tensor = nn.functional.interpolate(x, scale_factor=2) + 0.3 * residual
        return picture


MS = (9.0, 8.0, 7.0, 6.0, 5.0, 4.0)
"""Milliseconds of the restorer's graph with none to all five of its layers in INT8."""


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("restorer") / "float.onnx"
    onnx.save(trace(Restorer().eval(), TILE), path)
    return path


@pytest.fixture(scope="module")
def held_out(batches: list[Batch]) -> list[HeldOut]:
    return [HeldOut(batch) for batch in batches[4:]]


@pytest.fixture(scope="module")
def report(graph: Path, batches: list[Batch], held_out: list[HeldOut]) -> CalibrationReport:
    return calibrate_within(graph, batches[:4], held_out, CalibrationConfig())


def test_the_account_says_what_was_done(report: CalibrationReport) -> None:
    assert report.selection.drop_db <= 0.05
    assert {row.node for row in report.layers if row.precision is Precision.INT8} == set(report.selection.int8)
    assert all(row.noise_db is not None and row.noise_db < -40.0 for row in report.layers)
    assert all(row.saved is not None and row.saved > 0.0 for row in report.layers)
    assert f"{len(report.selection.int8)} of 5 quantizable layers became INT8." in report.sentence
    assert "No runtime was timed" in report.sentence
    assert "only 4 different calibration patches" in report.warnings[0]


def test_a_report_is_a_line_in_python_and_a_table_in_a_notebook(report: CalibrationReport) -> None:
    count = len(report.selection.int8)
    assert repr(report).startswith(f"<CalibrationReport {count} of 5 quantizable layers in INT8, ")
    page = report._repr_html_()
    assert page.count("<table>") == 1
    assert page.count("<tr>") == 1 + len(report.layers)
    assert all(f">{row.node}<" in page for row in report.layers)
    assert repr(report.calibration).endswith(f"{count} of {len(report.layers)} layers in INT8>")


def test_what_was_judged_is_what_is_written(
    report: CalibrationReport, graph: Path, held_out: list[HeldOut], tmp_path: Path, run_as_written: Run
) -> None:
    """The loss in the report is measured again on the files of both activation types."""
    references = [run_as_written(onnx.load(graph), held.patch) for held in held_out]
    for activation_type in ActivationType:
        written = onnx.load(
            quantize_onnx(graph, report.calibration, tmp_path / f"{activation_type}.onnx", activation_type)
        )
        outputs = [run_as_written(written, held.patch) for held in held_out]
        assert cost_of_pictures_db(outputs, references, 38.5) == pytest.approx(report.selection.drop_db, rel=0.02)


def test_a_tighter_budget_keeps_more_float_and_says_so(
    graph: Path, batches: list[Batch], held_out: list[HeldOut]
) -> None:
    generous = calibrate_within(graph, batches[:4], held_out, CalibrationConfig(Budget(float("inf"))))
    assert len(generous.selection.int8) == 5
    assert generous.float_for_budget == ()
    tight = calibrate_within(graph, batches[:4], held_out, CalibrationConfig(Budget(generous.selection.drop_db / 2)))
    assert tight.selection.drop_db <= generous.selection.drop_db / 2
    kept = 5 - len(tight.selection.int8)
    assert kept == len(tight.float_for_budget) > 0
    assert f"{kept} layer{'s' * (kept > 1)} stay" in tight.sentence
    reasons = {row.reason for row in tight.layers if row.precision is not Precision.INT8}
    assert all(reason.startswith(("kept float to lose at most", "too noisy for what it saves")) for reason in reasons)


def test_a_budget_that_nothing_keeps_delivers_nothing(
    graph: Path, batches: list[Batch], held_out: list[HeldOut]
) -> None:
    stages: list[str] = []
    with raises(NothingToQuantize, wanted=0.0):
        calibrate_within(
            graph,
            batches[:4],
            held_out,
            CalibrationConfig(Budget(0.0)),
            progress=lambda stage, *_: stages.append(stage),
        )
    assert "joint checks" in stages


def test_equal_input_gives_equal_bytes(
    report: CalibrationReport, graph: Path, batches: list[Batch], held_out: list[HeldOut], tmp_path: Path
) -> None:
    again = calibrate_within(graph, batches[:4], held_out, CalibrationConfig())
    written = [quantize_onnx(graph, a.calibration, tmp_path / "x.onnx").read_bytes() for a in (report, again)]
    assert written[0] == written[1]


def test_decibels_against_originals_are_shown_and_decide_nothing(
    graph: Path, batches: list[Batch], held_out: list[HeldOut]
) -> None:
    """The originals are the float output plus noise at 45 dB, so that the PSNR of the float network is known."""
    floats, noise = InstrumentedGraph(onnx.load(graph)), np.random.default_rng(0)
    paired = []
    for held in held_out:
        output = np.clip(floats.run(held.patch)[0], 0.0, 1.0)
        plane = (
            noise.standard_normal((1, 1, 48, 48)) * 10 ** (-45 / 20) / float(np.sum([65.481, 128.553, 24.966]) / 255)
        )
        paired.append(HeldOut(held.patch, (output + plane).astype(np.float32), "one"))
    calibration = calibrate(graph, batches[:4], ends_float=False)
    evaluator = QualityEvaluator(FakeQuantGraph(load_graph(graph), calibration), paired)
    assert evaluator.scale == 2
    assert evaluator.drop_db(()) == evaluator.drop_on_originals_db(()) == 0.0
    power = evaluator.noise_power(calibration.int8_nodes)
    shown_db = evaluator.drop_on_originals_db(calibration.int8_nodes)
    assert shown_db == pytest.approx(10 * np.log10(1 + power * 10**4.5), abs=0.05)
    without = QualityEvaluator(FakeQuantGraph(load_graph(graph), calibration), held_out)
    assert evaluator.drop_db(calibration.int8_nodes) == without.drop_db(calibration.int8_nodes)
    assert without.drop_on_originals_db(calibration.int8_nodes) is None
    report = calibrate_within(graph, batches[:4], paired, CalibrationConfig())
    assert report.originals_db is not None and f"{report.originals_db:.3f} dB of luma PSNR" in report.sentence


def test_held_out_patches_with_and_without_originals_do_not_mix(
    graph: Path, batches: list[Batch], held_out: list[HeldOut]
) -> None:
    mixed = [*held_out, HeldOut(batches[0], np.zeros((1, 3, 48, 48), np.float32), "p")]
    with raises(CalibrationError, found=1, wanted=(0, len(mixed))):
        calibrate_within(graph, batches[:4], mixed, CalibrationConfig())
    wrong = [HeldOut(batches[0], np.zeros((1, 3, 24, 24), np.float32), "p")]
    with raises(CalibrationError, found=(24, 24), wanted=(48, 48)):
        calibrate_within(graph, batches[:4], wrong, CalibrationConfig())
    with raises(CalibrationError, found=0, wanted=1):
        calibrate_within(graph, batches[:4], [], CalibrationConfig())


def test_layers_can_be_named(graph: Path, batches: list[Batch], held_out: list[HeldOut]) -> None:
    config = CalibrationConfig(Budget(float("inf")), include=["/body/body.[24]/*"], exclude=["/body/body.4/*"])
    assert calibrate_within(graph, batches[:4], held_out, config).selection.int8 == ("/body/body.2/Conv",)


def test_a_graph_that_calls_white_255_is_judged_alike(
    report: CalibrationReport, graph: Path, batches: list[Batch], held_out: list[HeldOut], tmp_path: Path
) -> None:
    onnx.save(with_input_range_255(onnx.load(graph)), tmp_path / "range255.onnx")
    scaled_report = calibrate_within(
        tmp_path / "range255.onnx", batches[:4], held_out, CalibrationConfig(input_range=255.0)
    )
    assert scaled_report.selection.int8 == report.selection.int8
    assert scaled_report.selection.drop_db == pytest.approx(report.selection.drop_db, rel=0.01)


class TestResuming:
    def test_an_interrupted_search_goes_on_where_it_was(
        self, report: CalibrationReport, graph: Path, batches: list[Batch], held_out: list[HeldOut], tmp_path: Path
    ) -> None:
        cache, limits = tmp_path / "cache.json", Limits(observed_bytes=1, save_every=2)

        def calibrated(progress: Callable[[str, int, int], None]) -> CalibrationReport:
            return calibrate_within(
                graph, batches[:4], held_out, CalibrationConfig(), cache=cache, progress=progress, limits=limits
            )

        def interrupt_at(stage: str, at: int) -> Callable[[str, int, int], None]:
            def progress(current_stage: str, done: int, total: int) -> None:
                if (current_stage, done) == (stage, at):
                    raise KeyboardInterrupt

            return progress

        with pytest.raises(KeyboardInterrupt):
            calibrated(interrupt_at("calibrating", 13))
        assert len(read_cache(cache).ranges) == 2
        with pytest.raises(KeyboardInterrupt):
            calibrated(interrupt_at("sensitivity", 3))
        partial = read_cache(cache)
        assert len(partial.ranges) == 5
        assert partial.sensitivity is not None
        assert len(partial.sensitivity.noise_power) == 2
        steps: list[tuple[str, int]] = []
        resumed = calibrated(lambda stage, done, _: steps.append((stage, done)))
        assert [step for step in steps if step[0] != "joint checks"] == [("sensitivity", n) for n in (1, 2, 3)]
        assert resumed == report

    def test_a_finished_cache_leaves_only_the_joint_check(
        self, report: CalibrationReport, graph: Path, batches: list[Batch], held_out: list[HeldOut], tmp_path: Path
    ) -> None:
        cache = tmp_path / "cache.json"
        calibrate_within(graph, batches[:4], held_out, CalibrationConfig(), cache=cache)
        stages: list[str] = []
        again = calibrate_within(
            graph,
            batches[:4],
            held_out,
            CalibrationConfig(),
            cache=cache,
            progress=lambda stage, *_: stages.append(stage),
        )
        assert set(stages) == {"joint checks"}
        assert again == report

    def test_other_held_out_patches_are_measured_again(
        self, graph: Path, batches: list[Batch], held_out: list[HeldOut], tmp_path: Path
    ) -> None:
        cache = tmp_path / "cache.json"
        calibrate_within(graph, batches[:4], held_out, CalibrationConfig(), cache=cache)
        stages: list[str] = []
        calibrate_within(
            graph,
            batches[:4],
            held_out[1:],
            CalibrationConfig(),
            cache=cache,
            progress=lambda stage, *_: stages.append(stage),
        )
        assert set(stages) == {"sensitivity", "joint checks"}

    def test_a_cache_of_other_patches_is_refused(
        self, graph: Path, batches: list[Batch], held_out: list[HeldOut], tmp_path: Path
    ) -> None:
        cache = tmp_path / "cache.json"
        calibrate_within(graph, batches[:4], held_out, CalibrationConfig(), cache=cache)
        measured_on = read_cache(cache).provenance.patches_sha256
        with raises(CacheMismatch, found={"patches_sha256": measured_on}):
            calibrate_within(graph, batches[:3], held_out, CalibrationConfig(), cache=cache)
        calibrate_within(graph, batches[:3], held_out, CalibrationConfig(), cache=cache, recalibrate=True)
        assert len(read_cache(cache).provenance.patches_sha256) == 3 + 1


@pytest.fixture(scope="module")
def timed(graph: Path, batches: list[Batch], held_out: list[HeldOut]) -> CalibrationReport:
    pytest.importorskip("openvino")
    return calibrate_within(graph, batches[:4], held_out, CalibrationConfig(Budget(float("inf")), runtime="openvino"))


TimesByLayers = Callable[..., CalibrationReport]


@pytest.fixture
def times_by_int8_layers(graph: Path, batches: list[Batch], held_out: list[HeldOut]) -> TimesByLayers:
    """Calibrates for a target where a graph takes as many milliseconds as are listed for its number of INT8 layers."""

    def calibrated(
        ms: Sequence[float], target_ms: float, max_drop_db: float = float("inf"), stages: list[str] | None = None
    ) -> CalibrationReport:
        timer = FakeTimer(ms, usually_saved_ms=0.1)
        config = CalibrationConfig(Budget(max_drop_db, target_ms), runtime="openvino", timer=timer)
        seen = stages if stages is not None else []
        return calibrate_within(graph, batches[:4], held_out, config, progress=lambda stage, *_: seen.append(stage))

    return calibrated


class TestOpenVino:
    def test_every_layer_is_timed(self, timed: CalibrationReport) -> None:
        timings = timed.calibration.timings
        assert timings is not None
        assert timings.runtime == "openvino"
        assert timings.float_ms > 0.0
        assert set(timings.saved) == {row.node for row in timed.layers}

    def test_gains_are_scaled_until_all_layers_together_save_what_the_graph_does(self) -> None:
        scaled = scaled_to_total({"a": 1.0, "b": 3.0, "c": -0.5}, 5.5)
        assert scaled == {"a": 1.5, "b": 4.5, "c": -0.5}
        assert scaled_to_total({"a": -1.0, "b": 0.0}, 2.0) == {"a": -1.0, "b": 0.0}
        assert scaled_to_total({"a": 1.0, "b": -3.0}, -4.0) == {"a": 1.0, "b": -3.0}

    def test_layers_of_one_role_are_timed_together(self, graph: Path) -> None:
        layers = quantizable_layers(load_graph(graph))
        macs = {name: 1.0 if name.startswith("/body") else 0.5 for name in layers}
        groups = roles(layers, macs)
        assert sorted(name for role in groups for name in role) == sorted(layers)
        assert any(len(role) > 1 for role in groups)
        for role in groups:
            assert len({layers[name].weight.shape for name in role}) == 1
        many = {f"{chr(97 + index)}/Conv": layer for index, layer in enumerate([*layers.values()] * 20)}
        assert len(roles({name: many[name] for name in list(many)[:20]}, dict.fromkeys(many, 1.0))) == MAX_ROLES

    def test_what_the_rest_loses_is_taken_from_the_budget(
        self, graph: Path, batches: list[Batch], held_out: list[HeldOut]
    ) -> None:
        pytest.importorskip("openvino")
        if not supports("openvino", Precision.BF16):
            pytest.skip("OpenVINO computes no bf16 on this CPU")
        config = CalibrationConfig(Budget(50.0), runtime="openvino", float_precision=Precision.BF16)
        report = calibrate_within(graph, batches[:4], held_out, config)
        assert report.float_precision_drop_db > 0.0
        assert report.float_precision_drop_db + report.selection.drop_db <= 50.0
        assert f"the float layers in bf16 loses {report.float_precision_drop_db:.3f} dB" in report.sentence

    def test_the_whole_graphs_are_timed_too(self, timed: CalibrationReport) -> None:
        assert timed.latency is not None
        assert min(dataclasses.astuple(timed.latency)) > 0.0
        assert "in openvino with the float layers in fp32" in timed.sentence

    def test_times_hold_for_a_version_a_machine_and_a_number_of_threads(self) -> None:
        pytest.importorskip("openvino")
        assert str(availability("openvino").version) in conditions(None)
        assert describe_machine().cpu in conditions(None)
        assert len({conditions(1), conditions(2), conditions(None)}) == 3


class TestKnownTimes:
    def test_a_rest_that_loses_more_than_the_budget_is_refused_before_the_gate(
        self, graph: Path, batches: list[Batch], held_out: list[HeldOut]
    ) -> None:
        timer, stages = FakeTimer(MS, output_error=0.2), list[str]()
        config = CalibrationConfig(Budget(0.05), runtime="openvino", float_precision=Precision.BF16, timer=timer)
        floats = InstrumentedGraph(onnx.load(graph), optimize=False)
        exact = [floats.run(held.patch)[0] for held in held_out]
        lost_db = cost_of_pictures_db([output + np.float32(0.2) for output in exact], exact, 38.5)
        with raises(NothingToQuantize, found=pytest.approx(lost_db, rel=1e-3), wanted=0.05):
            calibrate_within(graph, batches[:4], held_out, config, progress=lambda stage, *_: stages.append(stage))
        assert "joint checks" not in stages

    def test_a_runtime_that_computes_otherwise_is_noticed(
        self, graph: Path, batches: list[Batch], held_out: list[HeldOut]
    ) -> None:
        config = CalibrationConfig(runtime="openvino", timer=FakeTimer(MS))
        calibrate_within(graph, batches[:4], held_out, config)
        wrong = dataclasses.replace(config, timer=FakeTimer(MS, output_error=0.2))
        with raises(CalibrationError, found=pytest.approx(14.0, abs=2.0), wanted=AGREEMENT_DB) as caught:
            calibrate_within(graph, batches[:4], held_out, wrong)
        assert "openvino" in caught.value.problem

    @pytest.mark.parametrize("saved_ms", [-0.1, 1e-12], ids=["without_gain", "too_noisy"])
    def test_a_layer_without_a_saving_of_its_own_stays_int8_where_the_whole_is_faster_with_it(
        self, graph: Path, batches: list[Batch], held_out: list[HeldOut], saved_ms: float
    ) -> None:
        without_gain, chosen = "/body/body.4/Conv", []
        for more_ms in (4.0, 6.0):
            timer = FakeTimer((*MS[:-1], more_ms), saved_ms={without_gain: saved_ms})
            config = CalibrationConfig(Budget(1e3), runtime="openvino", timer=timer)
            report = calibrate_within(graph, batches[:4], held_out, config)
            assert report.latency == LatencyMs(9.0, min(5.0, more_ms), more_ms)
            assert "ms less" not in report.sentence, "all layers in INT8 are never faster than the selection here"
            chosen.append(report.selection.int8)
        assert without_gain in chosen[0]
        assert without_gain not in chosen[1]
        assert len(chosen[1]) == 4

    def test_where_all_in_int8_is_fastest_and_loses_too_much_all_but_the_noisiest_are_tried(
        self, graph: Path, batches: list[Batch], held_out: list[HeldOut]
    ) -> None:
        timer = FakeTimer(MS, saved_ms={"/body/body.4/Conv": 1.0}, usually_saved_ms=-0.1)
        config = CalibrationConfig(Budget(1e3), runtime="openvino", timer=timer)
        whole = calibrate_within(graph, batches[:4], held_out, config)
        assert len(whole.selection.int8) == 5
        less = dataclasses.replace(config, budget=Budget(0.999 * whole.selection.drop_db))
        report = calibrate_within(graph, batches[:4], held_out, less)
        assert len(report.selection.int8) == 4
        assert report.latency == LatencyMs(9.0, 5.0, 4.0)
        (left_float,) = set(whole.selection.int8) - set(report.selection.int8)
        assert left_float == max(whole.layers, key=lambda row: row.noise_db or -np.inf).node

    def test_times_are_taken_anew_where_they_would_be_others(
        self, graph: Path, batches: list[Batch], held_out: list[HeldOut], tmp_path: Path
    ) -> None:
        def timed_again(threads: int | None = 1, machine: str = "one machine") -> bool:
            stages: list[str] = []
            timer = FakeTimer(MS, machine=machine)
            config = CalibrationConfig(Budget(float("inf")), runtime="openvino", threads=threads, timer=timer)
            calibrate_within(
                graph, batches[:4], held_out, config, cache=tmp_path / "c.json", progress=lambda s, *_: stages.append(s)
            )
            return "timing layers" in stages

        assert [timed_again(), timed_again()] == [True, False]
        assert [timed_again(2), timed_again(2), timed_again(None), timed_again(None)] == [True, False] * 2
        assert [timed_again(None, "another"), timed_again(None, "another")] == [True, False]
        cached = read_cache(tmp_path / "c.json").timings
        assert cached is not None
        assert "None threads on another" in cached.measured_on
        assert "24x24" in cached.measured_on

    @pytest.mark.parametrize("target_ms", [3.5, 7.5])
    def test_a_target_between_float_and_all_int8_is_met_with_no_more_than_it_needs(
        self, times_by_int8_layers: TimesByLayers, target_ms: float
    ) -> None:
        report = times_by_int8_layers((9.0, 9.5, 8.0, 7.0, 5.0, 3.0), target_ms)
        needed = 5 if target_ms == 3.5 else 3
        assert len(report.selection.int8) == needed
        assert report.latency == LatencyMs(9.0, (9.0, 9.5, 8.0, 7.0, 5.0, 3.0)[needed], 3.0)
        assert f"target of {target_ms} ms is met{', so 2 more layers stay float' * (needed == 3)}." in report.sentence
        assert "to keep the loss" not in report.sentence
        reasons = {row.reason for row in report.layers if row.precision is not Precision.INT8}
        assert reasons == ({f"the target of {target_ms} ms is met without it"} if needed == 3 else set())

    def test_a_target_that_float_meets_is_said_before_anything_is_calibrated(
        self, times_by_int8_layers: TimesByLayers
    ) -> None:
        stages: list[str] = []
        with raises(NothingToQuantize, found=9.0, wanted=50.0):
            times_by_int8_layers((9.0, 9.5, 8.0, 7.0, 5.0, 3.0), 50.0, stages=stages)
        assert stages == []

    def test_a_target_out_of_reach_is_answered_with_the_fastest_within_the_budget(
        self, times_by_int8_layers: TimesByLayers, report: CalibrationReport
    ) -> None:
        ms = (9.0, 9.5, 8.0, 7.0, 5.0, 3.0)
        never = times_by_int8_layers(ms, 1.0)
        assert "target of 1 ms is not met: the fastest set of INT8 layers within inf dB takes 3.00 ms" in never.sentence
        tight_db = never.selection.drop_db / 3
        some = times_by_int8_layers(ms, 3.5, tight_db)
        kept = len(some.selection.int8)
        assert 0 < kept < 5
        assert some.latency is not None
        assert some.latency.chosen_ms == ms[kept]
        assert (
            f"within {tight_db:g} dB takes {ms[kept]:.2f} ms and loses {some.selection.drop_db:.3f} dB" in some.sentence
        )
        assert f"would meet it, with 3.00 ms and a loss of {never.selection.drop_db:.3f} dB." in some.sentence
        assert "would not meet it either, with 3.00 ms" in times_by_int8_layers(ms, 1.0, tight_db).sentence


def test_a_runtime_that_nobody_times_in_is_refused() -> None:
    with raises(UnknownNameError, found="tensorflow", wanted=["openvino"]):
        CalibrationConfig(runtime="tensorflow")
    with raises(UnknownNameError, found="tensorflow", wanted=["openvino", "none"]):
        timed_runtime("tensorflow")
    assert timed_runtime("none") == ""


@pytest.mark.parametrize(
    ("config", "found", "wanted"),
    [
        (lambda: CalibrationConfig(Budget(latency_ms=5.0)), 5.0, ("openvino",)),
        (
            lambda: CalibrationConfig(float_precision=Precision.INT8),
            Precision.INT8,
            (Precision.FP32, Precision.BF16, Precision.FP16),
        ),
        (lambda: CalibrationConfig(input_range=0.0), 0.0, (1.0, 255.0)),
        (lambda: CalibrationConfig(input_range=float("inf")), float("inf"), (1.0, 255.0)),
    ],
    ids=["target without a runtime", "float layers in int8", "input range of 0", "infinite input range"],
)
def test_an_order_that_cannot_be_carried_out_is_refused(
    config: Callable[[], CalibrationConfig], found: object, wanted: object
) -> None:
    with raises(UsageError, found=found, wanted=wanted):
        config()


def test_the_curve_is_written_as_numbers_and_as_a_picture(report: CalibrationReport, tmp_path: Path) -> None:
    written = write_curve(report, tmp_path / "curve.json", tmp_path / "curve.png")
    assert written == (tmp_path / "curve.json", tmp_path / "curve.png")
    document = json.loads((tmp_path / "curve.json").read_text())
    assert document["unit"] == "MMAC"
    assert document["chosen"]["int8_layers"] == len(report.selection.int8)
    assert len(document["points"]) == len(report.selection.curve) >= 3
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_costs_add_up_or_count_what_stays_float() -> None:
    measured = Timings({"a": 2.0, "b": 1.0}, "openvino", float_ms=10.0, int8_ms=7.0)
    assert (measured.cost(()), measured.cost(("a",)), measured.cost(("a", "b"))) == (10.0, 8.0, 7.0)
    counted = Timings({"a": 2.0, "b": 1.0})
    assert (counted.unit, counted.cost(()), counted.cost(("a",))) == ("MMAC", 3.0, 1.0)


def test_the_order_of_layers_does_not_change_a_cost() -> None:
    timings = Timings({"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.7})
    assert timings.cost(("a", "b", "c")) == timings.cost(("c", "b", "a"))
