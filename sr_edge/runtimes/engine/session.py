"""The session over any runtime's engine: slots, tickets, controls, and the conversion of frames on the host."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sr_edge.controls import Controls, control_values
from sr_edge.errors import SrEdgeError, UsageError
from sr_edge.frames import Batch, Uint8Frame
from sr_edge.runtimes.engine.executed import Executed, require_requested
from sr_edge.runtimes.engine.host_format import (
    Tile,
    empty_tile,
    format_of,
    frames_from_tile,
    output_format,
    tile_from_frames,
)
from sr_edge.runtimes.engine.meters import measure_latency
from sr_edge.runtimes.session import Latency, SessionRequest, SessionSpec, StageTimes
from sr_edge.spec import FrameFormat, TileSpec

DEFAULT_SLOTS = 2
"""While the engine computes one tile, the host converts another."""

ControlArrays = Mapping[str, npt.NDArray[np.float32]]


class Engine(Protocol):
    """A compiled network that runs up to `slots` tiles at once; `controls` are the names of its scalar inputs."""

    @property
    def slots(self) -> int: ...

    @property
    def controls(self) -> tuple[str, ...]: ...

    def infer(self, slot: int, tile: Tile, controls: ControlArrays, out: Tile) -> None:
        """Upscales one tile, and blocks until that is done.

        Any thread may call it, but only one at a time for each slot.

        Args:
            slot: index of the slot, from 0.
            tile: contiguous, writable array in the graph's format.
            controls: every control of the graph, float32 of shape (1,).
            out: contiguous, writable array in the graph's format, which receives the result.

        Raises:
            EngineError: the library failed.
        """
        ...

    def close(self) -> None:
        """Frees the engine; called once, when no tile is in flight."""
        ...


@dataclass(frozen=True)
class EngineProperties:
    """What a runtime knows about an engine that it compiled; the request has the other fields of the `SessionSpec`."""

    runtime: str
    version: str
    device: str
    threads: int
    load_ms: float
    executed: Executed


def session_over(engine: Engine, request: SessionRequest, properties: EngineProperties) -> EngineSession:
    """Verifies the engine against the request and opens a session over it; raises as `verified_spec` does."""
    return EngineSession(engine, verified_spec(engine, request, properties))


def verified_spec(engine: Engine, request: SessionRequest, properties: EngineProperties) -> SessionSpec:
    """The spec of a session over `engine`, which is closed if it does not match the request.

    Raises:
        UsageError: the engine's controls are not those of the model card.
        PrecisionUnavailable: the engine runs in another precision than requested, and the request does not allow that.
    """
    try:
        _require_controls(engine, request)
        require_requested(request, properties.runtime, properties.executed)
    except SrEdgeError:
        engine.close()
        raise
    return SessionSpec(
        runtime=properties.runtime,
        version=properties.version,
        device=properties.device,
        requested=request.precision,
        ran=properties.executed.ran,
        float_precision_ran=properties.executed.float_precision,
        io=request.io,
        tile=request.tile,
        scale=request.card.scale,
        threads=properties.threads,
        load_ms=properties.load_ms,
        artifact_bytes=request.artifact.stat().st_size,
        note=properties.executed.note,
        slots=engine.slots,
        controls=request.card.controls,
        overlap_px=request.card.overlap_px,
        channels=request.card.channels,
        reuse_table=request.card.reuse_table,
        has_uint8_graph=request.io is FrameFormat.UINT8_NHWC,
        nv12_colour=request.nv12_colour,
    )


def _require_controls(engine: Engine, request: SessionRequest) -> None:
    declared = tuple(sorted(control.name for control in request.card.controls))
    if set(engine.controls) != set(declared):
        raise UsageError(
            f"the controls of {request.artifact.name} are {', '.join(engine.controls) or 'none'}, but its model card "
            f"declares {', '.join(declared) or 'none'}",
            found=engine.controls,
            wanted=declared,
            remedy="open it with the model card that it was exported with",
        )


@dataclass(frozen=True)
class _Slot:
    index: int
    input: Tile
    output: Tile


class EngineSession:
    """A `Session` over any engine; the protocol documents its methods.

    A slot belongs to the thread that took it out of `_free` until that thread, or the pool's, puts it back. `close`
    takes every slot out, so it waits for all tiles in flight and no other thread can be inside the engine when it is
    freed.
    """

    def __init__(self, engine: Engine, spec: SessionSpec) -> None:
        self._engine = engine
        self._spec = spec
        self._out_tile = TileSpec(spec.tile.height * spec.scale, spec.tile.width * spec.scale)
        self._out_io = output_format(spec.io)
        self._free: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        for index in range(spec.slots):
            source = empty_tile(spec.io, spec.tile, spec.channels)
            self._free.put(_Slot(index, source, empty_tile(self._out_io, self._out_tile, spec.channels)))
        self._pool = ThreadPoolExecutor(spec.slots, thread_name_prefix=f"sr-edge-{spec.runtime}")
        self._tickets: dict[int, Future[Batch | Uint8Frame]] = {}
        self._next_ticket = itertools.count()
        self._closing = threading.Lock()
        self._closed = False

    @property
    def spec(self) -> SessionSpec:
        return self._spec

    def run(self, frames: Batch | Uint8Frame, controls: Controls | None = None) -> Batch | Uint8Frame:
        return self.run_staged(frames, controls)[0]

    def run_staged(
        self, frames: Batch | Uint8Frame, controls: Controls | None = None
    ) -> tuple[Batch | Uint8Frame, StageTimes]:
        out_format = self._checked_format(frames)
        values = self._control_arrays(controls)
        slot = self._claim()
        try:
            started = time.perf_counter()
            tile = self._engine_tile(frames, slot)
            return self._upscale(slot, tile, values, out_format, started)
        finally:
            self._free.put(slot)

    def submit(self, frames: Batch | Uint8Frame, controls: Controls | None = None) -> int:
        out_format = self._checked_format(frames)
        values = self._control_arrays(controls)
        slot = self._claim()
        try:
            np.copyto(slot.input, tile_from_frames(frames, self._spec.io))
            future = self._pool.submit(self._upscale_and_free, slot, values, out_format)
        except BaseException:
            self._free.put(slot)
            raise
        ticket = next(self._next_ticket)
        self._tickets[ticket] = future
        return ticket

    def result(self, ticket: int) -> Batch | Uint8Frame:
        self._require_open()
        future = self._tickets.pop(ticket, None)
        if future is None:
            raise UsageError(
                f"ticket {ticket} was never issued, or its result was taken already",
                found=ticket,
                wanted="a ticket whose result was not taken yet",
                remedy="pass each ticket that submit() returns to result() once",
            )
        return future.result()

    def measure(self, runs: int = 20, warm_up: int = 3) -> Latency:
        return measure_latency(self, runs, warm_up).total

    def close(self) -> None:
        with self._closing:
            if self._closed:
                return
            self._closed = True
        # Blocks until every tile in flight has given its slot back.
        slots = [self._free.get() for _ in range(self._spec.slots)]
        self._pool.shutdown()
        self._engine.close()
        self._tickets.clear()
        # Wakes the threads that still wait in `_claim`: each takes a slot, sees `_closed`, puts it back and raises.
        for slot in slots:
            self._free.put(slot)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'closed, ' if self._closed else ''}{self._spec}>"

    def __enter__(self) -> EngineSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _claim(self) -> _Slot:
        self._require_open()
        slot = self._free.get()
        if self._closed:
            self._free.put(slot)
            self._require_open()
        return slot

    def _require_open(self) -> None:
        if self._closed:
            raise UsageError(
                f"this {self._spec.runtime} session is closed",
                found="closed",
                wanted="an open session",
                remedy="open another one",
            )

    def _checked_format(self, frames: Batch | Uint8Frame) -> FrameFormat:
        """The format of the result for these frames."""
        return output_format(format_of(frames, self._spec.io, self._spec.tile, self._spec.channels))

    def _engine_tile(self, frames: Batch | Uint8Frame, slot: _Slot) -> Tile:
        """`frames` as the engine reads them: in place where possible, else copied into the slot's buffer."""
        tile = tile_from_frames(frames, self._spec.io)
        if tile.flags.c_contiguous and tile.flags.writeable:
            return tile
        np.copyto(slot.input, tile)
        return slot.input

    def _upscale(
        self, slot: _Slot, tile: Tile, controls: ControlArrays, out_format: FrameFormat, started: float
    ) -> tuple[Batch | Uint8Frame, StageTimes]:
        is_own_format = out_format is self._out_io
        out = empty_tile(out_format, self._out_tile, self._spec.channels) if is_own_format else slot.output
        prepared = time.perf_counter()
        self._engine.infer(slot.index, tile, controls, out)
        computed = time.perf_counter()
        upscaled = frames_from_tile(out, out_format)
        finished = time.perf_counter()
        stages = (prepared - started, computed - prepared, finished - computed)
        return upscaled, StageTimes(*(1e3 * seconds for seconds in stages))

    def _upscale_and_free(self, slot: _Slot, controls: ControlArrays, out_format: FrameFormat) -> Batch | Uint8Frame:
        try:
            return self._upscale(slot, slot.input, controls, out_format, time.perf_counter())[0]
        finally:
            self._free.put(slot)

    def _control_arrays(self, controls: Controls | None) -> ControlArrays:
        values = control_values(self._spec.controls, controls)
        return {name: np.array([value], np.float32) for name, value in values.items()}
