"""Reads the frames of a video file as a source of the frame loop: all frames or a range, with their timestamps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

from sr_edge.camera.file.probe import VideoProbe, open_video
from sr_edge.camera.file.settings import FrameRange
from sr_edge.camera.media.conversion import frame_from_av
from sr_edge.camera.media.declared import declared_by_frame
from sr_edge.camera.media.decoding import StrictDecoder, packets_of
from sr_edge.camera.media.deinterlacing import Deinterlacer
from sr_edge.camera.media.ffmpeg_errors import stream_errors
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.media.timeline import Timeline
from sr_edge.camera.protocols import SourceInfo
from sr_edge.errors import FrameError, StreamError

FORMAT_WITHOUT_PTS = "avi"
"""AVI stores when a frame is decoded, not when it is displayed: only the order of decoding is known."""
_END_TOLERANCE_S, _END_TOLERANCE_WITH_LOSS_S = Fraction(1), Fraction(1, 10)
"""A file that ends earlier than its header declares by more than this is truncated; the second value applies if the
file has fewer packets than the header declares, too."""


@dataclass(frozen=True)
class ReadSummary:
    """What is known about a range of frames after it was decoded to its end.

    Attributes:
        frames: Number of frames in the range.
        first_pts: Timestamp of the first frame of the file, whatever the range.
        last_duration: Duration of the last frame of the range, in units of the time base.
        unreadable_packets: Packets whose picture is damaged or cannot be decoded; their frames are missing.
        timestamp_shift_s: By how many seconds the last frames were moved because their timestamps did not increase.
        declared: What the side data of the frames declare, see `sr_edge.camera.media.declared`.
    """

    frames: int
    first_pts: int
    last_duration: int
    unreadable_packets: int
    timestamp_shift_s: float
    declared: tuple[str, ...] = ()

    @classmethod
    def parse(cls, content: Any) -> ReadSummary | None:
        """Reads a summary that was stored as JSON; None if it is damaged."""
        if not isinstance(content, dict) or set(content) != {field.name for field in fields(cls)}:
            return None
        declared = content["declared"]
        are_numbers = all(isinstance(value, (int, float)) for name, value in content.items() if name != "declared")
        if not (are_numbers and isinstance(declared, list) and all(isinstance(name, str) for name in declared)):
            return None
        return cls(**{**content, "declared": tuple(declared)})


class VideoFileSource:
    """Decodes a file from its start; frames before the range and frames that are finished are decoded and skipped.

    Seeking would be faster, but which frame a seek finds depends on the container and the codec. Counting does not.
    """

    is_live = False
    reconnections = 0
    is_reconnecting = False

    def __init__(
        self,
        probe: VideoProbe,
        frame_range: FrameRange,
        finished_pts: Callable[[int], int | None] = lambda number: None,
        is_deinterlaced: bool = False,
    ) -> None:
        """Prepares the source; the file is opened by `frames`.

        Args:
            probe: The file.
            frame_range: The frames to return.
            finished_pts: The timestamp of the frame of a number, counted in the range, if an earlier run has finished
                it. The file must still contain it; it is not returned.
            is_deinterlaced: Whether the frames are deinterlaced.
        """
        self.name = str(probe.path)
        self.info = SourceInfo(probe.frame_rate)
        self.summary: ReadSummary | None = None
        self._probe = probe
        self._range = frame_range
        self._finished_pts = finished_pts
        self._is_deinterlaced = is_deinterlaced
        self._declared: set[str] = set()
        self._closed = threading.Event()
        self._timeline = Timeline(is_live=False)
        self._progress = ReadProgress()
        self._decoder: StrictDecoder | None = None
        self._first_pts = 0
        self._first_dts: int | None = None

    @property
    def unreadable_packets(self) -> int:
        return self._decoder.damaged if self._decoder else 0

    def close(self) -> None:
        """Ends `frames` before its next frame. May be called from another thread: it only sets an event."""
        self._closed.set()

    def frames(self) -> Iterator[VideoFrame]:
        """Decodes the frames of the range that are not finished, and sets `summary` at the end.

        Raises:
            StreamError: The file is damaged or truncated, or its frame size changes.
            FrameError: The range begins after the last frame, or the finished frames are not those of this file.
        """
        count, last_frame, next_pts = 0, None, None
        for av_frame, pts in self._timestamped_frames():
            if self._closed.is_set():
                return
            if count == self._range.end:
                next_pts = pts
                break
            if count >= self._range.first:
                self._declared |= declared_by_frame(av_frame)
                finished_pts = self._finished_pts(count - self._range.first)
                if finished_pts is None:
                    yield self._frame(av_frame, pts, count)
                else:
                    self._require_same_timestamp(pts, finished_pts, count)
            count, last_frame, last_pts = count + 1, av_frame, pts
        if count != self._range.end:
            self._require_complete(count)
        if count <= self._range.first or last_frame is None:
            raise FrameError(
                f"{self.name} has {count} frames, and the range {self._range} contains none of them",
                found=str(self._range),
                wanted=range(count),
                remedy="give an earlier range",
            )
        self.summary = ReadSummary(
            frames=count - self._range.first,
            first_pts=self._first_pts,
            last_duration=self._duration(last_frame) if next_pts is None else next_pts - last_pts,
            unreadable_packets=self.unreadable_packets,
            timestamp_shift_s=float(self._timeline.offset_s),
            declared=tuple(sorted(self._declared)),
        )

    def _frame(self, av_frame: Any, pts: int, number: int) -> VideoFrame:
        probe = self._probe
        if (av_frame.width, av_frame.height) != (probe.width, probe.height):
            raise StreamError(
                f"{self.name}: the frame size changes from {probe.width}x{probe.height} to "
                f"{av_frame.width}x{av_frame.height} at frame {number}",
                found=(av_frame.width, av_frame.height),
                wanted=(probe.width, probe.height),
                remedy=f"upscale the frames before it with --frames :{number}",
            )
        try:
            frame = frame_from_av(av_frame, number - self._range.first)
        except FrameError as error:
            raise FrameError(
                f"{self.name}, frame {number}: {error.problem}",
                found=error.found,
                wanted=error.wanted,
                remedy=error.remedy,
            ) from error
        return replace(frame, pts=pts, time_base=probe.time_base, colour=probe.colour)

    def _require_same_timestamp(self, pts: int, finished_pts: int, number: int) -> None:
        if pts != finished_pts:
            raise FrameError(
                f"{self.name}: frame {number} has the timestamp {pts}, but {finished_pts} in the interrupted run",
                found=pts,
                wanted=finished_pts,
                remedy="start again with --no-resume",
            )

    def _duration(self, av_frame: Any) -> int:
        return max(1, av_frame.duration or round(1 / (self._probe.frame_rate * self._probe.time_base)))

    def _timestamped_frames(self) -> Iterator[tuple[Any, int]]:
        """Each decoded frame and its pts; a frame without a timestamp is placed at the end of the previous frame."""
        end_of_previous = 0
        for number, (av_frame, stored_pts) in enumerate(self._decoded_frames()):
            pts = self._timeline.place(end_of_previous if stored_pts is None else stored_pts, self._probe.time_base, 0)
            if number == 0:
                self._first_pts = pts
            end_of_previous = pts + self._duration(av_frame)
            yield av_frame, pts

    def _decoded_frames(self) -> Iterator[tuple[Any, int | None]]:
        """Each intact frame and its pts as stored in the file; None if the file does not store one."""
        returned, last_pts = 0, None
        for av_frame, pts in self._pictures(is_parallel=True):
            yield av_frame, pts
            returned, last_pts = returned + 1, pts
        if self._decoder is None or not self._decoder.is_end_incomplete:
            return
        # Rare: one of the last packets is damaged. Decoded one by one, the pictures beside it are intact.
        for number, (av_frame, pts) in enumerate(self._pictures(is_parallel=False)):
            if number >= returned and (pts is None or last_pts is None or pts > last_pts):
                yield av_frame, pts

    def _pictures(self, is_parallel: bool) -> Iterator[tuple[Any, int | None]]:
        """Decodes the file from its start."""
        self._progress, self._first_dts = ReadProgress(), None
        with open_video(self._probe.path) as (container, video):
            decoder = self._decoder = StrictDecoder(video, is_parallel)
            deinterlacer = Deinterlacer(self._probe.interlacing) if self._is_deinterlaced else None
            stores_pts = container.format.name != FORMAT_WITHOUT_PTS
            self._progress.read_header(container, video)
            packets = packets_of(container)
            while (packet := self._next_packet(packets)) is not None:
                self._progress.count_packet(packet, video)
                if packet.stream is not video:
                    continue
                for av_frame in self._finished_by(decoder, packet, deinterlacer):
                    yield av_frame, self._stored_pts(av_frame, stores_pts)

    def _finished_by(self, decoder: StrictDecoder, packet: Any, deinterlacer: Deinterlacer | None) -> list[Any]:
        """The frames that are finished with a packet, deinterlaced if there is a deinterlacer."""
        with stream_errors(self.name):
            av_frames = decoder.decode(packet)
            if deinterlacer is None:
                return av_frames
            finished = [finished for av_frame in av_frames for finished in deinterlacer.push(av_frame)]
            return finished if packet.size else finished + deinterlacer.flush()

    def _next_packet(self, packets: Iterator[Any]) -> Any:
        with stream_errors(self.name):
            return next(packets, None)

    def _stored_pts(self, av_frame: Any, stores_pts: bool) -> int | None:
        if stores_pts:
            return None if av_frame.pts is None else av_frame.pts - self._probe.start_offset
        if self._first_dts is None:
            self._first_dts = av_frame.dts
        return None if av_frame.dts is None else av_frame.dts - self._first_dts

    def _require_complete(self, count: int) -> None:
        if self._progress.is_truncated:
            raise StreamError(
                f"{self.name} is truncated: it contains {count} of about {self._probe.frame_count} frames",
                found=count,
                wanted=self._probe.frame_count,
                remedy=f"copy it again, or upscale the frames that it contains with --frames :{count}",
            )


class ReadProgress:
    """How far a file was read, compared with the end that its header declares."""

    def __init__(self) -> None:
        self._packets = self._declared_packets = 0
        self._end_s = self._declared_end_s = Fraction(0)

    def read_header(self, container: Any, video: Any) -> None:
        self._declared_packets = video.frames
        self._declared_end_s = Fraction((container.duration or 0) + (container.start_time or 0), 1_000_000)

    def count_packet(self, packet: Any, video: Any) -> None:
        self._packets += packet.stream is video and packet.size > 0
        timestamp = packet.dts if packet.pts is None else packet.pts
        if timestamp is not None:
            self._end_s = max(self._end_s, (timestamp + (packet.duration or 0)) * packet.time_base)

    @property
    def is_truncated(self) -> bool:
        """Whether the end of the file is missing.

        Missing packets alone do not prove it: edit lists exclude packets from what is displayed.
        """
        is_complete = self._packets >= self._declared_packets
        tolerance_s = _END_TOLERANCE_S if is_complete else _END_TOLERANCE_WITH_LOSS_S
        return self._end_s < self._declared_end_s - tolerance_s
