"""The bits of one sample in a picture file, which Pillow's mode does not show above 8 bits."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

_HEAD_BYTES = 1 << 12
_PNG_BIT_DEPTH, _SGI_BYTES_PER_SAMPLE = 24, 3


def stored_bits(path: Path, image: Image.Image) -> int:
    """Bits per sample as the header states them; 8 for formats that have no more."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if image.format == "PNG":
        return head[_PNG_BIT_DEPTH]
    if image.format == "PPM":
        largest = re.sub(rb"#[^\n]*\n", b" ", head).split(maxsplit=4)[3]
        return 16 if largest.isdigit() and int(largest) > 255 else 8
    if image.format == "JPEG2000":
        # The first component in the SIZ marker of the codestream (ISO/IEC 15444-1, A.5.1).
        component = re.search(rb"\xff\x51.{38}(.)", head, re.DOTALL)
        return (component[1][0] & 0x7F) + 1 if component else 8
    if image.format in ("AVIF", "HEIF"):
        # high_bitdepth and twelve_bit of the AV1 codec configuration (AV1-ISOBMFF, 2.3.3).
        configuration = re.search(rb"av1C..(.)", head, re.DOTALL)
        flags = configuration[1][0] if configuration else 0
        return (12 if flags & 0x20 else 10) if flags & 0x40 else 8
    return 8 * head[_SGI_BYTES_PER_SAMPLE] if image.format == "SGI" else 8
