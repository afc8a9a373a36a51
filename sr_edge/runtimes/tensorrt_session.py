"""A TensorRT session: what every session does, and what only a GPU has: tiles in its memory, its own times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sr_edge.controls import Controls
from sr_edge.errors import TileError, UsageError
from sr_edge.runtimes.device_array import device_array
from sr_edge.runtimes.engine_session import EngineSession
from sr_edge.runtimes.gpu_state import GpuState, clock_warning
from sr_edge.runtimes.host_format import empty_tile, frames_from_tile, graph_shape, tile_from_frames
from sr_edge.runtimes.meters import random_tile, require_runs
from sr_edge.runtimes.session import Batch, Frame, SessionSpec
from sr_edge.runtimes.tensorrt_engine import DeviceTimes, TensorRtEngine
from sr_edge.spec import FrameFormat, Latency

_TYPES = {FrameFormat.FLOAT_NCHW: "<f4", FrameFormat.UINT8_NHWC: "|u1"}


@dataclass(frozen=True)
class DeviceMemory:
    """The GPU's memory that a session takes, in bytes: scratch of all contexts, weights, tiles in and out."""

    context_bytes: int
    weights_bytes: int
    buffer_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.context_bytes + self.weights_bytes + self.buffer_bytes


@dataclass(frozen=True)
class DeviceLatency:
    """Latency as trtexec splits it: copy in, the engine, copy out, their sum; and the CPU's time to queue the engine.

    `warnings` say why the figures may mislead; `before` and `after` are the GPU's clocks and power, if readable.
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
    """A session on a GPU."""

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

    def run_on_device(self, source: object, controls: Controls | None = None) -> Batch | Frame:
        """Upscales a tile that is in the GPU's memory already, without copying it (a camera's buffer, for example).

        Args:
            source: an object with `__cuda_array_interface__` or DLPack: contiguous, on the session's GPU, in the
                graph's own format and type, complete (its writer's stream synchronized), unchanged until this returns.

        Returns:
            The upscaled tile on the host, in the graph's format. A fresh array.

        Raises:
            TileError, UsageError: another shape or type, or not a CUDA array.
            EngineError: CUDA failed.
        """
        wanted = graph_shape(self.spec.io, self.spec.tile)
        found = device_array(source)
        if found.shape not in (wanted, wanted[1:]):
            raise TileError(
                f"the CUDA array has the shape {list(found.shape)}, but the graph of this session takes {list(wanted)}",
                found=found.shape,
                wanted=wanted,
                remedy=f"pass a tile of the shape {list(wanted)}",
            )
        if found.typestr != _TYPES[self.spec.io]:
            raise UsageError(
                f"the CUDA array is of the type {found.typestr}, but the graph of this session takes "
                f"{_TYPES[self.spec.io]}",
                found=found.typestr,
                wanted=_TYPES[self.spec.io],
                remedy="convert it first",
            )
        values = self._control_arrays(controls)
        slot = self._claim()
        try:
            out = empty_tile(self.spec.io, self._out_tile)
            self._gpu_engine.infer_at(slot.index, found.address, values, out)
            return frames_from_tile(out, self.spec.io)
        finally:
            self._free.put(slot)

    def measure_on_device(self, runs: int = 20, warm_up: int = 3) -> DeviceLatency:
        """Times one tile at a time by CUDA's events, on a seeded random tile in the graph's own format."""
        require_runs(runs)
        tile = tile_from_frames(random_tile(self.spec.tile, self.spec.io), self.spec.io)
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
    """Percentiles of each part, and what to doubt about them."""
    h2d, compute, d2h, enqueue = (
        Latency.from_samples([getattr(sample, name) for sample in times])
        for name in ("h2d_ms", "compute_ms", "d2h_ms", "enqueue_ms")
    )
    total = Latency.from_samples([sample.h2d_ms + sample.compute_ms + sample.d2h_ms for sample in times])
    found = (_enqueue_warning(enqueue, compute), _copy_warning(h2d, compute, d2h), clock_warning(before, after))
    warnings = tuple(line for line in found if line)
    return DeviceLatency(h2d, compute, d2h, total, enqueue, warnings, before, after)


def _enqueue_warning(enqueue: Latency, compute: Latency) -> str | None:
    """trtexec's rule: where queueing takes longer than computing, the CPU is what is measured."""
    if enqueue.p50_ms < compute.p50_ms:
        return None
    return (
        f"enqueue-bound: the CPU takes {enqueue.p50_ms:.3f} ms to queue what the GPU computes in "
        f"{compute.p50_ms:.3f} ms; keep CUDA graphs on, or use a larger tile"
    )


def _copy_warning(h2d: Latency, compute: Latency, d2h: Latency) -> str | None:
    copying_ms = h2d.p50_ms + d2h.p50_ms
    if copying_ms < compute.p50_ms:
        return None
    return (
        f"transfer-bound: copying takes {copying_ms:.3f} ms, computing {compute.p50_ms:.3f} ms; use the graph with "
        "uint8 frames (--io uint8), hand over tiles in GPU memory, or keep several tiles in flight"
    )
