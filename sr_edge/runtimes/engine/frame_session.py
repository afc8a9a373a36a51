"""A session for images and video: the bundle's uint8 graph upscales 8-bit frames, its float graph all other frames.

A uint8 graph converts frames inside the engine, fused with the neighbouring layers: for convnet-tiny, 320x180 to
640x360, a frame takes 4 to 9 % less time than with conversion on the host (OpenVINO and ONNX Runtime, measured
alternately). Its results equal those of the float graph except for values on the border between two 8-bit levels, about
one in 100,000.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Protocol

import numpy as np

from sr_edge.controls import Controls
from sr_edge.errors import PrecisionUnavailable, UsageError
from sr_edge.frames import Batch, Uint8Frame
from sr_edge.runtimes.session import Latency, Session, SessionSpec, StageTimes
from sr_edge.spec import FrameFormat

_NOTE = "8-bit frames run in the bundle's uint8 graph"


class OpenGraph(Protocol):
    """Opens a graph of one bundle: the one whose frames have the format `io`, or the preferred one."""

    def __call__(self, *, io: FrameFormat | None = None) -> Session: ...


def session_over_graphs(open_graph: OpenGraph, resources: ExitStack | None = None) -> Session:
    """Opens the uint8 graph, and the float graph once float frames arrive.

    Where the bundle has no uint8 graph that can run here, it opens the preferred graph alone.

    Args:
        open_graph: Opens a graph.
        resources: What `open_graph` needs, taken over by a session that opens another graph later.
    """
    try:
        eight_bit = open_graph(io=FrameFormat.UINT8_NHWC)
    except PrecisionUnavailable:
        return open_graph()
    return FrameSession(eight_bit, open_graph, resources.pop_all() if resources else None)


class FrameSession:
    """A `Session` over two sessions of the same network; the protocol documents its methods."""

    def __init__(
        self, eight_bit: Session, open_float: Callable[[], Session], resources: ExitStack | None = None
    ) -> None:
        """Takes over an open session.

        Args:
            eight_bit: session over the uint8 graph, closed together with this one.
            open_float: opens the session over the float graph; called at most once.
            resources: what `open_float` needs, closed together with this session.
        """
        self._eight_bit = eight_bit
        self._open_float = open_float
        self._resources = resources or ExitStack()
        self._float: Session | None = None
        self._opening = threading.Lock()
        self._is_closed = False

    @property
    def spec(self) -> SessionSpec:
        """The spec of the uint8 graph's session, but with float frames: they keep their bit depth here."""
        spec = self._eight_bit.spec
        return replace(
            spec, io=FrameFormat.FLOAT_NCHW, has_uint8_graph=True, note="; ".join(filter(None, (spec.note, _NOTE)))
        )

    def run(self, frames: Batch | Uint8Frame, controls: Controls | None = None) -> Batch | Uint8Frame:
        return self._session_for(frames).run(frames, controls)

    def run_staged(
        self, frames: Batch | Uint8Frame, controls: Controls | None = None
    ) -> tuple[Batch | Uint8Frame, StageTimes]:
        return self._session_for(frames).run_staged(frames, controls)

    def submit(self, frames: Batch | Uint8Frame, controls: Controls | None = None) -> int:
        """Tickets of the uint8 graph are even, those of the float graph odd."""
        session = self._session_for(frames)
        return 2 * session.submit(frames, controls) + (session is self._float)

    def result(self, ticket: int) -> Batch | Uint8Frame:
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
        """Latency of the uint8 graph."""
        return self._eight_bit.measure(runs, warm_up)

    def close(self) -> None:
        with self._opening:
            self._is_closed = True
        self._eight_bit.close()
        if self._float is not None:
            self._float.close()
        self._resources.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'closed, ' if self._is_closed else ''}{self.spec}>"

    def __enter__(self) -> FrameSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _session_for(self, frames: Batch | Uint8Frame) -> Session:
        """The session for these frames; the uint8 session raises the error for any other type, and after `close`."""
        if getattr(frames, "dtype", None) != np.float32:
            return self._eight_bit
        # One thread opens the float graph, and the others wait here for the same session. `close` sets its flag under
        # this lock, so that no session is opened after it.
        with self._opening:
            if self._float is None and not self._is_closed:
                self._float = self._open_float()
            return self._float or self._eight_bit
