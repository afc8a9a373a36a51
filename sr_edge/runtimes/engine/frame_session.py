"""A session for images and video: the bundle's uint8 graph upscales 8-bit frames, its float graph all other frames.

A uint8 graph converts frames inside the engine, fused with the neighbouring layers: for convnet-tiny, 320x180 to
640x360, a frame takes 4 to 9 % less time than with conversion on the host (OpenVINO and ONNX Runtime, measured
alternately). Its results equal those of the float graph except for values on the border between two 8-bit levels, about
one in 100,000.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Protocol

import numpy as np

from sr_edge.errors import PrecisionUnavailable
from sr_edge.frames import Batch, Uint8Frame
from sr_edge.runtimes.engine.several_sessions import SeveralSessions
from sr_edge.runtimes.session import Session, SessionSpec
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


class FrameSession(SeveralSessions):
    """A session over the uint8 graph, which is the main session, and one over the float graph for float frames."""

    def __init__(
        self, eight_bit: Session, open_float: Callable[[], Session], resources: ExitStack | None = None
    ) -> None:
        """Takes over an open session.

        Args:
            eight_bit: session over the uint8 graph, closed together with this one.
            open_float: opens the session over the float graph; called at most once.
            resources: what `open_float` needs, closed together with this session.
        """
        super().__init__(eight_bit, [open_float], resources or ExitStack())

    @property
    def spec(self) -> SessionSpec:
        """The spec of the uint8 graph's session, but with float frames: they keep their bit depth here."""
        spec = self._main.spec
        return replace(
            spec, io=FrameFormat.FLOAT_NCHW, has_uint8_graph=True, note="; ".join(filter(None, (spec.note, _NOTE)))
        )

    def _position_for(self, frames: Batch | Uint8Frame) -> int:
        return int(getattr(frames, "dtype", None) == np.float32)
