"""Sessions on a GPU that is a fake: opened through the runtime, several in flight, zero copy, times, memory, errors."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sr_edge.bundle import Artifact, ArtifactKind
from sr_edge.errors import (
    EngineError,
    PrecisionUnavailable,
    RuntimeUnavailable,
    SrEdgeError,
    TileError,
    UsageError,
)
from sr_edge.runtimes import measure_throughput
from sr_edge.runtimes.cuda.api import CudaError, Gpu
from sr_edge.runtimes.cuda.device_array import device_array
from sr_edge.runtimes.cuda.gpu_state import GpuState, clock_warning, state_from_nvidia_smi, state_from_tegrastats
from sr_edge.runtimes.tensorrt.api import Flavour
from sr_edge.runtimes.tensorrt.cache import EngineCache
from sr_edge.runtimes.tensorrt.engine import DeviceTimes
from sr_edge.runtimes.tensorrt.runtime import TensorRtRuntime
from sr_edge.runtimes.tensorrt.session import TensorRtSession, device_latency
from sr_edge.spec import ActivationType, FrameFormat, Precision, TileSpec
from tests.expected_errors import raises
from tests.runtimes.cuda.fake_cuda import ORIN, RTX_3060, FakeCuda
from tests.runtimes.tensorrt.fake_tensorrt import FakeTensorRt, fake_engine, fake_rtx_engine

Array = npt.NDArray[Any]
FP32, BF16, FP16, INT8 = Precision
S8, U8 = ActivationType


class Machine:
    """A computer with one GPU and TensorRT, both fakes; `open` is the runtime's own open_request."""

    def __init__(self, cuda: FakeCuda, toys: Any, version: str = "10.3.0", flavour: Flavour = Flavour.TENSORRT) -> None:
        self.cuda, self.toys = cuda, toys
        self.trt = FakeTensorRt(cuda)
        self.version, self.flavour = version, flavour

    @property
    def runtime(self) -> TensorRtRuntime:
        return TensorRtRuntime(self.trt.library(self.version, self.flavour), self.cuda.access())

    def open(self, options: dict[str, str] | None = None, **choices: Any) -> TensorRtSession:
        request = self.toys.request(self.toys.plain(), device="cuda", options=options, **choices)
        session = self.runtime.open_request(request)
        assert isinstance(session, TensorRtSession)
        return session


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SR_EDGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=[RTX_3060, ORIN], ids=["own memory", "shared memory"])
def machine(request: pytest.FixtureRequest, toys: Any) -> Machine:
    return Machine(FakeCuda(request.param), toys)


@pytest.fixture
def session(machine: Machine) -> Iterator[TensorRtSession]:
    with machine.open() as opened:
        yield opened


def upscaled(batch: Array) -> Array:
    return batch.repeat(2, 2).repeat(2, 3)


def test_it_upscales_and_says_what_it_is(session: TensorRtSession, machine: Machine, batches: list[Array]) -> None:
    np.testing.assert_array_equal(session.run(batches[0]), upscaled(batches[0]))
    spec = session.spec
    assert (spec.runtime, spec.version, spec.device) == ("tensorrt", "10.3.0", "cuda")
    assert (spec.ran, spec.float_precision_ran, spec.note, spec.slots) == (FP32, FP32, "", 2)


def test_several_in_flight_keep_their_order(machine: Machine, batches: list[Array]) -> None:
    with machine.open(slots=3) as session:
        tickets = [session.submit(batch) for batch in batches]
        for index in (2, 0, 1, *range(len(batches) - 1, 2, -1)):
            np.testing.assert_array_equal(session.result(tickets[index]), upscaled(batches[index]))
        assert measure_throughput(session, tiles=9).in_flight == 3


def test_many_threads_share_it(session: TensorRtSession, batches: list[Array]) -> None:
    with ThreadPoolExecutor(4) as pool:
        for batch, output in zip(batches * 5, pool.map(session.run, batches * 5), strict=True):
            np.testing.assert_array_equal(output, upscaled(batch))


def test_closing_frees_the_gpu(machine: Machine, batches: list[Array]) -> None:
    others = set(threading.enumerate())
    with machine.open() as session:
        session.run(batches[0])
        own = set(threading.enumerate()) - others
    assert set(machine.cuda.alive.values()) == {0}
    assert not own & set(threading.enumerate())


def test_the_engine_is_built_once(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        machine.open().close()
    assert len(machine.trt.configs) == 1
    assert machine.trt.loaded == [b"plan"] * 3
    assert "building needs" in caplog.text


def test_a_stale_engine_is_rebuilt_with_the_reason(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.open().close()
    machine.version = "10.13.0"
    machine.open().close()
    assert len(machine.trt.configs) == 2
    assert "stale, it was built for version 10.3.0, and 10.13.0 is needed" in caplog.text
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_a_changed_engine_is_never_loaded(machine: Machine) -> None:
    machine.open().close()
    (engine,) = EngineCache().folder.glob("*.engine")
    engine.write_bytes(b"evil")
    machine.open().close()
    assert machine.trt.loaded == [b"plan", b"plan"]
    assert len(machine.trt.configs) == 2


def test_a_session_without_wishes_takes_the_last_compiled(machine: Machine) -> None:
    machine.open({"optimization_level": "5"}).close()
    machine.open().close()
    assert [config.builder_optimization_level for config in machine.trt.configs] == [5]
    machine.open({"optimization_level": "2"}).close()
    assert [config.builder_optimization_level for config in machine.trt.configs] == [5, 2]


def test_the_workspace_is_half_of_what_is_free(machine: Machine) -> None:
    free_bytes = machine.cuda.free_bytes()
    machine.open().close()
    assert machine.trt.configs[0].limits["WORKSPACE"] == free_bytes // 2


def test_the_graph_may_be_off(machine: Machine, batches: list[Array]) -> None:
    with machine.open({"cuda_graph": "off"}) as session:
        assert session.spec.note == "CUDA graphs are switched off, as requested"
        np.testing.assert_array_equal(session.run(batches[0]), upscaled(batches[0]))
    assert machine.cuda.calls["launch"] == 0


def test_a_graph_that_cannot_be_had_is_in_the_note(toys: Any, batches: list[Array]) -> None:
    with Machine(FakeCuda(with_graphs=False), toys).open() as session:
        assert session.spec.note.startswith("no CUDA graph: ")
        np.testing.assert_array_equal(session.run(batches[0]), upscaled(batches[0]))


def test_its_memory_is_contexts_weights_and_tiles(machine: Machine) -> None:
    with machine.open(slots=3) as session:
        memory = session.device_memory
    assert memory.context_bytes == 3 * 4096
    assert memory.buffer_bytes == 3 * 4 * 3 * 16 * 24 * (1 + 4)
    assert memory.total_bytes == memory.context_bytes + memory.weights_bytes + memory.buffer_bytes


def test_an_error_in_flight_closes_cleanly(machine: Machine, batches: list[Array]) -> None:
    session = machine.open()
    machine.cuda.failures["synchronize"] = CudaError("CUDA failed", found="cudaErrorLaunchTimeout")
    tickets = [session.submit(batch) for batch in batches[:4]]
    for ticket in tickets:
        with pytest.raises(EngineError) as caught:
            session.result(ticket)
        assert caught.value.found == "cudaErrorLaunchTimeout"
    session.close()
    with raises(UsageError, found="closed"):
        session.run(batches[0])
    machine.cuda.failures.clear()
    with machine.open() as another:
        np.testing.assert_array_equal(another.run(batches[0]), upscaled(batches[0]))


def test_no_room_for_a_context_says_how_much(machine: Machine) -> None:
    machine.trt.new_engine = lambda: fake_engine(machine.cuda, lambda: None, 3 << 20)
    with raises(EngineError, found=machine.cuda.free_bytes(), wanted=3 << 20):
        machine.open()
    assert set(machine.cuda.alive.values()) <= {0}


def test_an_engine_that_tensorrt_refuses(machine: Machine) -> None:
    machine.trt.new_engine = lambda: None
    with raises(EngineError) as caught:
        machine.open()
    (engine,) = EngineCache().folder.glob("*.engine")
    assert caught.value.found == engine


def test_another_size_than_the_engines(machine: Machine, toys: Any) -> None:
    with raises(TileError, found=(1, 3, 16, 24), wanted=(1, 3, 24, 24)):
        machine.open(tile=TileSpec(24, 24))
    with raises(TileError, found=TileSpec(16, 24), wanted=(TileSpec(8, 8), TileSpec(16, 16))):
        machine.open({"sizes": "8,8,16"})


@pytest.mark.parametrize("device", ["cpu", "cuda:1", "cuda:x", "gpu", "cudas"])
def test_devices_that_are_not_there(machine: Machine, device: str) -> None:
    with raises(RuntimeUnavailable, found=device, wanted=("cuda",)):
        machine.runtime.obstacle(FP32, device)


@pytest.mark.parametrize(
    ("options", "found", "wanted"),
    [
        ({"cuda_graph": "maybe"}, "maybe", ("on", "off")),
        ({"workspace_mib": "much"}, "much", "a whole number"),
        ({"optimization_level": "9"}, 9, range(6)),
        ({"workspace_mib": "99999999999999"}, 99999999999999 << 20, range(1, (1 << 50) + 1)),
        ({"provider": "cupy"}, "cupy", ("cuda-python", "pycuda")),
    ],
)
def test_wrong_options(machine: Machine, options: dict[str, str], found: object, wanted: object) -> None:
    with raises(UsageError, found=found, wanted=wanted):
        machine.open(options)


def test_an_option_that_does_not_exist(machine: Machine) -> None:
    with raises(UsageError, found="speed") as caught:
        machine.open({"speed": "most"})
    assert isinstance(caught.value.wanted, tuple) and "cuda_graph" in caught.value.wanted


def test_bf16_is_refused(machine: Machine) -> None:
    with raises(PrecisionUnavailable, found=BF16, wanted=(FP32, FP16, INT8)):
        machine.open(precision=BF16)


def test_int8_without_quantization_is_refused(machine: Machine) -> None:
    with raises(PrecisionUnavailable, found=FP32, wanted=INT8):
        machine.open(precision=INT8)


def test_rtx_tells_which_gpus_it_runs_on(toys: Any) -> None:
    cuda = FakeCuda(Gpu(0, "H100", "9.0", 80 << 30, is_integrated=False))
    machine = Machine(cuda, toys, "1.7.1", Flavour.RTX)
    machine.trt.ComputeCapability = SimpleNamespace(__members__={"SM86": 86, "SM120": 120, "CURRENT": 0})  # type: ignore[attr-defined]
    availability = machine.runtime.availability()
    assert not availability.works
    assert "H100" in availability.reason
    with raises(RuntimeUnavailable, found="9.0", wanted=("8.6", "12.0")):
        machine.runtime.obstacle(FP32, "cuda")


def test_rtx_keeps_the_kernels_that_it_compiled_and_reads_no_others(toys: Any, batches: list[Array]) -> None:
    machine, read = Machine(FakeCuda(), toys, "1.7.1", Flavour.RTX), list[bytes]()
    machine.trt.new_engine = lambda: fake_rtx_engine(machine.cuda, read)
    request = toys.request(toys.plain(), device="cuda")

    def open_and_run() -> None:
        with machine.runtime.open_request(request) as session:
            np.testing.assert_array_equal(session.run(batches[0]), upscaled(batches[0]))

    for _ in range(3):
        open_and_run()
    assert read == [b"kernel,", b"kernel,kernel,"]
    (kernels,) = EngineCache().folder.glob("*.kernels")
    kernels.write_bytes(b"evil" * 100)
    open_and_run()
    assert len(read) == 2


def test_what_it_can_use_here(machine: Machine) -> None:
    reported = machine.runtime.availability()
    assert (reported.works, reported.version) == (True, "10.3.0")
    assert [(device.name, device.precisions) for device in reported.devices] == [("cuda", (FP32, FP16, INT8))]


def file_of(
    name: str, precision: Precision, float_precision: Precision = FP32, activation_type: ActivationType | None = None
) -> Artifact:
    shape = (1, 3, 16, 24)
    return Artifact(
        name, ArtifactKind.ONNX, precision, float_precision, activation_type, FrameFormat.FLOAT_NCHW, shape, "0" * 64
    )


ARTIFACTS = (
    file_of("float", FP32),
    file_of("half", FP16, FP16),
    file_of("u8", INT8, FP32, U8),
    file_of("s8", INT8, FP32, S8),
    file_of("s8-half", INT8, FP16, S8),
)


@pytest.mark.parametrize(
    ("precision", "float_precision", "chosen"),
    [
        (FP32, FP32, "float"),
        (FP16, FP32, "half"),
        (INT8, FP32, "s8"),
        (INT8, FP16, "s8-half"),
        (BF16, FP32, None),
        (INT8, BF16, None),
    ],
)
def test_choice_of_artifact(
    machine: Machine, precision: Precision, float_precision: Precision, chosen: str | None
) -> None:
    artifact = machine.runtime.choose_artifact(ARTIFACTS, precision, float_precision, None)
    assert (artifact.file if artifact else None) == chosen


def in_gpu_memory(cuda: FakeCuda, batch: Array, **changes: Any) -> SimpleNamespace:
    """`batch` at address 7 of the fake GPU, as a camera's buffer tells of itself."""
    cuda.memory[7] = batch.view(np.uint8).ravel()
    properties = {"shape": batch.shape, "typestr": batch.dtype.str, "data": (7, True), "strides": None, "version": 3}
    return SimpleNamespace(__cuda_array_interface__=properties | changes)


def test_a_tile_in_gpu_memory_is_not_copied(session: TensorRtSession, machine: Machine, batches: list[Array]) -> None:
    source = in_gpu_memory(machine.cuda, batches[0])
    machine.cuda.calls.clear()
    np.testing.assert_array_equal(session.run_on_device(source), upscaled(batches[0]))
    assert machine.cuda.calls["copy_in"] == 0
    np.testing.assert_array_equal(session.run(batches[1]), upscaled(batches[1]))


@pytest.mark.parametrize(
    ("changes", "error", "found", "wanted"),
    [
        ({"shape": (1, 3, 24, 16)}, TileError, (1, 3, 24, 16), (1, 3, 16, 24)),
        ({"typestr": "<f2"}, UsageError, "<f2", "<f4"),
        ({"strides": (4608, 4, 288, 12)}, UsageError, (1152, 1, 72, 3), (1152, 384, 24, 1)),
    ],
)
def test_other_tiles_in_gpu_memory_are_refused(
    session: TensorRtSession,
    machine: Machine,
    batches: list[Array],
    changes: Any,
    error: type[SrEdgeError],
    found: object,
    wanted: object,
) -> None:
    with raises(error, found=found, wanted=wanted):
        session.run_on_device(in_gpu_memory(machine.cuda, batches[0], **changes))


class OnGpu:
    """A numpy array that says it is on a GPU."""

    def __init__(self, array: Array, kind: int = 2) -> None:
        self.array, self.kind = array, kind

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.kind, 0

    def __dlpack__(self) -> object:
        return self.array.__dlpack__()


@pytest.mark.parametrize(("dtype", "typestr"), [(np.float32, "<f4"), (np.uint8, "|u1")])
def test_dlpack_tells_where_an_array_lies(dtype: type, typestr: str) -> None:
    array: Array = np.zeros((2, 3, 4), dtype)
    array_on_device = device_array(OnGpu(array))
    assert (array_on_device.address, array_on_device.shape, array_on_device.typestr) == (
        array.ctypes.data,
        (2, 3, 4),
        typestr,
    )


@pytest.mark.parametrize(
    ("make", "found", "wanted"),
    [
        (lambda: OnGpu(np.zeros((2, 3), np.float32).T), (1, 3), (2, 1)),
        (lambda: OnGpu(np.zeros(3, np.float32), kind=1), 1, (2, 13)),
        (lambda: [0.0], "list", ("__cuda_array_interface__", "__dlpack__")),
    ],
)
def test_what_is_no_cuda_array(make: Callable[[], object], found: object, wanted: object) -> None:
    with raises(UsageError, found=found, wanted=wanted):
        device_array(make())


def test_times_of_a_session(session: TensorRtSession) -> None:
    latency = session.measure_on_device(runs=5, warm_up=2)
    assert {part.runs for part in (latency.h2d, latency.compute, latency.d2h, latency.total, latency.enqueue)} == {5}
    assert latency.total.min_ms > 0
    with raises(UsageError, found=0):
        session.measure_on_device(runs=0)


def state(clock_mhz: float | None) -> GpuState:
    return GpuState("nvidia-smi", 40.0, clock_mhz, 1980.0, 46.0)


@pytest.mark.parametrize(
    ("times", "clocks", "expected_warnings"),
    [
        (DeviceTimes(0.1, 2.0, 0.1, 0.2), (1400.0, 1400.0), []),
        (DeviceTimes(0.1, 2.0, 0.1, 2.5), (1400.0, 1420.0), ["enqueue-bound: the CPU takes 2.500 ms"]),
        (DeviceTimes(1.5, 2.0, 1.5, 0.2), (None, 1400.0), ["transfer-bound: copying takes 3.000 ms"]),
        (DeviceTimes(0.1, 2.0, 0.1, 0.2), (1400.0, 1980.0), ["clock went from 1400 to 1980 MHz"]),
    ],
)
def test_what_to_doubt_is_said(
    times: DeviceTimes, clocks: tuple[float | None, float | None], expected_warnings: list[str]
) -> None:
    latency = device_latency([times] * 3, *(state(clock) for clock in clocks))
    assert len(latency.warnings) == len(expected_warnings)
    for line, expected in zip(latency.warnings, expected_warnings, strict=True):
        assert expected in line
    assert latency.total.p50_ms == pytest.approx(times.h2d_ms + times.compute_ms + times.d2h_ms)


def test_a_gpu_that_tells_nothing_is_not_warned_about() -> None:
    assert clock_warning(None, state(1400.0)) is None


def test_nvidia_smi_is_read() -> None:
    assert state_from_nvidia_smi("41.20, 1410, 1980, 46\n") == GpuState("nvidia-smi", 41.2, 1410.0, 1980.0, 46.0)
    assert state_from_nvidia_smi("[N/A], [N/A], [N/A], 46") is None
    assert state_from_nvidia_smi("") is None


def test_tegrastats_is_read() -> None:
    line = (
        "11-21-2026 15:00:00 RAM 2900/7620MB (lfb 5x4MB) CPU [2%@729,0%@729] EMC_FREQ 0%@2133 GR3D_FREQ 45%@[624] "
        "cpu@50.1C gpu@48.5C VDD_IN 5120mW/5004mW VDD_CPU_GPU_CV 640mW/600mW"
    )
    assert state_from_tegrastats(line) == GpuState("tegrastats", 5.12, 624.0, None, 48.5)
    assert state_from_tegrastats("bash: tegrastats: not found") is None


def test_the_card_must_tell_of_the_controls(machine: Machine, toys: Any) -> None:
    request = toys.request(toys.plain(), device="cuda")
    card = replace(request.card, controls=toys.request_for("onnxruntime", network="Controlled").card.controls)
    with raises(UsageError, found=(), wanted=("alpha", "beta")):
        machine.runtime.open_request(replace(request, card=card))
    assert set(machine.cuda.alive.values()) == {0}
