"""PNG and TIFF files with 16 bits per sample, which neither Pillow nor OpenCV supports completely.

OpenCV reads them, because Pillow truncates 16-bit colour to 8 bits. They are written here, because Pillow cannot write
16-bit colour at all, and OpenCV writes no gray with alpha, omits the TIFF tag that declares the fourth sample to be
alpha, and stores a colour profile only in its newest versions. Both formats are simple to write: PNG (W3C, 3rd edition)
is a sequence of chunks with checksums around one deflate stream, TIFF 6.0 one sorted table of tags.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

from sr_edge.errors import FrameError
from sr_edge.installation import how_to_install

Samples = npt.NDArray[np.uint16]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_PNG_FILTER_UP = 2

_TIFF_SHORT, _TIFF_LONG, _TIFF_UNDEFINED = 3, 4, 7
_TIFF_STRAIGHT_ALPHA = 2


def samples_from_file_bytes(file_bytes: bytes) -> Samples | None:
    """Decodes a 16-bit PNG or TIFF as stored; None if OpenCV cannot.

    Returns:
        uint16 (height, width, channels): gray, RGB or RGBA. A gray PNG with alpha comes as RGBA.

    Raises:
        FrameError: OpenCV is not installed; it is optional, because it takes 150 MB.
    """
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise FrameError(
            "reading 16-bit pictures requires OpenCV, which is not installed",
            wanted="OpenCV",
            remedy=f"run: {how_to_install('sixteen-bit')}",
        ) from error
    try:
        decoded = cv2.imdecode(np.frombuffer(file_bytes, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if decoded is None or decoded.dtype != np.uint16:
        return None
    stored: Samples = np.asarray(decoded, np.uint16)
    if stored.ndim == 2:
        return stored[..., None]
    to_rgb = cv2.COLOR_BGR2RGB if stored.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    return np.asarray(cv2.cvtColor(stored, to_rgb), np.uint16)


def png_from_samples(samples: Samples, icc_profile: bytes | None = None) -> bytes:
    """Encodes uint16 (height, width, 1 gray, 2 gray and alpha, 3 RGB or 4 RGBA) as a PNG file."""
    height, width, channels = samples.shape
    header = struct.pack(">IIBBBBB", width, height, 16, _PNG_COLOUR_TYPES[channels], 0, 0, 0)
    chunks = [_png_chunk(b"IHDR", header)]
    if icc_profile:
        chunks.append(_png_chunk(b"iCCP", b"ICC\0\0" + zlib.compress(icc_profile)))
    chunks.append(_png_chunk(b"IDAT", zlib.compress(_png_rows(samples).tobytes())))
    return b"".join([_PNG_SIGNATURE, *chunks, _png_chunk(b"IEND", b"")])


def _png_rows(samples: Samples) -> npt.NDArray[np.uint8]:
    rows = samples.astype(">u2").view(np.uint8).reshape(samples.shape[0], -1)
    filtered = np.empty((rows.shape[0], 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _PNG_FILTER_UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    return filtered


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def tiff_from_samples(samples: Samples, icc_profile: bytes | None = None) -> bytes:
    """Encodes uint16 (height, width, 1 gray, 3 RGB or 4 RGBA) as an uncompressed little-endian TIFF file."""
    height, width, channels = samples.shape
    strip = samples.astype("<u2").tobytes()
    black_is_zero, rgb = 1, 2
    tags = [
        _tiff_tag(256, _TIFF_LONG, width),
        _tiff_tag(257, _TIFF_LONG, height),
        _tiff_tag(258, _TIFF_SHORT, *[16] * channels),
        _tiff_tag(259, _TIFF_SHORT, 1),
        _tiff_tag(262, _TIFF_SHORT, rgb if channels >= 3 else black_is_zero),
        _tiff_tag(273, _TIFF_LONG, 0),
        _tiff_tag(277, _TIFF_SHORT, channels),
        _tiff_tag(278, _TIFF_LONG, height),
        _tiff_tag(279, _TIFF_LONG, len(strip)),
        _tiff_tag(284, _TIFF_SHORT, 1),
    ]
    if channels == 4:
        tags.append(_tiff_tag(338, _TIFF_SHORT, _TIFF_STRAIGHT_ALPHA))
    if icc_profile:
        tags.append((34675, _TIFF_UNDEFINED, len(icc_profile), icc_profile))
    return _tiff_file(tags, strip)


_TiffTag = tuple[int, int, int, bytes]


def _tiff_tag(number: int, kind: int, *values: int) -> _TiffTag:
    return number, kind, len(values), struct.pack(f"<{len(values)}{'H' if kind == _TIFF_SHORT else 'I'}", *values)


def _tiff_file(tags: list[_TiffTag], strip: bytes) -> bytes:
    """Writes header, tag table, the values too long for the table, and the strip, whose offset is in tag 273."""
    strip_offsets = 273
    values_at = 8 + 2 + 12 * len(tags) + 4
    strip_at = values_at + sum(len(value) + len(value) % 2 for *_, value in tags if len(value) > 4)
    table, values = [], b""
    for number, kind, count, value in tags:
        field = struct.pack("<I", strip_at) if number == strip_offsets else value.ljust(4, b"\0")
        if len(value) > 4:
            field = struct.pack("<I", values_at + len(values))
            values += value + b"\0" * (len(value) % 2)
        table.append(struct.pack("<HHI", number, kind, count) + field)
    header = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    return b"".join([header, *table, struct.pack("<I", 0), values, strip])
