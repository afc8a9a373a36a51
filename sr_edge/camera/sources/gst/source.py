"""A GStreamer pipeline as a source, for cameras that only GStreamer supports, such as CSI cameras of a Jetson."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction

from sr_edge.camera.flow.events import ignore_event
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.media.timeline import Timeline
from sr_edge.camera.protocols import Source, SourceInfo
from sr_edge.camera.sources.gst.bindings import GLib, Gst
from sr_edge.camera.sources.gst.layout import frame_interval_ms, layout_from_caps, layout_of_buffer
from sr_edge.camera.sources.gst.planes import PIXEL_FORMATS
from sr_edge.camera.sources.reconnect import ReconnectingSource
from sr_edge.errors import StreamError, UsageError
from sr_edge.printable import without_secrets

_TIME_BASE = Fraction(1, Gst.SECOND)
_PULL_TIMEOUT_NS = Gst.SECOND // 5
"""How long `close` and errors of the pipeline can go unnoticed while no frame arrives."""
_SINK = "appsink name=sr_edge_frames sync=false max-buffers=2"


class GstSource:
    """The frames at the end of a pipeline; their planes are copied from its buffers."""

    reconnections = 0
    is_reconnecting = False
    unreadable_packets = 0

    def __init__(
        self,
        pipeline: str,
        previous: GstSource | None = None,
        silence_s: float = 5.0,
        rate: Fraction | None = None,
    ) -> None:
        """Starts the pipeline.

        Args:
            pipeline: In the syntax of gst-launch-1.0, without a sink; its last element outputs one of PIXEL_FORMATS.
            previous: The same pipeline before it was lost; its timeline is continued.
            silence_s: A live pipeline that outputs no frame for so long is lost.
            rate: Frames per second, for a pipeline whose caps contain no frame rate.

        Raises:
            StreamError: The pipeline is invalid or does not start.
        """
        self._rate = rate
        self.name = f"gst:{without_secrets(pipeline)}"
        self.info = SourceInfo(rate)
        self._silence_s = silence_s
        self._closed = threading.Event()
        try:
            self._pipeline = Gst.parse_launch(f"{pipeline} ! {_SINK}")
        except GLib.Error as error:
            raise self._stream_error(without_secrets(error.message)) from None
        self._sink = self._pipeline.get_by_name("sr_edge_frames")
        self._sink.set_property("caps", Gst.Caps.from_string(f"video/x-raw, format={{ {', '.join(PIXEL_FORMATS)} }}"))
        state_change = self._pipeline.set_state(Gst.State.PAUSED)
        if state_change is Gst.StateChangeReturn.ASYNC:
            state_change = self._pipeline.get_state(int(silence_s * Gst.SECOND))[0]
        # Only live pipelines cannot preroll: their frames exist from the state PLAYING on.
        self.is_live = state_change is Gst.StateChangeReturn.NO_PREROLL
        if state_change is Gst.StateChangeReturn.FAILURE:
            failure = self._posted_error() or self._stream_error("the pipeline does not start")
            self._pipeline.set_state(Gst.State.NULL)
            raise failure
        self.timeline: Timeline = (
            previous.timeline if previous else Timeline(self.is_live, rate, is_constant=rate is not None)
        )
        if previous:
            self.timeline.restart()

    def frames(self) -> Iterator[VideoFrame]:
        try:
            self._pipeline.set_state(Gst.State.PLAYING)
            sequence = 0
            last_frame_s = time.monotonic()
            while not self._closed.is_set():
                sample = self._sink.emit("try-pull-sample", _PULL_TIMEOUT_NS)
                if sample is not None:
                    last_frame_s = time.monotonic()
                    yield self._frame(sample, sequence)
                    sequence += 1
                elif (failure := self._posted_error()) is not None:
                    raise failure
                elif self._sink.get_property("eos"):
                    return
                elif self.is_live and time.monotonic() - last_frame_s > self._silence_s:
                    raise StreamError(
                        f"{self.name}: no frame arrived within {self._silence_s:g} s",
                        found=self.name,
                        wanted=f"a frame within {self._silence_s:g} s",
                        remedy="check that the source is switched on and sending",
                    )
        finally:
            self._pipeline.set_state(Gst.State.NULL)

    def close(self) -> None:
        self._closed.set()

    def _frame(self, sample: Gst.Sample, sequence: int) -> VideoFrame:
        now_ns = time.monotonic_ns()
        if sequence == 0:
            self._require_rate_applies(sample.get_caps())
        buffer, layout = sample.get_buffer(), layout_from_caps(sample.get_caps())
        mapped, memory = buffer.map(Gst.MapFlags.READ)
        if not mapped:
            raise StreamError(
                f"{self.name}: the memory of a frame cannot be read",
                found=self.name,
                remedy="end the pipeline with videoconvert",
            )
        try:
            planes = tuple(plane.copy() for plane in layout_of_buffer(buffer, layout).planes(memory.data))
        finally:
            buffer.unmap(memory)
        pts = None if buffer.pts == Gst.CLOCK_TIME_NONE else buffer.pts
        frame = VideoFrame(planes, layout.format, layout.colour, pts, _TIME_BASE, now_ns, sequence)
        return replace(frame, pts=self.timeline.place(pts, _TIME_BASE, now_ns))

    def _require_rate_applies(self, caps: Gst.Caps) -> None:
        interval_ms = frame_interval_ms(caps)
        if self._rate is not None and interval_ms:
            raise UsageError(
                f"the caps of {self.name} have a frame rate of {1e3 / interval_ms:g}, and {float(self._rate):g} would "
                "have no effect",
                found=self._rate,
                wanted=1e3 / interval_ms,
                remedy="leave --rate out; the element videorate converts the rate",
            )

    def _posted_error(self) -> StreamError | None:
        message = self._pipeline.get_bus().pop_filtered(Gst.MessageType.ERROR)
        if message is None:
            return None
        error, _ = message.parse_error()
        return self._stream_error(f"{message.src.get_name()}: {without_secrets(error.message)}")

    def _stream_error(self, reason: str) -> StreamError:
        return StreamError(
            f"{self.name}: {reason.rstrip('.')}", found=self.name, remedy="try the pipeline with gst-launch-1.0"
        )


def open_gst_source(
    pipeline: str,
    *,
    silence_s: float = 5.0,
    give_up_s: float | None = None,
    on_event: Callable[[str], None] = ignore_event,
    rate: Fraction | None = None,
) -> Source:
    """Starts a pipeline; a live one is restarted when it is lost.

    Args:
        pipeline: In the syntax of gst-launch-1.0, without a sink.
        silence_s: A live pipeline that outputs no frame for so long is lost.
        give_up_s: How long to try to restart a lost pipeline; None tries without a limit.
        on_event: Called with a line about each loss and restart.
        rate: Frames per second, for a pipeline whose caps contain no frame rate.

    Raises:
        StreamError: The pipeline is invalid or does not start.
    """
    first = GstSource(pipeline, silence_s=silence_s, rate=rate)
    if not first.is_live:
        return first
    return ReconnectingSource(
        first,
        lambda previous: GstSource(pipeline, previous, silence_s, rate),
        timeout_s=2 * silence_s,
        give_up_s=give_up_s,
        on_event=on_event,
    )
