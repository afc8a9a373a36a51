"""A session for pictures and video: 8-bit frames go through the bundle's uint8 graph, all else through its float one.

A uint8 graph converts inside the engine, fused with the layers around: for convnet-tiny, 320x180 to 640x360, a frame
takes 4 to 9 % less time than with the host's conversion (OpenVINO and ONNX Runtime, in turn). Its results are those of
the float graph but for values on the edge between two levels: about one in 100,000.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Protocol

import numpy as np

from sr_edge.controls import Controls
from sr_edge.errors import PrecisionUnavailable, UsageError
from sr_edge.runtimes.session import Batch, Frame, Session, SessionSpec, StageTimes
from sr_edge.spec import FrameFormat, Latency

_NOTE = "8-bit frames run in the bundle's uint8 graph"


class OpenGraph(Protocol):
    """Opens a graph of one bundle: the one with frames of the format `io`, or the preferred one."""

    def __call__(self, *, io: FrameFormat | None = None) -> Session: ...


def session_over_graphs(open_graph: OpenGraph) -> Session:
    """Opens the uint8 graph, and the float graph once float frames arrive; without a uint8 graph, the float one."""
    try:
        eight_bit = open_graph(io=FrameFormat.UINT8_NHWC)
    except PrecisionUnavailable:
        return open_graph()
    return FrameSession(eight_bit, open_graph)


class FrameSession:
    """A `Session` over two of the same network; see `Session` for what its methods promise."""

    def __init__(self, eight_bit: Session, open_float: Callable[[], Session]) -> None:
        """Args:
        eight_bit: over the uint8 graph; is closed with this session.
        open_float: opens the float graph's; called at most once.
        """
        self._eight_bit = eight_bit
        self._open_float = open_float
        self._float: Session | None = None
        self._opening = threading.Lock()
        self._is_closed = False

    @property
    def spec(self) -> SessionSpec:
        """Of the uint8 graph's session; `io` is float: no array loses depth on its way in."""
        spec = self._eight_bit.spec
        return replace(spec, io=FrameFormat.FLOAT_NCHW, note="; ".join(filter(None, (spec.note, _NOTE))))

    def run(self, frames: Batch | Frame, controls: Controls | None = None) -> Batch | Frame:
        return self._session_for(frames).run(frames, controls)

    def run_staged(self, frames: Batch | Frame, controls: Controls | None = None) -> tuple[Batch | Frame, StageTimes]:
        return self._session_for(frames).run_staged(frames, controls)

    def submit(self, frames: Batch | Frame, controls: Controls | None = None) -> int:
        """Tickets of the uint8 graph are even, those of the float graph odd."""
        session = self._session_for(frames)
        return 2 * session.submit(frames, controls) + (session is self._float)

    def result(self, ticket: int) -> Batch | Frame:
        session = self._float if ticket % 2 else self._eight_bit
        if session is None:
            raise UsageError(
                f"ticket {ticket} was never issued",
                found=ticket,
                wanted="a ticket whose result was not taken yet",
                remedy="pass each ticket that submit() returns to result() once",
            )
        return session.result(ticket // 2)

    def measure(self, runs: int = 20, warm_up: int = 3) -> Latency:
        """Of the uint8 graph."""
        return self._eight_bit.measure(runs, warm_up)

    def close(self) -> None:
        with self._opening:
            self._is_closed = True
        self._eight_bit.close()
        if self._float is not None:
            self._float.close()

    def __enter__(self) -> FrameSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _session_for(self, frames: Batch | Frame) -> Session:
        """What neither graph takes, and all that comes after the end, goes to the first session, which says so."""
        if getattr(frames, "dtype", None) != np.float32:
            return self._eight_bit
        with self._opening:
            if self._float is None and not self._is_closed:
                self._float = self._open_float()
            return self._float or self._eight_bit
