"""Running an engine: buffers made once, copies in order, graphs and their absence, errors; on a GPU that is a fake."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sr_edge.errors import EngineError
from sr_edge.runtimes.cuda.api import CudaError, CudaOutOfMemory
from sr_edge.runtimes.tensorrt.engine import IoTensor, IoTensors, TensorRtEngine
from tests.expected_errors import raises
from tests.runtimes.cuda.fake_cuda import ORIN, RTX_3060, FakeCuda
from tests.runtimes.tensorrt.fake_tensorrt import FakeContext

Array = npt.NDArray[Any]
SHAPE, OUT_SHAPE = (1, 3, 4, 6), (1, 3, 8, 12)
FLOAT = np.dtype(np.float32)
IO_TENSORS = IoTensors(IoTensor("input", SHAPE, FLOAT), (), IoTensor("output", OUT_SHAPE, FLOAT))


def engine_on(
    cuda: FakeCuda, slots: int = 2, use_cuda_graph: bool = True, ports: IoTensors = IO_TENSORS
) -> TensorRtEngine:
    dtype = ports.tile.dtype.type
    return TensorRtEngine(cuda, ports, lambda: FakeContext(cuda, ports.tile.shape, dtype), slots, use_cuda_graph)


@pytest.fixture(params=[RTX_3060, ORIN], ids=["own memory", "shared memory"])
def cuda(request: pytest.FixtureRequest) -> FakeCuda:
    return FakeCuda(request.param)


@pytest.fixture
def engine(cuda: FakeCuda) -> Iterator[TensorRtEngine]:
    made = engine_on(cuda)
    yield made
    made.close()


def tiles(count: int) -> list[Array]:
    generator = np.random.default_rng(5)
    return [generator.random(SHAPE, np.float32) for _ in range(count)]


def upscaled(tile: Array) -> Array:
    return tile.repeat(2, 2).repeat(2, 3)


def infer(engine: TensorRtEngine, tile: Array, slot: int = 0, **controls: float) -> Array:
    out = np.empty(OUT_SHAPE, np.float32)
    engine.infer(slot, tile, {name: np.array([value], np.float32) for name, value in controls.items()}, out)
    return out


def test_each_tile_comes_back_as_its_own(engine: TensorRtEngine) -> None:
    for index, tile in enumerate(tiles(6)):
        np.testing.assert_array_equal(infer(engine, tile, index % 2), upscaled(tile))


def test_a_thousand_runs_allocate_nothing(engine: TensorRtEngine, cuda: FakeCuda) -> None:
    made = Counter(cuda.alive)
    for tile in tiles(1000):
        infer(engine, tile)
    assert cuda.alive == made


def test_closing_frees_everything(cuda: FakeCuda) -> None:
    made = engine_on(cuda)
    infer(made, tiles(1)[0])
    made.close()
    assert set(cuda.alive.values()) == {0}
    assert cuda.memory == {}


def test_closing_lets_go_of_what_it_was_made_from(cuda: FakeCuda) -> None:
    class TensorRTLibrary:
        closed = 0

        def save(self) -> None:
            self.closed += 1

    library = TensorRTLibrary()
    weights = weakref.ref(library)
    made = TensorRtEngine(cuda, IO_TENSORS, lambda: FakeContext(cuda, SHAPE, np.float32), 1, on_close=library.save)
    made.close()
    assert library.closed == 1
    del library
    assert weights() is None


@pytest.mark.parametrize("use_cuda_graph", [True, False])
def test_with_and_without_a_graph_the_same(cuda: FakeCuda, use_cuda_graph: bool) -> None:
    tile = tiles(1)[0]
    engine = engine_on(cuda, use_cuda_graph=use_cuda_graph)
    np.testing.assert_array_equal(infer(engine, tile), upscaled(tile))
    assert (cuda.calls["launch"] == 1) is use_cuda_graph
    assert engine.graph_obstacle == ("" if use_cuda_graph else "CUDA graphs are switched off, as requested")


def test_a_graph_that_cannot_be_had_is_said_and_done_without() -> None:
    cuda, tile = FakeCuda(with_graphs=False), tiles(1)[0]
    engine = engine_on(cuda)
    assert engine.graph_obstacle == "no CUDA graph: a layer of the engine cannot be captured"
    np.testing.assert_array_equal(infer(engine, tile), upscaled(tile))
    assert cuda.calls["launch"] == 0
    engine.close()
    assert set(cuda.alive.values()) == {0}


def test_an_error_while_capturing_is_no_graph_rather_than_no_session() -> None:
    cuda, tile = FakeCuda(), tiles(1)[0]

    class Shy(FakeContext):
        def execute_async_v3(self, stream: int) -> bool:
            return not cuda.is_capturing(stream) and super().execute_async_v3(stream)

    engine = TensorRtEngine(cuda, IO_TENSORS, lambda: Shy(cuda, SHAPE, np.float32), 1)
    assert "could not enqueue" in engine.graph_obstacle
    np.testing.assert_array_equal(infer(engine, tile), upscaled(tile))


def test_shared_memory_is_not_copied() -> None:
    for gpu, copies in ((ORIN, 0), (RTX_3060, 1)):
        cuda = FakeCuda(gpu)
        engine = engine_on(cuda)
        cuda.calls.clear()
        infer(engine, tiles(1)[0])
        assert (cuda.calls["copy_in"], cuda.calls["copy_out"]) == (copies, copies)


def test_uint8_goes_through_as_it_is() -> None:
    shape, out_shape = (1, 4, 6, 3), (1, 8, 12, 3)
    ports = IoTensors(
        IoTensor("input", shape, np.dtype(np.uint8)), (), IoTensor("output", out_shape, np.dtype(np.uint8))
    )
    frame = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    out = np.empty(out_shape, np.uint8)
    engine = engine_on(FakeCuda(), ports=ports)
    engine.infer(0, frame, {}, out)
    np.testing.assert_array_equal(out, frame.repeat(2, 1).repeat(2, 2))
    assert engine.buffer_bytes == 2 * (frame.nbytes + out.nbytes)


def test_controls_go_in_with_their_tile(cuda: FakeCuda) -> None:
    ports = IoTensors(IO_TENSORS.tile, (IoTensor("alpha", (1,), FLOAT),), IO_TENSORS.out)
    engine, tile = engine_on(cuda, ports=ports), tiles(1)[0]
    for alpha in (1.0, 0.5, 2.0):
        np.testing.assert_array_equal(infer(engine, tile, alpha=alpha), upscaled(tile) * np.float32(alpha))


@pytest.mark.parametrize("use_cuda_graph", [True, False])
def test_a_tile_in_device_memory_is_read_where_it_is(cuda: FakeCuda, use_cuda_graph: bool) -> None:
    engine = engine_on(cuda, use_cuda_graph=use_cuda_graph)
    mine, other = tiles(2)
    cuda.memory[7] = mine.view(np.uint8).ravel()
    cuda.calls.clear()
    out = np.empty(OUT_SHAPE, np.float32)
    engine.infer_from_device(0, 7, {}, out)
    np.testing.assert_array_equal(out, upscaled(mine))
    assert cuda.calls["copy_in"] == 0
    np.testing.assert_array_equal(infer(engine, other), upscaled(other))
    del cuda.memory[7]


def test_times_come_from_events_in_order(cuda: FakeCuda) -> None:
    engine, tile = engine_on(cuda), tiles(1)[0]
    out = np.empty(OUT_SHAPE, np.float32)
    times = engine.infer_timed(0, tile, {}, out)
    np.testing.assert_array_equal(out, upscaled(tile))
    assert min(times.h2d_ms, times.compute_ms, times.d2h_ms) > 0
    assert times.enqueue_ms > 0


@pytest.mark.parametrize("call", ["synchronize", "copy_out", "launch"])
def test_an_error_in_flight_ends_the_session_and_not_the_process(call: str) -> None:
    cuda, tile = FakeCuda(), tiles(1)[0]
    engine = engine_on(cuda)
    cuda.failures[call] = CudaError("CUDA failed", found="cudaErrorIllegalAddress")
    with raises(CudaError, found="cudaErrorIllegalAddress"):
        infer(engine, tile)
    cuda.failures.clear()
    with raises(EngineError, found="cudaErrorIllegalAddress"):
        infer(engine, tile)
    engine.close()
    assert set(cuda.alive.values()) == {0}


def test_closing_a_broken_device_frees_what_it_can() -> None:
    cuda = FakeCuda()
    engine = engine_on(cuda)
    for call in ("synchronize", "free_host"):
        cuda.failures[call] = CudaError("CUDA failed with cudaErrorLaunchFailure")
    engine.close()
    assert cuda.memory == {}
    assert (cuda.alive["stream"], cuda.alive["event"], cuda.alive["graph"]) == (0, 0, 0)


@pytest.mark.parametrize(("room_bytes", "wanted"), [(1000, 4 * 288), (1500, 4 * 72)], ids=["first", "second slot"])
def test_too_little_memory_says_how_much_and_leaves_nothing(room_bytes: int, wanted: int) -> None:
    cuda = FakeCuda(room_bytes=room_bytes)
    with raises(CudaOutOfMemory, wanted=wanted) as caught:
        engine_on(cuda)
    assert isinstance(caught.value.found, int) and caught.value.found < wanted
    assert set(cuda.alive.values()) == {0}
