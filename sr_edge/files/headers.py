"""Recognises files by their first bytes: those in which networks are shared, playlists, and containers of video."""

from __future__ import annotations

from pathlib import Path

HEADER_BYTES = 64
"""How many bytes of a file the functions need that take its header."""

_ZIP = b"PK\x03\x04"
_PICKLES = (b"\x80", b"(", b"]", b"}", b"c", b"l")
_IR_VERSION_TAG = 0x08
_MODEL_FIELDS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26})
"""The field numbers of ONNX's ModelProto."""

_PLAYLIST_HEADER_BYTES = 2048
_PLAYLISTS = (b"#EXTM3U", b"<MPD", b"ffconcat version")

VIDEO_HEADER_BYTES = 256
"""How many bytes of a file `is_video_container` needs."""
_CONTAINERS = (
    b"\x1a\x45\xdf\xa3",  # Matroska and WebM
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG-1 and MPEG-2 video
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF, WMV
    b"\x06\x0e\x2b\x34\x02\x05\x01\x01",  # MXF
    b"FLV\x01",
    b"OggS",
    b"YUV4MPEG2",
    b"DKIF",  # IVF
    b"nut/multimedia container",
)
_ISO_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"skip", b"free", b"styp")
"""The first box of an MP4 or QuickTime file."""
_TRANSPORT_PACKETS = ((0, 188), (4, 192))
"""Where the sync byte of MPEG transport streams is, and the length of a packet."""


def is_zip(header: bytes) -> bool:
    return header.startswith(_ZIP)


def is_pickle(header: bytes) -> bool:
    """Whether a file begins as pickles do; `torch.save` writes pickles, or zip archives with one."""
    return header.startswith(_PICKLES)


def is_safetensors(header: bytes) -> bool:
    """Whether a file begins with the length of a JSON document, in eight bytes, and that document."""
    return header[5:9] == b"\0\0\0{"


def is_onnx(header: bytes) -> bool:
    """Whether a file begins with the version of the ONNX format, as every writer puts it first, and a known field."""
    if len(header) < 3 or header[0] != _IR_VERSION_TAG or not 1 <= header[1] < 0x40 or is_safetensors(header):
        return False
    return header[2] >> 3 in _MODEL_FIELDS and header[2] & 7 in (0, 2)


def is_playlist(path: Path) -> bool:
    """Whether a regular file begins as an HLS, DASH or concat playlist does.

    FFmpeg reads playlists like videos, but they refer to other files, perhaps without end.
    """
    if not path.is_file():  # a named pipe could not be opened a second time
        return False
    try:
        with path.open("rb") as file:
            header = file.read(_PLAYLIST_HEADER_BYTES)
    except OSError:
        return False
    return any(mark in header for mark in _PLAYLISTS)


def is_video_container(header: bytes) -> bool:
    """Whether a file begins as containers of video do, which may also contain audio only.

    Args:
        header: At least `VIDEO_HEADER_BYTES` bytes, or the whole file if it is shorter.
    """
    return (
        header.startswith(_CONTAINERS)
        or header[4:8] in _ISO_BOXES
        or (header[:4] == b"RIFF" and header[8:11] == b"AVI")
        or any(header[at : at + 1] == header[at + step : at + step + 1] == b"G" for at, step in _TRANSPORT_PACKETS)
    )
