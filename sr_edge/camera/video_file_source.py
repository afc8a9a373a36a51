"""The frames of a video file as a source of the loop: every one, or those of a range, each at its own time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from sr_edge.camera.conversion import frame_from_av
from sr_edge.camera.frame import VideoFrame
from sr_edge.camera.ports import SourceInfo
from sr_edge.camera.timeline import Timeline
from sr_edge.camera.vendor_errors import stream_errors
from sr_edge.camera.video_file_facts import VideoProbe, decoded, opened_video
from sr_edge.camera.video_file_settings import FrameRange
from sr_edge.errors import FrameError, StreamError

_WITHOUT_TIMES = "avi"
"""Stores when a frame is decoded, not when it is shown: the order of decoding is all there is."""
_CUT_SHORT_S, _MISSING_S = Fraction(1), Fraction(1, 10)
"""A file that ends so much sooner than its header announces was cut; the less where frames are known to be missing."""


@dataclass(frozen=True)
class Ending:
    """What is known of a video once it was read to its end, or to that of the range.

    Attributes:
        frames: how many frames the range holds.
        first_pts: of the file's first frame, whatever the range.
        last_duration: of the last frame, in units of the time base.
        unreadable_packets: packets that could not be decoded; their frames are missing.
        moved_s: by how much the last frames were moved, because times did not rise.
    """

    frames: int
    first_pts: int
    last_duration: int
    unreadable_packets: int
    moved_s: float


class VideoFileSource:
    """Decodes a file from its start: what comes before the range, or was done already, is decoded and not given.

    Seeking would be quicker, but which frame it leads to differs between containers and codecs; counting does not.
    """

    is_live = False
    reconnections = 0

    def __init__(self, probe: VideoProbe, wanted: FrameRange, done: tuple[int, ...] = ()) -> None:
        """Args:
        done: pts of the range's frames that an earlier run has finished; they must come again, and are not given.
        """
        self.name = str(probe.path)
        self.info = SourceInfo(probe.rate)
        self.ending: Ending | None = None
        self._probe = probe
        self._wanted = wanted
        self._done = done
        self._closed = threading.Event()
        self._timeline = Timeline(is_live=False)
        self._read = _Reading()
        self._unreadable = 0
        self._first_pts = 0
        self._origin: int | None = None

    @property
    def unreadable_packets(self) -> int:
        return self._unreadable

    def close(self) -> None:
        self._closed.set()

    def frames(self) -> Iterator[VideoFrame]:
        """The frames of the range that are not done; `ending` is known afterwards.

        Raises:
            StreamError: the file is damaged, cut short, or its picture changes its size.
            FrameError: the range lies behind the file's end, or the frames done are not those of this file.
        """
        given, count, last, following = self._wanted.first + len(self._done), 0, None, None
        for picture, pts in self._placed():
            if self._closed.is_set():
                return
            if count == self._wanted.end:
                following = pts
                break
            if count >= given:
                yield self._frame(picture, pts, count)
            elif count >= self._wanted.first:
                self._require_same(pts, count)
            count, last, last_pts = count + 1, picture, pts
        if count != self._wanted.end:
            self._require_whole(count)
        if count <= self._wanted.first or last is None:
            raise FrameError(
                f"{self.name} has {count} frames, and the range {self._wanted} contains none of them",
                found=str(self._wanted),
                wanted=range(count),
                remedy="give an earlier range",
            )
        moved_s = float(self._timeline.offset_s)
        frames = count - self._wanted.first
        lasting = self._duration(last) if following is None else following - last_pts
        self.ending = Ending(frames, self._first_pts, lasting, self._unreadable, moved_s)

    def _frame(self, picture: Any, pts: int, number: int) -> VideoFrame:
        probe = self._probe
        if (picture.width, picture.height) != (probe.width, probe.height):
            raise StreamError(
                f"{self.name}: the frame size changes from {probe.width}x{probe.height} to "
                f"{picture.width}x{picture.height} at frame {number}",
                found=(picture.width, picture.height),
                wanted=(probe.width, probe.height),
                remedy=f"upscale the frames before it with --frames :{number}",
            )
        try:
            frame = frame_from_av(picture, number - self._wanted.first)
        except FrameError as error:
            raise FrameError(
                f"{self.name}, frame {number}: {error.problem}",
                found=error.found,
                wanted=error.wanted,
                remedy=error.remedy,
            ) from error
        return replace(frame, pts=pts, time_base=probe.time_base, colour=probe.colour)

    def _require_same(self, pts: int, number: int) -> None:
        earlier = self._done[number - self._wanted.first]
        if pts != earlier:
            raise FrameError(
                f"{self.name}: frame {number} has the timestamp {pts}, but {earlier} in the interrupted run",
                found=pts,
                wanted=earlier,
                remedy="start again with --no-resume",
            )

    def _duration(self, picture: Any) -> int:
        return max(1, picture.duration or round(1 / (self._probe.rate * self._probe.time_base)))

    def _placed(self) -> Iterator[tuple[Any, int]]:
        """Each decoded frame and its time; where none is told, it follows the frame before."""
        following = 0
        for number, (picture, stored_pts) in enumerate(self._pictures()):
            pts = self._timeline.place(following if stored_pts is None else stored_pts, self._probe.time_base, 0)
            if number == 0:
                self._first_pts = pts
            following = pts + self._duration(picture)
            yield picture, pts

    def _pictures(self) -> Iterator[tuple[Any, int | None]]:
        """Each decoded frame and its time, where that is told."""
        with opened_video(self._probe.path) as (container, video):
            video.thread_type = "AUTO"
            stores_times = container.format.name != _WITHOUT_TIMES
            self._read.announce(container, video)
            packets = container.demux()
            while (packet := self._next(packets)) is not None:
                self._read.note(packet, video)
                if packet.stream is not video:
                    continue
                with stream_errors(self.name):
                    pictures = decoded(packet)
                self._unreadable += pictures is None
                for picture in pictures or ():
                    yield picture, self._pts_of(picture, stores_times)

    def _next(self, packets: Iterator[Any]) -> Any:
        with stream_errors(self.name):
            return next(packets, None)

    def _pts_of(self, picture: Any, stores_times: bool) -> int | None:
        if stores_times:
            return None if picture.pts is None else picture.pts - self._probe.origin
        if self._origin is None:
            self._origin = picture.dts
        return None if picture.dts is None else picture.dts - self._origin

    def _require_whole(self, count: int) -> None:
        if self._read.is_cut_short:
            raise StreamError(
                f"{self.name} is truncated: it contains {count} of about {self._probe.frame_count} frames",
                found=count,
                wanted=self._probe.frame_count,
                remedy=f"copy it again, or upscale the frames that it contains with --frames :{count}",
            )


class _Reading:
    """How far a file was read, and how far it should go."""

    def __init__(self) -> None:
        self._packets = self._announced_packets = 0
        self._end_s = self._announced_end_s = Fraction(0)

    def announce(self, container: Any, video: Any) -> None:
        self._announced_packets = video.frames
        self._announced_end_s = Fraction((container.duration or 0) + (container.start_time or 0), 1_000_000)

    def note(self, packet: Any, video: Any) -> None:
        self._packets += packet.stream is video and packet.size > 0
        time = packet.dts if packet.pts is None else packet.pts
        if time is not None:
            self._end_s = max(self._end_s, (time + (packet.duration or 0)) * packet.time_base)

    @property
    def is_cut_short(self) -> bool:
        """Edit lists leave packets out of what is shown, so that missing ones alone tell nothing."""
        slack_s = _CUT_SHORT_S if self._packets >= self._announced_packets else _MISSING_S
        return self._end_s < self._announced_end_s - slack_s
