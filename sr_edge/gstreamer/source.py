"""A GStreamer pipeline as a source of the camera loop: cameras that only GStreamer reaches, such as a Jetson's CSI."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction

from sr_edge.address import without_secrets
from sr_edge.camera.frame import VideoFrame
from sr_edge.camera.ports import Source, SourceInfo, ignore_event
from sr_edge.camera.reopening import ReopeningSource
from sr_edge.camera.timeline import Timeline
from sr_edge.errors import StreamError
from sr_edge.gstreamer.bindings import GLib, Gst
from sr_edge.gstreamer.layout import layout_from_caps, layout_of_buffer
from sr_edge.gstreamer.planes import PIXEL_FORMATS

_NS = Fraction(1, Gst.SECOND)
_PULL_NS = Gst.SECOND // 5
_SINK = "appsink name=sr_edge_frames sync=false max-buffers=2"


class GstSource:
    """The frames at the end of a pipeline; their planes are copies."""

    def __init__(self, pipeline: str, lost: GstSource | None = None, silence_s: float = 5.0) -> None:
        """Args:
        pipeline: as gst-launch-1.0 takes it, without a sink; its last element gives video of one of PIXEL_FORMATS.
        lost: the same pipeline, run before and lost: its time line goes on.
        silence_s: a live pipeline that gives nothing for so long is lost.

        Raises:
            StreamError: the pipeline is wrong, or does not start.
        """
        self.name = f"gst:{without_secrets(pipeline)}"
        self.info = SourceInfo()
        self._silence_s = silence_s
        self._closed = threading.Event()
        try:
            self._pipeline = Gst.parse_launch(f"{pipeline} ! {_SINK}")
        except GLib.Error as error:
            raise self._lost(without_secrets(error.message)) from None
        self._sink = self._pipeline.get_by_name("sr_edge_frames")
        self._sink.set_property("caps", Gst.Caps.from_string(f"video/x-raw, format={{ {', '.join(PIXEL_FORMATS)} }}"))
        change = self._pipeline.set_state(Gst.State.PAUSED)
        if change is Gst.StateChangeReturn.ASYNC:
            change = self._pipeline.get_state(int(silence_s * Gst.SECOND))[0]
        self.is_live = change is Gst.StateChangeReturn.NO_PREROLL
        if change is Gst.StateChangeReturn.FAILURE:
            failure = self._error() or self._lost("the pipeline does not start")
            self._pipeline.set_state(Gst.State.NULL)
            raise failure
        self.timeline: Timeline = lost.timeline if lost else Timeline(self.is_live)
        if lost:
            self.timeline.restart()

    def frames(self) -> Iterator[VideoFrame]:
        try:
            self._pipeline.set_state(Gst.State.PLAYING)
            sequence = 0
            heard_s = time.monotonic()
            while not self._closed.is_set():
                sample = self._sink.emit("try-pull-sample", _PULL_NS)
                if sample is not None:
                    heard_s = time.monotonic()
                    yield self._frame(sample, sequence)
                    sequence += 1
                elif (failure := self._error()) is not None:
                    raise failure
                elif self._sink.get_property("eos"):
                    return
                elif self.is_live and time.monotonic() - heard_s > self._silence_s:
                    raise StreamError(
                        f"{self.name}: no frame arrived within {self._silence_s:g} s",
                        found=self.name,
                        wanted=f"a frame within {self._silence_s:g} s",
                        remedy="check that the source is switched on and sends",
                    )
        finally:
            self._pipeline.set_state(Gst.State.NULL)

    def close(self) -> None:
        self._closed.set()

    def _frame(self, sample: Gst.Sample, sequence: int) -> VideoFrame:
        now_ns = time.monotonic_ns()
        buffer, usual = sample.get_buffer(), layout_from_caps(sample.get_caps())
        mapped, memory = buffer.map(Gst.MapFlags.READ)
        if not mapped:
            raise StreamError(
                f"{self.name}: the memory of a frame cannot be read",
                found=self.name,
                remedy="end the pipeline with videoconvert",
            )
        try:
            planes = tuple(plane.copy() for plane in layout_of_buffer(buffer, usual).planes(memory.data))
        finally:
            buffer.unmap(memory)
        own = None if buffer.pts == Gst.CLOCK_TIME_NONE else buffer.pts
        frame = VideoFrame(planes, usual.format, usual.colour, own, _NS, now_ns, sequence)
        return replace(frame, pts=self.timeline.place(own, _NS, now_ns))

    def _error(self) -> StreamError | None:
        message = self._pipeline.get_bus().pop_filtered(Gst.MessageType.ERROR)
        if message is None:
            return None
        error, _ = message.parse_error()
        return self._lost(f"{message.src.get_name()}: {without_secrets(error.message)}")

    def _lost(self, reason: str) -> StreamError:
        return StreamError(
            f"{self.name}: {reason.rstrip('.')}", found=self.name, remedy="try the pipeline with gst-launch-1.0"
        )


def open_gst_source(
    pipeline: str,
    *,
    silence_s: float = 5.0,
    give_up_s: float | None = None,
    on_event: Callable[[str], None] = ignore_event,
) -> Source:
    """Starts a pipeline; a live one is started again when it is lost.

    Raises:
        StreamError: the pipeline is wrong, or does not start.
    """
    first = GstSource(pipeline, silence_s=silence_s)
    if not first.is_live:
        return first
    return ReopeningSource(
        first,
        lambda lost: GstSource(pipeline, lost, silence_s),
        silence_s=2 * silence_s,
        give_up_s=give_up_s,
        on_event=on_event,
    )
