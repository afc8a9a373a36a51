"""Tells at which packets a decoder can start and return the same pictures as one that started at the first packet.

Containers mark key frames, but a mark alone promises little: H.264 may refer to pictures before an I-frame, a decoder
of MPEG-2 keeps quantization matrices, and parameter sets may be sent once for a whole stream. Here a packet counts only
if the standard of its codec promises exact pictures from there on:

- H.264: an IDR picture, or a recovery point of zero frames with an exact match and without a broken link.
- H.265: an intra random access point (IDR, BLA or CRA).
- MPEG-1, MPEG-2: a key frame with a sequence header. MJPEG: a picture with its own tables.
- FFV1, VP8, VP9, AV1, and codecs of separate pictures: a key frame.

In H.264 and H.265 the parameter sets that are in force must be those of the first packet. Pictures that are decoded
after such a packet but displayed before it may refer to earlier pictures; the reader discards them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_KEY_FRAME_CODECS = ("ffv1", "vp8", "vp9", "av1", "libdav1d", "libvpx", "libvpx-vp9", "libaom-av1")
_SEQUENCE_HEADER = b"\0\0\1\xb3"
_QUANTIZATION_TABLES, _HUFFMAN_TABLES = b"\xff\xdb", b"\xff\xc4"
_START_CODE = b"\0\0\1"
_RECOVERY_POINT = 6
_EXACT_AT_ONCE = 0b110
"""recovery_frame_cnt = 0 as an Exp-Golomb code, exact_match_flag = 1 and broken_link_flag = 0."""


@dataclass(frozen=True)
class _NalSyntax:
    """How the units of the network abstraction layer of a codec are told apart.

    Attributes:
        shift: By how many bits the type is shifted in the first byte.
        mask: Mask of the type after the shift.
        slices: Types of coded slices.
        random_access: Types of the slices of pictures at which decoding can start.
        parameter_sets: Types of parameter sets.
        length_offset: The byte of a decoder configuration record that has the bytes of a length, minus 1.
    """

    shift: int
    mask: int
    slices: range
    random_access: range
    parameter_sets: tuple[int, ...]
    length_offset: int


_H264 = _NalSyntax(0, 0x1F, range(1, 6), range(5, 6), (7, 8, 13, 15), 4)
_H265 = _NalSyntax(1, 0x3F, range(32), range(16, 24), (32, 33, 34), 21)
_NAL_SYNTAX = {"h264": _H264, "hevc": _H265}
_SEI = 6
"""The type of H.264's supplemental enhancement information, which contains recovery points."""


class EntryPoints:
    """The packets of one video stream at which decoding can start. Each packet is asked for once, in decoding order."""

    def __init__(self, video: Any) -> None:
        """Reads the configuration of the stream.

        Args:
            video: The video stream of a PyAV container.
        """
        context = video.codec_context
        self._codec = context.name
        self._is_intra_only = bool(context.codec.intra_only)
        self._syntax = _NAL_SYNTAX.get(self._codec)
        extradata = bytes(context.extradata or b"")
        self._length_bytes = _length_bytes(self._syntax, extradata) if self._syntax else 0
        self._configured = _configured_parameter_sets(self._syntax, extradata) if self._syntax else frozenset()
        self._first_sets: frozenset[bytes] | None = None
        self._have_sets_changed = False

    @property
    def is_known_codec(self) -> bool:
        """Whether it is known where a decoder of this codec can start."""
        is_known = self._syntax is not None or self._codec in (*_KEY_FRAME_CODECS, "mpeg1video", "mpeg2video")
        return is_known or self._is_intra_only

    def contains(self, packet: Any) -> bool:
        """Whether decoding can start at this packet; the first packet must be a key frame, and always counts."""
        if self._syntax is not None:
            return self._starts_nal_units(self._syntax, packet)
        if not packet.is_keyframe:
            return False
        if self._codec in ("mpeg1video", "mpeg2video"):
            return _SEQUENCE_HEADER in bytes(packet)
        if self._codec == "mjpeg":
            content = bytes(packet)
            return _QUANTIZATION_TABLES in content and _HUFFMAN_TABLES in content
        return True

    def _starts_nal_units(self, syntax: _NalSyntax, packet: Any) -> bool:
        sets, can_start = set(), False
        content = bytes(packet)
        for start, end in _nal_units(content, self._length_bytes):
            kind = content[start] >> syntax.shift & syntax.mask
            if kind in syntax.parameter_sets:
                sets.add(content[start:end].rstrip(b"\0"))
            elif kind in syntax.slices:
                can_start |= kind in syntax.random_access
                break  # all slices of a picture are of one kind, and parameter sets come first
            elif syntax is _H264 and kind == _SEI:
                can_start |= _is_exact_recovery_point(content[start + 1 : end])
        if self._first_sets is None:
            self._first_sets = frozenset(sets)
            return bool(packet.is_keyframe)
        self._have_sets_changed |= not sets <= self._configured | self._first_sets
        has_sets = self._first_sets <= self._configured | sets
        return bool(packet.is_keyframe) and can_start and has_sets and not self._have_sets_changed


def _length_bytes(syntax: _NalSyntax, extradata: bytes) -> int:
    """The bytes of the length before each unit; 0 if start codes separate them (Annex B)."""
    if not extradata or extradata.startswith((b"\0\0\1", b"\0\0\0\1")):
        return 0
    return (extradata[syntax.length_offset] & 3) + 1


def _nal_units(content: bytes, length_bytes: int) -> Iterator[tuple[int, int]]:
    """Start and end of each unit of at least one byte."""
    if length_bytes:
        position = 0
        while position + length_bytes < len(content):
            start = position + length_bytes
            position = start + int.from_bytes(content[position:start], "big")
            if start < min(position, len(content)):
                yield start, min(position, len(content))
        return
    start = content.find(_START_CODE)
    while start >= 0:
        following = content.find(_START_CODE, start + 3)
        end = following if following >= 0 else len(content)
        if start + 3 < end:
            yield start + 3, end
        start = following


def _configured_parameter_sets(syntax: _NalSyntax, extradata: bytes) -> frozenset[bytes]:
    """The parameter sets of the container, from a decoder configuration record or in Annex B."""
    if not _length_bytes(syntax, extradata):
        return frozenset(extradata[start:end].rstrip(b"\0") for start, end in _nal_units(extradata, 0))
    return frozenset(_sets_of_avcc(extradata) if syntax is _H264 else _sets_of_hvcc(extradata))


def _sets_of_avcc(record: bytes) -> Iterator[bytes]:
    position = 5
    for mask in (0x1F, 0xFF):  # the numbers of sequence and of picture parameter sets
        if position >= len(record):
            return
        count, position = record[position] & mask, position + 1
        for _ in range(count):
            content, position = _prefixed(record, position)
            yield content


def _sets_of_hvcc(record: bytes) -> Iterator[bytes]:
    position = 23
    for _ in range(record[22] if len(record) > 22 else 0):
        count, position = int.from_bytes(record[position + 1 : position + 3], "big"), position + 3
        for _ in range(count):
            content, position = _prefixed(record, position)
            yield content


def _prefixed(record: bytes, position: int) -> tuple[bytes, int]:
    """The bytes after a length of 16 bits without padding, and the position after them."""
    end = position + 2 + int.from_bytes(record[position : position + 2], "big")
    return record[position + 2 : end].rstrip(b"\0"), end


def _is_exact_recovery_point(content: bytes) -> bool:
    """Whether supplemental enhancement information of H.264 says that all pictures from here on are exact."""
    message = content.replace(b"\0\0\3", b"\0\0")  # without the bytes that prevent start codes
    position = 0
    while position + 2 < len(message):
        kind, position = _sei_number(message, position)
        size, position = _sei_number(message, position)
        if kind == _RECOVERY_POINT and position < len(message):
            return message[position] >> 5 == _EXACT_AT_ONCE
        position += size
    return False


def _sei_number(message: bytes, position: int) -> tuple[int, int]:
    """A number that is coded as bytes of 255 and one smaller byte, and the position after it."""
    number = 0
    while position < len(message) and message[position] == 0xFF:
        number, position = number + 0xFF, position + 1
    return number + (message[position] if position < len(message) else 0), position + 1
