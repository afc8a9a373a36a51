"""A deserialised engine that runs tiles: one lane a slot, each with its own stream, context, buffers and CUDA graph.

Everything is allocated when the lane is made and freed when the engine is closed. Tiles go through pinned host memory:
numpy -> pinned -> device -> pinned -> numpy, the middle three queued at once. Where CPU and GPU share their memory
(Jetson) the pinned buffers are mapped and the engine works on them directly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sr_edge.errors import EngineError
from sr_edge.runtimes.cuda import ANOTHER_SESSION, Cuda, CudaError, GraphUnavailable, HostBuffer
from sr_edge.runtimes.engine_session import ControlArrays
from sr_edge.runtimes.host_format import Tile
from sr_edge.runtimes.tensorrt_api import TrtIExecutionContext

Element = np.dtype[np.float32] | np.dtype[np.uint8]
Array = npt.NDArray[np.float32] | npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Port:
    """One input or output of an engine."""

    name: str
    shape: tuple[int, ...]
    dtype: Element

    @property
    def size_bytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize


@dataclass(frozen=True)
class Ports:
    """What goes in and out: the tile, the network's scalars, the upscaled tile."""

    tile: Port
    controls: tuple[Port, ...]
    out: Port


@dataclass(frozen=True)
class DeviceTimes:
    """One tile by CUDA's events: copy in, engine, copy out; and how long the CPU took to queue the engine's work."""

    h2d_ms: float
    compute_ms: float
    d2h_ms: float
    enqueue_ms: float


@dataclass(frozen=True)
class _Buffer:
    """One port's memory: `view` is the pinned host side as the port's array, `address` what the engine works on."""

    host: HostBuffer
    view: Array
    address: int
    is_mapped: bool


class TensorRtEngine:
    """`Engine` over execution contexts; see `engine_session.Engine`. After a CUDA error it refuses further work."""

    def __init__(
        self,
        cuda: Cuda,
        ports: Ports,
        new_context: Callable[[], TrtIExecutionContext],
        slots: int,
        want_graph: bool = True,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.slots = slots
        self.controls = tuple(port.name for port in ports.controls)
        self.graph_obstacle = "" if want_graph else "CUDA graph off, as asked"
        self._cuda = cuda
        self._failure: CudaError | None = None
        self._on_close = on_close
        self._lanes: list[_Lane] = []
        try:
            for _ in range(slots):
                self._lanes.append(_Lane(cuda, ports, new_context()))
            if want_graph:
                self._capture()
        except BaseException:
            self.close()
            raise

    @property
    def buffer_bytes(self) -> int:
        """Memory that all lanes' tiles and controls take, on the GPU or shared with it."""
        return sum(lane.buffer_bytes for lane in self._lanes)

    def infer(self, slot: int, tile: Tile, controls: ControlArrays, out: Tile) -> None:
        self._work(lambda: self._lanes[slot].run(tile, controls, out))

    def infer_at(self, slot: int, address: int, controls: ControlArrays, out: Tile) -> None:
        """`infer` on a tile that is in the GPU's memory already; nothing is copied in, and no graph is used."""
        self._work(lambda: self._lanes[slot].run_at(address, controls, out))

    def infer_timed(self, slot: int, tile: Tile, controls: ControlArrays, out: Tile) -> DeviceTimes:
        """`infer`, timed by events."""
        times: list[DeviceTimes] = []
        self._work(lambda: times.append(self._lanes[slot].run_timed(tile, controls, out)))
        return times[0]

    def close(self) -> None:
        """Frees everything; what a broken device no longer lets go of is lost with the process."""
        with suppress(CudaError), self._cuda.current():
            for lane in self._lanes:
                lane.close()
        self._lanes.clear()
        on_close, self._on_close = self._on_close, lambda: None  # which holds on to the engine's weights
        on_close()

    def _capture(self) -> None:
        """One CUDA graph a lane, or for all lanes none and the reason."""
        try:
            with self._cuda.current():
                for lane in self._lanes:
                    lane.capture()
        except GraphUnavailable as error:
            self.graph_obstacle = f"no CUDA graph: {error}"
            with self._cuda.current():
                for lane in self._lanes:
                    lane.drop_graph()

    def _work(self, run: Callable[[], None]) -> None:
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


class _Lane:
    """One tile at a time: a stream, a context, its buffers, and once captured a graph of the engine's work."""

    def __init__(self, cuda: Cuda, ports: Ports, context: TrtIExecutionContext) -> None:
        self._cuda = cuda
        self._context: TrtIExecutionContext | None = context
        self._graph: int | None = None
        self._freeing = ExitStack()
        with cuda.current():
            try:
                self._stream = cuda.create_stream()
                self._freeing.callback(_quietly, cuda.destroy_stream, self._stream)
                self._events = [self._event() for _ in range(4)]
                self._tile = self._buffer(ports.tile)
                self._controls = {port.name: self._buffer(port) for port in ports.controls}
                self._out = self._buffer(ports.out)
                self._bind(context, ports)
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

    def run_at(self, address: int, controls: ControlArrays, out: Tile) -> None:
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
        began = time.perf_counter()
        self._enqueue()
        enqueue_ms = 1e3 * (time.perf_counter() - began)
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
        """Captures the engine's work after one run outside a graph, in which TensorRT sets itself up."""
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
        """Every part is let go of, whatever became of the others."""
        with suppress(CudaError):
            self._cuda.synchronize(self._stream)
        with suppress(CudaError):
            self.drop_graph()
        self._context = None
        self._freeing.close()

    def _event(self) -> int:
        event = self._cuda.create_event()
        self._freeing.callback(_quietly, self._cuda.destroy_event, event)
        return event

    def _buffer(self, port: Port) -> _Buffer:
        cuda, mapped = self._cuda, self._cuda.gpu.is_integrated
        host = cuda.host_buffer(port.size_bytes, mapped)
        self._freeing.callback(_quietly, cuda.free_host, host)
        if host.device_address is None:
            address = cuda.allocate(port.size_bytes)
            self._freeing.callback(_quietly, cuda.free, address)
        else:
            address = host.device_address
        view: Array = host.array.view(port.dtype).reshape(port.shape)
        return _Buffer(host, view, address, host.device_address is not None)

    def _bind(self, context: TrtIExecutionContext, ports: Ports) -> None:
        self._tile_name = ports.tile.name
        buffers = {ports.tile.name: self._tile, ports.out.name: self._out, **self._controls}
        for port in (ports.tile, *ports.controls):
            context.set_input_shape(port.name, port.shape)
        for name, buffer in buffers.items():
            context.set_tensor_address(name, buffer.address)

    def _fill(self, tile: Tile | None, controls: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Writes the pinned side. The lane is idle: every run ends with its stream empty."""
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
            raise CudaError("TensorRT could not queue a tile", remedy=ANOTHER_SESSION)

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


def _quietly(free: Callable[..., None], handle: object) -> None:
    with suppress(CudaError):
        free(handle)
