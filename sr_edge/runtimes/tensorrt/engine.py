"""Runs tiles on a deserialized engine. Each slot has its own stream, execution context, buffers and CUDA graph.

All of that is allocated when the engine is opened and freed when it is closed. A tile is copied from numpy to pinned
host memory, to the device, back to pinned memory, and to numpy; the copies to and from the device and the engine are
enqueued together. Where CPU and GPU share their memory (Jetson), the pinned buffers are mapped and the engine reads and
writes them directly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sr_edge.errors import EngineError
from sr_edge.runtimes.cuda.api import ANOTHER_SESSION, Cuda, CudaError, GraphUnavailable, HostBuffer
from sr_edge.runtimes.engine.host_format import Tile
from sr_edge.runtimes.engine.session import ControlArrays
from sr_edge.runtimes.tensorrt.api import TrtIExecutionContext

Element = np.dtype[np.float32] | np.dtype[np.uint8]
Array = npt.NDArray[np.float32] | npt.NDArray[np.uint8]


@dataclass(frozen=True)
class IoTensor:
    """An input or output tensor of an engine."""

    name: str
    shape: tuple[int, ...]
    dtype: Element

    @property
    def size_bytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize


@dataclass(frozen=True)
class IoTensors:
    """The I/O tensors of an engine: the tile, the network's scalar controls, and the upscaled tile."""

    tile: IoTensor
    controls: tuple[IoTensor, ...]
    out: IoTensor


@dataclass(frozen=True)
class DeviceTimes:
    """Times of one tile by CUDA events: copy in, engine, copy out; and the CPU's time to enqueue the engine's work."""

    h2d_ms: float
    compute_ms: float
    d2h_ms: float
    enqueue_ms: float


@dataclass(frozen=True)
class _Buffer:
    """Memory of one I/O tensor: `view` is its pinned host memory as an array, `address` what the engine works on."""

    host: HostBuffer
    view: Array
    address: int
    is_mapped: bool


class TensorRtEngine:
    """`Engine` over execution contexts (see `engine_session.Engine`). After a CUDA error it refuses further tiles."""

    def __init__(
        self,
        cuda: Cuda,
        tensors: IoTensors,
        new_context: Callable[[], TrtIExecutionContext],
        slots: int,
        use_cuda_graph: bool = True,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.slots = slots
        self.controls = tuple(tensor.name for tensor in tensors.controls)
        self.graph_obstacle = "" if use_cuda_graph else "CUDA graphs are switched off, as requested"
        self._cuda = cuda
        self._failure: CudaError | None = None
        self._on_close = on_close
        self._execution_slots: list[_ExecutionSlot] = []
        try:
            for _ in range(slots):
                self._execution_slots.append(_ExecutionSlot(cuda, tensors, new_context()))
            if use_cuda_graph:
                self._capture()
        except BaseException:
            self.close()
            raise

    @property
    def buffer_bytes(self) -> int:
        """Memory of the tiles and controls of all slots, on the GPU or shared with it."""
        return sum(slot.buffer_bytes for slot in self._execution_slots)

    def infer(self, slot: int, tile: Tile, controls: ControlArrays, out: Tile) -> None:
        self._guarded(lambda: self._execution_slots[slot].run(tile, controls, out))

    def infer_from_device(self, slot: int, address: int, controls: ControlArrays, out: Tile) -> None:
        """`infer` for a tile in GPU memory: it is not copied, and no CUDA graph is used."""
        self._guarded(lambda: self._execution_slots[slot].run_from_device(address, controls, out))

    def infer_timed(self, slot: int, tile: Tile, controls: ControlArrays, out: Tile) -> DeviceTimes:
        """`infer`, timed by CUDA events."""
        times: list[DeviceTimes] = []
        self._guarded(lambda: times.append(self._execution_slots[slot].run_timed(tile, controls, out)))
        return times[0]

    def close(self) -> None:
        """Frees everything; after a CUDA error, memory that cannot be freed stays allocated until the process ends."""
        with suppress(CudaError), self._cuda.current():
            for slot in self._execution_slots:
                slot.close()
        self._execution_slots.clear()
        on_close, self._on_close = self._on_close, lambda: None  # drops its reference to the engine and so its weights
        on_close()

    def _capture(self) -> None:
        """Captures a CUDA graph for every slot; where that fails for one, no slot has one, and the reason is kept."""
        try:
            with self._cuda.current():
                for slot in self._execution_slots:
                    slot.capture()
        except GraphUnavailable as error:
            self.graph_obstacle = f"no CUDA graph: {error}"
            with self._cuda.current():
                for slot in self._execution_slots:
                    slot.drop_graph()

    def _guarded(self, run: Callable[[], None]) -> None:
        if self._failure is not None:
            raise EngineError(
                f"this session failed earlier and runs no more tiles: {self._failure.problem}",
                found=self._failure.found,
                remedy=ANOTHER_SESSION,
            )
        try:
            with self._cuda.current():
                run()
        except CudaError as error:
            self._failure = error
            raise


class _ExecutionSlot:
    """Runs one tile at a time: a stream, an execution context, buffers and, once captured, a CUDA graph."""

    def __init__(self, cuda: Cuda, tensors: IoTensors, context: TrtIExecutionContext) -> None:
        self._cuda = cuda
        self._context: TrtIExecutionContext | None = context
        self._graph: int | None = None
        self._freeing = ExitStack()
        with cuda.current():
            try:
                self._stream = cuda.create_stream()
                self._freeing.callback(_free_ignoring_errors, cuda.destroy_stream, self._stream)
                self._events = [self._event() for _ in range(4)]
                self._tile = self._buffer(tensors.tile)
                self._controls = {tensor.name: self._buffer(tensor) for tensor in tensors.controls}
                self._out = self._buffer(tensors.out)
                self._bind(context, tensors)
            except BaseException:
                self._freeing.close()
                raise

    @property
    def buffer_bytes(self) -> int:
        return sum(buffer.host.array.nbytes for buffer in (self._tile, *self._controls.values(), self._out))

    def run(self, tile: Tile, controls: ControlArrays, out: Tile) -> None:
        self._fill(tile, controls)
        self._copy_in(self._tile)
        self._enqueue()
        self._finish(out)

    def run_from_device(self, address: int, controls: ControlArrays, out: Tile) -> None:
        context = self._require_context()
        self._fill(None, controls)
        context.set_tensor_address(self._tile_name, address)
        try:
            self._execute()
            self._finish(out)
        finally:
            context.set_tensor_address(self._tile_name, self._tile.address)

    def run_timed(self, tile: Tile, controls: ControlArrays, out: Tile) -> DeviceTimes:
        cuda, (start, copied, computed, end) = self._cuda, self._events
        self._fill(tile, controls)
        cuda.record(start, self._stream)
        self._copy_in(self._tile)
        cuda.record(copied, self._stream)
        started = time.perf_counter()
        self._enqueue()
        enqueue_ms = 1e3 * (time.perf_counter() - started)
        cuda.record(computed, self._stream)
        self._copy_out()
        cuda.record(end, self._stream)
        cuda.synchronize(self._stream)
        np.copyto(out, self._out.view)
        return DeviceTimes(
            h2d_ms=cuda.elapsed_ms(start, copied),
            compute_ms=cuda.elapsed_ms(copied, computed),
            d2h_ms=cuda.elapsed_ms(computed, end),
            enqueue_ms=enqueue_ms,
        )

    def capture(self) -> None:
        """Captures the engine's work, after one run without a graph in which TensorRT allocates its resources."""
        self._tile.view[...] = 0
        self._copy_in(self._tile)
        self._execute()
        self._cuda.synchronize(self._stream)
        try:
            self._graph = self._cuda.capture(self._stream, self._execute)
        except GraphUnavailable:
            raise
        except CudaError as error:
            raise GraphUnavailable(
                f"the engine's work cannot be captured ({error.problem})", found=error.found
            ) from error

    def drop_graph(self) -> None:
        if self._graph is not None:
            self._cuda.destroy_graph(self._graph)
            self._graph = None

    def close(self) -> None:
        """Frees every resource, even if freeing another one fails."""
        with suppress(CudaError):
            self._cuda.synchronize(self._stream)
        with suppress(CudaError):
            self.drop_graph()
        self._context = None
        self._freeing.close()

    def _event(self) -> int:
        event = self._cuda.create_event()
        self._freeing.callback(_free_ignoring_errors, self._cuda.destroy_event, event)
        return event

    def _buffer(self, tensor: IoTensor) -> _Buffer:
        cuda, mapped = self._cuda, self._cuda.gpu.is_integrated
        host = cuda.host_buffer(tensor.size_bytes, mapped)
        self._freeing.callback(_free_ignoring_errors, cuda.free_host, host)
        if host.device_address is None:
            address = cuda.allocate(tensor.size_bytes)
            self._freeing.callback(_free_ignoring_errors, cuda.free, address)
        else:
            address = host.device_address
        view: Array = host.array.view(tensor.dtype).reshape(tensor.shape)
        return _Buffer(host, view, address, host.device_address is not None)

    def _bind(self, context: TrtIExecutionContext, tensors: IoTensors) -> None:
        self._tile_name = tensors.tile.name
        buffers = {tensors.tile.name: self._tile, tensors.out.name: self._out, **self._controls}
        for tensor in (tensors.tile, *tensors.controls):
            context.set_input_shape(tensor.name, tensor.shape)
        for name, buffer in buffers.items():
            context.set_tensor_address(name, buffer.address)

    def _fill(self, tile: Tile | None, controls: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Writes to pinned memory. No copy still reads it: every run ends by synchronizing the stream."""
        if tile is not None:
            np.copyto(self._tile.view, tile)
        for name, value in controls.items():
            np.copyto(self._controls[name].view, value)
            self._copy_in(self._controls[name])

    def _copy_in(self, buffer: _Buffer) -> None:
        if not buffer.is_mapped:
            self._cuda.copy_in(buffer.address, buffer.host, self._stream)

    def _copy_out(self) -> None:
        if not self._out.is_mapped:
            self._cuda.copy_out(self._out.host, self._out.address, self._stream)

    def _enqueue(self) -> None:
        if self._graph is None:
            self._execute()
        else:
            self._cuda.launch(self._graph, self._stream)

    def _execute(self) -> None:
        if not self._require_context().execute_async_v3(self._stream):
            raise CudaError("TensorRT could not enqueue a tile", remedy=ANOTHER_SESSION)

    def _finish(self, out: Tile) -> None:
        self._copy_out()
        self._cuda.synchronize(self._stream)
        np.copyto(out, self._out.view)

    def _require_context(self) -> TrtIExecutionContext:
        if self._context is None:
            raise EngineError(
                "the engine is closed", found="closed", wanted="an open engine", remedy="open another session"
            )
        return self._context


def _free_ignoring_errors(free: Callable[..., None], handle: object) -> None:
    with suppress(CudaError):
        free(handle)
