"""Decodes the packets of a video stream strictly: damaged pictures are counted and left out, whatever the codec.

FFmpeg's decoders conceal damage as well as they can, which suits players: half a JPEG becomes a picture whose lower
half is green. How a decoder tells that a picture is damaged depends on the codec:

- Codecs in which every picture is coded alone (MJPEG, PNG, ProRes, ...) fail if `err_detect` demands it.
- H.264, MPEG-4 and MPEG-2 mark pictures in which they conceal damage, unless they decode slices in parallel.
- All others mark pictures whose reference pictures are missing. Damage within a picture they do not notice, so packets
  count that the demuxer already knows to be incomplete.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import av

_STRICT = {"err_detect": "crccheck+explode"}
"""Checksums are verified, and errors end the decoding of a picture. In codecs that refer to other pictures, FFmpeg
applies that to harmless errors as well, such as unknown metadata."""
_WITH_MISSING_REFERENCES = {"flags": "+output_corrupt"}
"""Pictures whose references are missing are returned with a mark, and can be counted. By default they vanish."""
_CODED_ALONE = ("png", "apng", "gif")
"""Codecs of separate pictures that FFmpeg does not list as such."""
_MAX_SUSPECTS = 64
"""More pictures than a decoder delays."""
_CONCEALING = ("h264", "mpeg1video", "mpeg2video", "mpeg4", "h263", "flv1", "msmpeg4v3", "wmv1", "wmv2", "wmv3", "vc1")
"""Decoders that mark the pictures in which they conceal damage."""


def packets_of(container: Any, *streams: Any) -> Iterator[Any]:
    """The packets of an open PyAV container, and at the end an empty one for each stream; no stream means all.

    A transport stream may contain streams that were not there when it was opened. PyAV fails when it ends them, after
    all others have been ended.
    """
    with suppress(IndexError):
        yield from container.demux(*streams)


class StrictDecoder:
    """The decoder of one video stream.

    Attributes:
        damaged: Packets whose picture is damaged or cannot be decoded.
        failed_in_a_row: The newest packets, without a gap, that could not be decoded at all.
        is_end_incomplete: Whether pictures at the end are missing and not counted. With several threads, damage in one
            of the last packets can hide itself and the intact pictures beside it.
    """

    def __init__(self, stream: Any, is_parallel: bool, joins_midway: bool = False, decoder: Any = None) -> None:
        """Configures the decoder; no packet may have been decoded yet.

        Args:
            stream: The video stream of a PyAV container.
            is_parallel: Whether several pictures may be decoded at a time, which delays each of them.
            joins_midway: Whether the stream began earlier, as that of a camera: pictures whose references were sent
                before are left out, but not counted.
            decoder: A codec context that decodes in place of the stream's own; None uses that.
        """
        context = self._context = decoder or stream.codec_context
        self._is_strict = context.codec.intra_only or context.name in _CODED_ALONE
        self._conceals = context.name in _CONCEALING
        self._counts_marks = not joins_midway
        self._suspect_pts: deque[int] = deque(maxlen=_MAX_SUSPECTS)
        self._follows_incomplete = False
        context.options = {**context.options, **(_STRICT if self._is_strict else _WITH_MISSING_REFERENCES)}
        # Decoding slices in parallel hides damage from all decoders of codecs that refer to other pictures.
        context.thread_type = "SLICE" if self._is_strict else "AUTO" if is_parallel else "NONE"
        self.damaged = 0
        self.failed_in_a_row = 0
        self.is_end_incomplete = False
        self._is_parallel = is_parallel and not self._is_strict
        self._missing = 0

    def decode(self, packet: Any) -> list[Any]:
        """Sends a packet to the decoder; an empty one ends the stream.

        Returns:
            The intact pictures that the decoder outputs for it, often those of earlier packets.
        """
        self._find_suspect(packet)
        try:
            av_frames = self._context.decode(packet)
        except av.error.InvalidDataError:
            self.damaged += 1
            self.failed_in_a_row += 1
            self._count_missing(packet, 1)
            return []
        self._count_missing(packet, len(av_frames))
        self.failed_in_a_row = 0 if av_frames else self.failed_in_a_row
        intact = [av_frame for av_frame in av_frames if not (av_frame.is_corrupt or self._is_suspect(av_frame))]
        self._counts_marks |= bool(intact)
        self.damaged += (len(av_frames) - len(intact)) * self._counts_marks
        return intact

    def _count_missing(self, packet: Any, returned: int) -> None:
        """Counts the packets whose picture is still in the decoder; at the end there must be none."""
        self._missing += (packet.size > 0 and not packet.is_discard) - returned
        if packet.size == 0:
            self.is_end_incomplete = self._is_parallel and self._missing != 0

    def _find_suspect(self, packet: Any) -> None:
        """Remembers a packet of which the demuxer has lost a part, if the decoder does not notice it.

        Codecs that refer to other pictures are parsed: FFmpeg's parsers end a picture with the packet after it, and
        mark the packet before the damaged one, so both count.
        """
        if self._conceals or packet.pts is None:
            return
        if packet.is_corrupt or self._follows_incomplete:
            self._suspect_pts.append(packet.pts)
        self._follows_incomplete = packet.is_corrupt and not self._is_strict

    def _is_suspect(self, av_frame: Any) -> bool:
        return av_frame.pts in self._suspect_pts
