"""16-bit PNG files with colour or alpha, which Pillow reduces to 8 bits: OpenCV reads them, and they are written here.

OpenCV writes no gray with alpha and stores a colour profile only in its newest versions.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

from sr_edge.errors import FrameError
from sr_edge.image_files.png_chunks import PNG_SIGNATURE, png_chunk
from sr_edge.installation import how_to_install

Samples = npt.NDArray[np.uint16]

_PNG_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
_PNG_FILTER_UP = 2


def samples_from_file_bytes(file_bytes: bytes) -> Samples | None:
    """Decodes a 16-bit PNG as stored; None if OpenCV cannot.

    Returns:
        uint16 (height, width, channels): gray, RGB or RGBA. Gray with alpha comes as RGBA.

    Raises:
        FrameError: OpenCV is not installed; it is optional, because it takes 150 MB.
    """
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise FrameError(
            "reading 16-bit PNG files with colour or alpha requires OpenCV, which is not installed",
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
    chunks = [png_chunk(b"IHDR", header)]
    if icc_profile:
        chunks.append(png_chunk(b"iCCP", b"ICC\0\0" + zlib.compress(icc_profile)))
    chunks.append(png_chunk(b"IDAT", zlib.compress(_png_rows(samples).tobytes())))
    return b"".join([PNG_SIGNATURE, *chunks, png_chunk(b"IEND", b"")])


def _png_rows(samples: Samples) -> npt.NDArray[np.uint8]:
    rows = samples.astype(">u2").view(np.uint8).reshape(samples.shape[0], -1)
    filtered = np.empty((rows.shape[0], 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _PNG_FILTER_UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    return filtered
