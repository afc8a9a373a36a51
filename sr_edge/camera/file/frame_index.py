"""The index of a video file: the timestamp of every frame, and the key frames at which decoding can start.

One pass over the packets makes it, without decoding. With it a part of the file can be decoded by random access, and
the reader can prove that it returns the frames that decoding the whole file would return.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from sr_edge.camera.file.probe import VideoProbe, open_video
from sr_edge.camera.file.random_access import EntryPoints
from sr_edge.camera.file.reader import FORMAT_WITHOUT_PTS, ReadProgress
from sr_edge.camera.media.decoding import packets_of
from sr_edge.camera.media.ffmpeg_errors import stream_errors
from sr_edge.errors import FrameError, NotSeekable

_MAX_REORDERING = 32
"""More positions than a frame of any codec is displayed before or after its place in decoding order."""


@dataclass(frozen=True)
class KeyFrame:
    """A frame at which decoding can start.

    Attributes:
        number: Its number in display order.
        pts: Its timestamp.
        dts: When it is decoded, in the same units; None if the container does not say.
    """

    number: int
    pts: int
    dts: int | None


@dataclass(frozen=True)
class FrameIndex:
    """The frames of a video file in display order. Plain values, which can be pickled and stored as JSON.

    Attributes:
        pts: The timestamp of each frame in units of the probe's time base, without the start offset.
        key_frames: The frames at which decoding can start; the first is frame 0.
        source_bytes: The size of the file.
    """

    pts: tuple[int, ...]
    key_frames: tuple[KeyFrame, ...]
    source_bytes: int

    def entries_before(self, number: int) -> tuple[KeyFrame, ...]:
        """The key frames that are displayed no later than a frame, the nearest one first."""
        end = bisect_right(self.key_frames, number, key=lambda key_frame: key_frame.number)
        return self.key_frames[:end][::-1]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> FrameIndex:
        """Reads what `to_json` wrote.

        Raises:
            FrameError: The text is not an index.
        """
        try:
            content = json.loads(text)
            key_frames = tuple(KeyFrame(**key_frame) for key_frame in content["key_frames"])
            return cls(tuple(map(int, content["pts"])), key_frames, int(content["source_bytes"]))
        except (ValueError, TypeError, KeyError, RecursionError):
            raise FrameError(
                "the index of a video is damaged", wanted="what FrameIndex.to_json wrote", remedy="make it again"
            ) from None


@dataclass(frozen=True)
class _PacketTimes:
    pts: int
    dts: int | None
    is_entry: bool


def index_frames(probe: VideoProbe, *, is_deinterlaced: bool = False) -> FrameIndex:
    """Reads the packets of a video file once, without decoding them.

    Args:
        probe: The file.
        is_deinterlaced: Whether its frames are to be deinterlaced, which no part could do exactly.

    Raises:
        NotSeekable: The frames of a part might differ from those of the whole; the error says why.
        FrameError, StreamError: The file cannot be read.
    """
    name = str(probe.path)
    if is_deinterlaced:
        raise _not_seekable(name, "deinterlacing computes each frame from those before it, too")
    if probe.interlacing:
        raise _not_seekable(name, "its frames are interlaced, so that two packets can be one frame")
    with open_video(probe.path) as (container, video):
        if container.format.name == FORMAT_WITHOUT_PTS:
            raise _not_seekable(name, "AVI files store when a frame is decoded, not when it is displayed")
        entries, progress = EntryPoints(video), ReadProgress()
        if not entries.is_known_codec:
            raise _not_seekable(
                name, f"a {video.codec_context.name} decoder that starts at a key frame may return other pictures"
            )
        progress.read_header(container, video)
        packets = []
        with stream_errors(name):
            for packet in packets_of(container):
                progress.count_packet(packet, video)
                if packet.stream is video and packet.size:
                    packets.append(_times_of(name, packet, probe.start_offset, entries))
    if progress.is_truncated:
        raise _not_seekable(name, "it is truncated, which only reading all of it reports")
    return _index_of(name, packets, probe.path.stat().st_size)


def _times_of(name: str, packet: Any, start_offset: int, entries: EntryPoints) -> _PacketTimes:
    if packet.pts is None:
        raise _not_seekable(name, "packets without a timestamp do not tell which frames they contain")
    if packet.is_discard:
        raise _not_seekable(name, "its edit list leaves packets out, of which the decoder still needs some")
    if packet.is_corrupt:
        raise _not_seekable(name, "a packet is damaged, and whether its frame can be decoded is unknown")
    dts = None if packet.dts is None else packet.dts - start_offset
    return _PacketTimes(packet.pts - start_offset, dts, entries.contains(packet))


def _index_of(name: str, packets: Sequence[_PacketTimes], source_bytes: int) -> FrameIndex:
    if not packets or not packets[0].is_entry:
        raise _not_seekable(name, "its first packet is not a key frame, so its first frames depend on the decoder")
    order = sorted(range(len(packets)), key=lambda position: packets[position].pts)
    if any(packets[first].pts == packets[second].pts for first, second in pairwise(order)):
        raise _not_seekable(name, "two frames have the same timestamp, which moves all frames after them")
    if any(abs(number - position) > _MAX_REORDERING for number, position in enumerate(order)):
        raise _not_seekable(name, "its timestamps restart, which moves all frames after that")
    if order[0] != 0:
        raise _not_seekable(name, "frames are displayed before its first key frame, and may refer to missing ones")
    pts = tuple(packets[position].pts for position in order)
    return FrameIndex(pts, tuple(_key_frames(packets, order)), source_bytes)


def _key_frames(packets: Sequence[_PacketTimes], order: Sequence[int]) -> Iterator[KeyFrame]:
    for number, position in enumerate(order):
        if packets[position].is_entry:
            yield KeyFrame(number, packets[position].pts, packets[position].dts)


def _not_seekable(name: str, reason: str) -> NotSeekable:
    return NotSeekable(
        f"{name} cannot be decoded in parts: {reason}",
        found=reason,
        wanted="frames that random access finds exactly",
        remedy="upscale it in one piece, or convert it to H.264 in an MP4 file",
    )
