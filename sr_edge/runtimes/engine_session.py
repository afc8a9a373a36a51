"""What all sessions share: slots, tickets, conversion on the host, controls; a runtime adds an engine."""

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
from sr_edge.runtimes.executed import Executed, require_requested
from sr_edge.runtimes.host_format import Tile, empty_tile, format_of, frames_from_tile, tile_from_frames
from sr_edge.runtimes.meters import measure_latency
from sr_edge.runtimes.session import Batch, Frame, SessionRequest, SessionSpec, StageTimes
from sr_edge.spec import FrameFormat, Latency, TileSpec

DEFAULT_SLOTS = 2
"""One tile in the engine and one whose host work is hidden behind it."""

ControlArrays = Mapping[str, npt.NDArray[np.float32]]


class Engine(Protocol):
    """One compiled network that runs up to `slots` tiles at once; `controls` are the names of its scalar inputs."""

    @property
    def slots(self) -> int: ...

    @property
    def controls(self) -> tuple[str, ...]: ...

    def infer(self, slot: int, tile: Tile, controls: ControlArrays, out: Tile) -> None:
        """Reads `tile`, writes `out`: contiguous, writable arrays in the graph's format; blocks until done.

        Called from any thread, by one thread at a time for each slot, slots counting from 0. `controls` holds
        every control of the graph as float32 [1]. Raises EngineError when the library fails.
        """
        ...

    def close(self) -> None:
        """Frees the engine; called once, with nothing in flight."""
        ...


@dataclass(frozen=True)
class EngineProperties:
    """What a runtime's module knows about an engine that it made; the rest of the spec is in the request."""

    runtime: str
    version: str
    device: str
    threads: int
    load_ms: float
    executed: Executed


def session_over(engine: Engine, request: SessionRequest, properties: EngineProperties) -> EngineSession:
    """The session of a verified engine; raises as `verified_spec` does."""
    return EngineSession(engine, verified_spec(engine, request, properties))


def verified_spec(engine: Engine, request: SessionRequest, properties: EngineProperties) -> SessionSpec:
    """What a session over `engine` says of itself; closes the engine where it is not what was asked for.

    Raises:
        UsageError: the engine takes other controls than the card tells of.
        PrecisionUnavailable: another precision runs than was asked for, and that was not allowed.
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
    """A `Session` over any engine; see `Session` for what its methods promise."""

    def __init__(self, engine: Engine, spec: SessionSpec) -> None:
        self._engine = engine
        self._spec = spec
        self._out_tile = TileSpec(spec.tile.height * spec.scale, spec.tile.width * spec.scale)
        self._free: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        for index in range(spec.slots):
            self._free.put(_Slot(index, empty_tile(spec.io, spec.tile), empty_tile(spec.io, self._out_tile)))
        self._pool = ThreadPoolExecutor(spec.slots, thread_name_prefix=f"sr-edge-{spec.runtime}")
        self._tickets: dict[int, Future[Batch | Frame]] = {}
        self._next_ticket = itertools.count()
        self._closing = threading.Lock()
        self._closed = False

    @property
    def spec(self) -> SessionSpec:
        return self._spec

    def run(self, frames: Batch | Frame, controls: Controls | None = None) -> Batch | Frame:
        return self.run_staged(frames, controls)[0]

    def run_staged(self, frames: Batch | Frame, controls: Controls | None = None) -> tuple[Batch | Frame, StageTimes]:
        wanted = format_of(frames, self._spec.tile)
        values = self._control_arrays(controls)
        slot = self._claim()
        try:
            started = time.perf_counter()
            tile = self._engine_tile(frames, slot)
            return self._upscale(slot, tile, values, wanted, started)
        finally:
            self._free.put(slot)

    def submit(self, frames: Batch | Frame, controls: Controls | None = None) -> int:
        wanted = format_of(frames, self._spec.tile)
        values = self._control_arrays(controls)
        slot = self._claim()
        try:
            np.copyto(slot.input, tile_from_frames(frames, self._spec.io))
            future = self._pool.submit(self._upscale_and_free, slot, values, wanted)
        except BaseException:
            self._free.put(slot)
            raise
        ticket = next(self._next_ticket)
        self._tickets[ticket] = future
        return ticket

    def result(self, ticket: int) -> Batch | Frame:
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
        slots = [self._free.get() for _ in range(self._spec.slots)]
        self._pool.shutdown()
        self._engine.close()
        self._tickets.clear()
        for slot in slots:
            self._free.put(slot)

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

    def _engine_tile(self, frames: Batch | Frame, slot: _Slot) -> Tile:
        """`frames` as the engine can read them: in place where possible, else through the slot's buffer."""
        tile = tile_from_frames(frames, self._spec.io)
        if tile.flags.c_contiguous and tile.flags.writeable:
            return tile
        np.copyto(slot.input, tile)
        return slot.input

    def _upscale(
        self, slot: _Slot, tile: Tile, controls: ControlArrays, wanted: FrameFormat, started: float
    ) -> tuple[Batch | Frame, StageTimes]:
        out = empty_tile(wanted, self._out_tile) if wanted is self._spec.io else slot.output
        prepared = time.perf_counter()
        self._engine.infer(slot.index, tile, controls, out)
        computed = time.perf_counter()
        upscaled = frames_from_tile(out, wanted)
        finished = time.perf_counter()
        stages = (prepared - started, computed - prepared, finished - computed)
        return upscaled, StageTimes(*(1e3 * seconds for seconds in stages))

    def _upscale_and_free(self, slot: _Slot, controls: ControlArrays, wanted: FrameFormat) -> Batch | Frame:
        try:
            return self._upscale(slot, slot.input, controls, wanted, time.perf_counter())[0]
        finally:
            self._free.put(slot)

    def _control_arrays(self, controls: Controls | None) -> ControlArrays:
        values = control_values(self._spec.controls, controls)
        return {name: np.array([value], np.float32) for name, value in values.items()}
