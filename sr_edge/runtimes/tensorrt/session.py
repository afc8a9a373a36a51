"""The TensorRT session: besides what every session does, it reads tiles from GPU memory and measures on the GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sr_edge.controls import Controls
from sr_edge.errors import TileError, UsageError
from sr_edge.frames import Batch, Uint8Frame
from sr_edge.runtimes.cuda.device_array import device_array
from sr_edge.runtimes.cuda.gpu_state import GpuState, clock_warning
from sr_edge.runtimes.engine.host_format import empty_tile, frames_from_tile, graph_shape, tile_from_frames
from sr_edge.runtimes.engine.meters import random_tile, require_runs
from sr_edge.runtimes.engine.session import EngineSession
from sr_edge.runtimes.session import Latency, SessionSpec
from sr_edge.runtimes.tensorrt.engine import DeviceTimes, TensorRtEngine
from sr_edge.spec import FrameFormat

_TYPES = {FrameFormat.FLOAT_NCHW: "<f4", FrameFormat.UINT8_NHWC: "|u1", FrameFormat.NV12: "|u1"}


@dataclass(frozen=True)
class DeviceMemory:
    """GPU memory of a session in bytes: scratch memory of all execution contexts, weights, and I/O buffers."""

    context_bytes: int
    weights_bytes: int
    buffer_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.context_bytes + self.weights_bytes + self.buffer_bytes


@dataclass(frozen=True)
class DeviceLatency:
    """Latency by the parts that trtexec reports.

    Attributes:
        h2d: copy of the tile to the device.
        compute: the engine.
        d2h: copy of the result to the host.
        total: sum of the three.
        enqueue: time of the CPU to enqueue the engine's work.
        warnings: reasons why the figures may mislead.
        before: clocks and power of the GPU before the measurement, if readable.
        after: the same after the measurement.
    """

    h2d: Latency
    compute: Latency
    d2h: Latency
    total: Latency
    enqueue: Latency
    warnings: tuple[str, ...]
    before: GpuState | None
    after: GpuState | None


class TensorRtSession(EngineSession):
    """A `Session` on a GPU."""

    def __init__(
        self,
        engine: TensorRtEngine,
        spec: SessionSpec,
        memory: DeviceMemory,
        gpu_state: Callable[[], GpuState | None],
    ) -> None:
        super().__init__(engine, spec)
        self.device_memory = memory
        self._gpu_engine = engine
        self._gpu_state = gpu_state

    def __enter__(self) -> TensorRtSession:
        return self

    def run_on_device(self, source: object, controls: Controls | None = None) -> Batch | Uint8Frame:
        """Upscales a tile that is in GPU memory, for example a camera's buffer, without copying it.

        Args:
            source: a contiguous array on the session's GPU, in the graph's format and type, with
                `__cuda_array_interface__` or DLPack. The stream that wrote it must be synchronized, and it must not
                change until this method returns.
            controls: values of the network's named scalars; the others have their defaults.

        Returns:
            The upscaled tile as a new array in host memory, in the format of the graph's output.

        Raises:
            TileError: the shape is not that of the session's tile.
            UsageError: the array has another type or is not in CUDA memory.
            EngineError: CUDA failed.
        """
        required = graph_shape(self.spec.io, self.spec.tile, self.spec.channels)
        tile = device_array(source)
        if tile.shape not in (required, required[1:]):
            raise TileError(
                f"the CUDA array has the shape {list(tile.shape)}, but the graph of this session takes "
                f"{list(required)}",
                found=tile.shape,
                wanted=required,
                remedy=f"pass a tile of the shape {list(required)}",
            )
        if tile.typestr != _TYPES[self.spec.io]:
            raise UsageError(
                f"the CUDA array is of the type {tile.typestr}, but the graph of this session takes "
                f"{_TYPES[self.spec.io]}",
                found=tile.typestr,
                wanted=_TYPES[self.spec.io],
                remedy="convert it first",
            )
        values = self._control_arrays(controls)
        slot = self._claim()
        try:
            out = empty_tile(self._out_io, self._out_tile, self.spec.channels)
            self._gpu_engine.infer_from_device(slot.index, tile.address, values, out)
            return frames_from_tile(out, self._out_io)
        finally:
            self._free.put(slot)

    def measure_on_device(self, runs: int = 20, warm_up: int = 3) -> DeviceLatency:
        """Measures one tile at a time by CUDA events, on a seeded random tile in the graph's format."""
        require_runs(runs)
        tile = tile_from_frames(random_tile(self.spec.tile, self.spec.io, self.spec.channels), self.spec.io)
        values = self._control_arrays(None)
        slot = self._claim()
        try:
            before = self._gpu_state()
            times = [
                self._gpu_engine.infer_timed(slot.index, tile, values, slot.output) for _ in range(warm_up + runs)
            ][warm_up:]
            after = self._gpu_state()
        finally:
            self._free.put(slot)
        return device_latency(times, before, after)


def device_latency(times: list[DeviceTimes], before: GpuState | None, after: GpuState | None) -> DeviceLatency:
    """Percentiles of each part, with warnings about what may distort them."""
    h2d, compute, d2h, enqueue = (
        Latency.from_samples([getattr(sample, name) for sample in times])
        for name in ("h2d_ms", "compute_ms", "d2h_ms", "enqueue_ms")
    )
    total = Latency.from_samples([sample.h2d_ms + sample.compute_ms + sample.d2h_ms for sample in times])
    candidates = (_enqueue_warning(enqueue, compute), _copy_warning(h2d, compute, d2h), clock_warning(before, after))
    warnings = tuple(line for line in candidates if line)
    return DeviceLatency(h2d, compute, d2h, total, enqueue, warnings, before, after)


def _enqueue_warning(enqueue: Latency, compute: Latency) -> str | None:
    """trtexec's rule: where enqueueing takes longer than computing, the CPU limits the latency."""
    if enqueue.p50_ms < compute.p50_ms:
        return None
    return (
        f"enqueue-bound: the CPU takes {enqueue.p50_ms:.3f} ms to enqueue what the GPU computes in "
        f"{compute.p50_ms:.3f} ms; keep CUDA graphs on, or use a larger tile"
    )


def _copy_warning(h2d: Latency, compute: Latency, d2h: Latency) -> str | None:
    copying_ms = h2d.p50_ms + d2h.p50_ms
    if copying_ms < compute.p50_ms:
        return None
    return (
        f"transfer-bound: copying takes {copying_ms:.3f} ms, computing {compute.p50_ms:.3f} ms; use the graph with "
        "uint8 frames (--io uint8), pass tiles in GPU memory, or keep several tiles in flight"
    )
