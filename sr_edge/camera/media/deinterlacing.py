"""Interlaced video: what a stream declares, and deinterlacing with FFmpeg's filter.

An interlaced frame contains the lines of two fields that were captured one after the other. A network takes the combs
along moving edges for detail. The filter replaces the lines of the second field: one frame becomes one frame at the
same time. It works on the lines of each field separately, in luma and in chroma, as interlaced 4:2:0 requires.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Any

import av

_FILTER = "bwdif"
_FIELD_ORDERS = {2: "tff", 3: "bff", 4: "bff", 5: "tff"}
"""FFmpeg's AVFieldOrder of interlaced streams: which field is shown first."""
_MARKING_CODECS = ("h264", "hevc", "mpeg1video", "mpeg2video", "vc1", "dvvideo", "prores", "dnxhd")
"""Decoders that mark each interlaced frame; a stream may contain others among them."""


class Interlacing(Enum):
    """How a stream declares that its frames are interlaced."""

    UNDECLARED = "undeclared"
    FRAMES = "each frame says whether it is interlaced"
    TOP_FIRST = "the container says that the top field is first"
    BOTTOM_FIRST = "the container says that the bottom field is first"

    def __bool__(self) -> bool:
        return self is not Interlacing.UNDECLARED


def interlacing_of(stream: Any, first_frame: Any) -> Interlacing:
    """How a stream declares that it is interlaced, by its container and its first decoded frame."""
    context = stream.codec_context
    first_field = _FIELD_ORDERS.get(getattr(context, "field_order", 0))  # some releases of PyAV do not have it
    if first_frame.interlaced_frame or (first_field and context.name in _MARKING_CODECS):
        return Interlacing.FRAMES
    if first_field is None:
        return Interlacing.UNDECLARED
    return Interlacing.TOP_FIRST if first_field == "tff" else Interlacing.BOTTOM_FIRST


class Deinterlacer:
    """Deinterlaces decoded frames; each keeps its timestamps. Its output is one frame behind its input.

    Frames that are marked as progressive among interlaced ones are left as they are. If the stream declares nothing,
    all frames are deinterlaced, with the top field first.
    """

    def __init__(self, interlacing: Interlacing) -> None:
        self._interlacing = interlacing
        self._graph: Any = None
        self._graph_input: tuple[int, int, str] | None = None
        self._waiting: deque[Any] = deque()

    def push(self, av_frame: Any) -> list[Any]:
        """Adds a frame, and returns the finished ones. A change of size or format finishes the frames before it."""
        graph_input = (av_frame.width, av_frame.height, av_frame.format.name)
        finished = []
        if graph_input != self._graph_input:
            finished = self.flush()
            self._graph, self._graph_input = self._new_graph(av_frame), graph_input
        self._waiting.append(av_frame)
        self._graph.vpush(av_frame)
        return finished + self._pulled()

    def flush(self) -> list[Any]:
        """Returns the last frames. The next frame begins a new sequence."""
        if self._graph is None:
            return []
        self._graph.vpush(None)
        finished = self._pulled()
        self._graph = self._graph_input = None
        return finished

    def _new_graph(self, av_frame: Any) -> Any:
        graph = av.filter.Graph()
        nodes = [
            graph.add_buffer(
                width=av_frame.width, height=av_frame.height, format=av_frame.format, time_base=av_frame.time_base
            )
        ]
        if self._interlacing in (Interlacing.TOP_FIRST, Interlacing.BOTTOM_FIRST):
            field = "tff" if self._interlacing is Interlacing.TOP_FIRST else "bff"
            nodes.append(graph.add("setfield", f"mode={field}"))
        which = "interlaced" if self._interlacing else "all"
        nodes.append(graph.add(_FILTER, f"mode=send_frame:parity=auto:deint={which}"))
        nodes.append(graph.add("buffersink"))
        graph.link_nodes(*nodes).configure()
        return graph

    def _pulled(self) -> list[Any]:
        finished = []
        while self._waiting:
            try:
                deinterlaced = self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                break
            original = self._waiting.popleft()  # the filter returns one frame for each, in order
            deinterlaced.pts, deinterlaced.dts = original.pts, original.dts
            deinterlaced.time_base, deinterlaced.duration = original.time_base, original.duration
            finished.append(deinterlaced)
        return finished
