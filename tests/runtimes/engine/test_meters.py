"""Meters: what is run, how often and in which order. No test here depends on how long something takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sr_edge.errors import EngineError, UnknownNameError, UsageError
from sr_edge.runtimes import (
    Machine,
    Session,
    describe_machine,
    diagnose,
    interleaved,
    measure_latency,
    measure_memory,
    measure_start_up,
    measure_throughput,
    open_request,
    paired_ratio,
    random_tile,
    ratios_to_first,
)
from sr_edge.runtimes.engine.host_format import Tile
from sr_edge.runtimes.engine.session import EngineSession
from sr_edge.runtimes.session import Latency, SessionSpec, StageTimes
from sr_edge.spec import FrameFormat, Precision, TileSpec
from tests.expected_errors import raises


class LoggedEngine:
    """Notes its name in a log that several engines share."""

    controls: tuple[str, ...] = ()
    slots = 2

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    def infer(self, slot: int, tile: Tile, controls: Any, out: Tile) -> None:
        self.log.append(self.name)
        np.copyto(out, tile)

    def close(self) -> None:
        self.log.append(f"{self.name} closed")


def logged(name: str, log: list[str], io: FrameFormat = FrameFormat.FLOAT_NCHW) -> EngineSession:
    fp32 = Precision.FP32
    spec = SessionSpec(name, "1", "cpu", fp32, fp32, fp32, io, TileSpec(2, 3), 1, 1, 0.0, 0, slots=2)
    return EngineSession(LoggedEngine(name, log), spec)


def test_latency_of_every_stage() -> None:
    log: list[str] = []
    with logged("a", log) as session:
        stages = measure_latency(session, runs=5, warm_up=2, io=FrameFormat.UINT8_NHWC)
        assert log == ["a"] * 7
    assert {stages.pre.runs, stages.compute.runs, stages.post.runs, stages.total.runs} == {5}
    parts_ms = stages.pre.mean_ms + stages.compute.mean_ms + stages.post.mean_ms
    assert stages.total.mean_ms == pytest.approx(parts_ms)


def test_interleaved_takes_turns() -> None:
    log: list[str] = []
    with logged("a", log) as one, logged("b", log, FrameFormat.UINT8_NHWC) as other:
        measured = interleaved([one, other], rounds=3, warm_up=1)
        assert log == ["a", "b"] * 4
    assert [stages.total.runs for stages in measured] == [3, 3]


def test_ratio_is_taken_within_a_round() -> None:
    slow_then_fast = [StageTimes(0, ms, 0) for ms in (20.0, 20.0, 10.0)]
    measured = paired_ratio([StageTimes(0, ms, 0) for ms in (40.0, 40.0, 20.0)], slow_then_fast)
    assert (measured.low, measured.median, measured.high) == (2, 2, 2)
    with logged("a", []) as one, logged("b", []) as other:
        first, second = ratios_to_first([one, other], rounds=3)
    assert first.median == 1
    assert 0 < second.low <= second.median <= second.high


def test_throughput_runs_every_tile() -> None:
    log: list[str] = []
    with logged("a", log) as session:
        measured = measure_throughput(session, tiles=7, warm_up=1)
        assert log == ["a"] * 8
    assert (measured.tiles, measured.in_flight) == (7, 2)
    assert measured.tiles_per_s > 0


def test_start_up_opens_runs_once_and_closes() -> None:
    log: list[str] = []

    def open_it() -> Session:
        log.append("opened")
        return logged("a", log)

    measured = measure_start_up(open_it)
    assert log == ["opened", "a", "a closed"]
    assert 0 < measured.open_ms < measured.first_frame_ms


def test_nothing_to_measure() -> None:
    with logged("a", []) as session:
        for measure in (measure_latency, measure_throughput, lambda session, runs: interleaved([session], runs)):
            with raises(UsageError, found=0):
                measure(session, 0)


@pytest.mark.parametrize(
    ("io", "shape"),
    [
        (FrameFormat.FLOAT_NCHW, (1, 3, 4, 6)),
        (FrameFormat.UINT8_NHWC, (4, 6, 3)),
        (FrameFormat.NV12, (18, 14, 1)),
    ],
)
def test_random_tile_is_seeded(io: FrameFormat, shape: tuple[int, ...]) -> None:
    tile = random_tile(TileSpec(4, 6), io)
    assert tile.shape == shape
    np.testing.assert_array_equal(tile, random_tile(TileSpec(4, 6), io))


def test_memory_counts_the_engine(onnx_runtime: str, toys: Any) -> None:
    small = measure_memory(onnx_runtime, toys.request(toys.plain()), runs=1)
    wide = TileSpec(512, 1024)
    large = measure_memory(onnx_runtime, toys.request(toys.plain(tile=wide), tile=wide), runs=1)
    output_bytes = 4 * 3 * 4 * wide.height * wide.width
    assert 0 < small.baseline_rss_bytes < small.peak_rss_bytes
    assert large.added_bytes > small.added_bytes + output_bytes


def test_memory_of_what_cannot_run(onnx_runtime: str, toys: Any, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"not a graph")
    with raises(EngineError, found=damaged) as caught:
        measure_memory(onnx_runtime, toys.request(damaged))
    assert "Traceback" not in caught.value.problem
    with pytest.raises(UnknownNameError):
        measure_memory("abacus", toys.request(toys.plain()))


def test_diagnosis_names_every_runtime(onnx_runtime: str, toys: Any) -> None:
    diagnosis = diagnose()
    reports = {report.entry.name: report.availability for report in diagnosis.runtimes}
    report = reports[onnx_runtime]
    assert report.works
    assert report.version
    cpu = next(device for device in report.devices if device.name == "cpu")
    assert {Precision.FP32, Precision.INT8} <= set(cpu.precisions)
    with open_request(onnx_runtime, toys.request(toys.plain(), device=cpu.name)) as session:
        assert session.spec.device == cpu.name
    machine = diagnosis.machine
    assert machine.usable_cores >= 1
    assert machine.memory_bytes > 1 << 20
    assert machine.cpu


def test_cpu_flags_are_those_that_matter(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    assert describe_machine(cpuinfo).cpu_flags is None
    cpuinfo.write_text("model name\t: Chip: fast\nflags\t\t: fpu avx2 avx512_vnni\n\nmodel name\t: Other\n")
    machine = describe_machine(cpuinfo)
    assert (machine.cpu, machine.cpu_flags) == ("Chip: fast", ("avx2", "avx512_vnni"))
    cpuinfo.write_text("Features\t: fp asimd asimddp bf16\n")
    assert describe_machine(cpuinfo).cpu_flags == ("asimddp", "bf16")


@pytest.mark.parametrize(
    ("processor", "flags", "saturates"),
    [
        ("x86_64", ("avx2",), True),
        ("x86_64", ("avx2", "avx512f"), True),
        ("x86_64", ("avx2", "avx_vnni"), False),
        ("x86_64", ("avx2", "avx512f", "avx512_vnni"), False),
        ("x86_64", None, False),
        ("aarch64", ("asimddp",), False),
    ],
)
def test_int8_saturates_on_x86_without_vnni(processor: str, flags: tuple[str, ...] | None, saturates: bool) -> None:
    machine = Machine(f"Linux 6 {processor}", "3.11", "Chip", 1, 1 << 30, flags)
    assert machine.saturates_int8 is saturates


def test_a_latency_needs_samples() -> None:
    assert Latency.from_samples([3.0, 1.0, 2.0]).p50_ms == 2.0
    with raises(UsageError, found=0, wanted=1):
        Latency.from_samples([])
