"""Reads a part of a video file by random access, and proves that its frames are those of the whole file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import av

from sr_edge.camera.file.frame_index import FrameIndex, KeyFrame
from sr_edge.camera.file.probe import VideoProbe, open_video
from sr_edge.camera.file.reader import ReadSummary, VideoFileSource
from sr_edge.camera.file.settings import FrameRange
from sr_edge.camera.media.declared import declared_by_frame
from sr_edge.camera.media.decoding import StrictDecoder, packets_of
from sr_edge.camera.media.ffmpeg_errors import stream_errors
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.errors import InexactSeek

_ATTEMPTS = 2
"""Key frames to start at: the last one before the part, and the one before that."""


class PartSource(VideoFileSource):
    """Decodes from the last key frame before a part, and requires that every timestamp is the one of the index.

    Pictures that are decoded after the key frame but displayed before it may refer to earlier ones; they are discarded.
    Every other picture must come out intact, once and in its place. A damaged or missing picture, or one more than the
    index has, raises InexactSeek, because then only decoding the whole file tells what its frames are.
    """

    def __init__(
        self,
        probe: VideoProbe,
        frame_range: FrameRange,
        index: FrameIndex,
        part: range,
        finished_pts: Callable[[int], int | None] = lambda number: None,
    ) -> None:
        """Prepares the source; the file is opened by `frames`.

        Args:
            probe: The file.
            frame_range: The frames of the whole job, from which the frames of the part are counted.
            index: The index of the file.
            part: The numbers of the frames to return, counted in `frame_range`.
            finished_pts: As in `VideoFileSource`.
        """
        super().__init__(probe, frame_range, finished_pts)
        self._index = index
        self._part = part

    def frames(self) -> Iterator[VideoFrame]:
        """Decodes the frames of the part that are not finished, and sets `summary` at the end.

        Raises:
            InexactSeek: The frames are not those of the index, or one of them is damaged.
            StreamError: The file cannot be read, or its frame size changes.
        """
        self._require_same_file()
        first, end = self._range.first + self._part.start, self._range.first + self._part.stop
        pts, last_frame = self._index.pts, None
        for number, av_frame in self._exact_frames(first, end):
            if self._closed.is_set():
                return
            self._declared |= declared_by_frame(av_frame)
            finished_pts = self._finished_pts(number - self._range.first)
            if finished_pts is None:
                yield self._frame(av_frame, pts[number], number)
            else:
                self._require_same_timestamp(pts[number], finished_pts, number)
            last_frame = av_frame
        self.summary = ReadSummary(
            frames=len(self._part),
            first_pts=pts[0],
            last_duration=pts[end] - pts[end - 1] if end < len(pts) else self._duration(last_frame),
            unreadable_packets=0,
            timestamp_shift_s=0.0,
            declared=tuple(sorted(self._declared)),
        )

    def _require_same_file(self) -> None:
        size = self._probe.path.stat().st_size if self._probe.path.is_file() else None
        if size is not None and size != self._index.source_bytes:
            raise InexactSeek(
                f"{self.name} has {size} bytes, but {self._index.source_bytes} when its index was made",
                found=size,
                wanted=self._index.source_bytes,
                remedy="make the index again",
            )

    def _exact_frames(self, first: int, end: int) -> Iterator[tuple[int, Any]]:
        """The frames and their numbers; starts one key frame earlier if the part is not reached exactly.

        A damaged frame before the range of the job would change the numbers of all frames in it, so the first part
        decodes from the start of the file. The frame after the last one is decoded, too: it determines how long that
        one is displayed.
        """
        entries = self._index.entries_before(first if self._part.start else 0)[:_ATTEMPTS]
        through = min(end + 1, len(self._index.pts))
        for entry in entries:
            has_begun = False
            try:
                for number, av_frame in self._checked_frames(entry, through):
                    if first <= number < end:
                        has_begun = True
                        yield number, av_frame
            except InexactSeek:
                if has_begun or entry is entries[-1]:
                    raise
            else:
                return

    def _checked_frames(self, entry: KeyFrame, end: int) -> Iterator[tuple[int, Any]]:
        """The frames from a key frame on, each with its number; the timestamps are those of the index."""
        number, pts = entry.number, self._index.pts
        for av_frame in self._pictures_from(entry):
            decoded_pts = None if av_frame.pts is None else av_frame.pts - self._probe.start_offset
            if number == entry.number and decoded_pts is not None and decoded_pts < entry.pts:
                continue
            wanted = pts[number] if number < len(pts) else None
            if decoded_pts != wanted or decoded_pts is None:
                raise self._inexact(number, decoded_pts, wanted)
            yield number, av_frame
            number += 1
            if number == end < len(pts):  # after the last frame of the file the decoder must not return another one
                return
        if number < end:
            raise self._inexact(number, None, pts[number])

    def _inexact(self, number: int, found: int | None, wanted: int | None) -> InexactSeek:
        return InexactSeek(
            f"{self.name}: random access found another picture than frame {number}, or it is damaged",
            found=found,
            wanted=wanted,
            remedy="upscale the video in one piece",
        )

    def _pictures_from(self, entry: KeyFrame) -> Iterator[Any]:
        """The intact pictures that a decoder returns if it starts at a key frame."""
        is_first = entry is self._index.key_frames[0]
        for seek_time in (None,) if is_first else (entry.pts, entry.dts, None):
            with open_video(self._probe.path) as (container, video):
                decoder = self._decoder = StrictDecoder(video, is_parallel=True, joins_midway=not is_first)
                packets = packets_of(container, video)
                found = self._seek(container, video, packets, entry, seek_time)
                if found is None:
                    continue
                packets = chain([found], packets)
                while (packet := self._next_packet(packets)) is not None:
                    yield from self._finished_by(decoder, packet, None)
                return
        raise self._inexact(entry.number, None, entry.pts)

    def _seek(
        self, container: Any, video: Any, packets: Iterator[Any], entry: KeyFrame, seek_time: int | None
    ) -> Any | None:
        """The packet of a key frame; None if seeking led behind it. Without a time all packets before it are read.

        Whether a container is sought by pts or by dts, and whether it finds key frames, depends on its format.
        """
        if seek_time is not None:
            try:
                container.seek(seek_time + self._probe.start_offset, stream=video)
            except (av.error.FFmpegError, OSError):
                return None
        wanted = entry.pts + self._probe.start_offset
        with stream_errors(self.name):
            for packet in packets:
                if packet.is_keyframe and packet.size and packet.pts == wanted:
                    return packet
                if packet.is_keyframe and packet.size and packet.pts is not None and packet.pts > wanted:
                    return None
        return None
