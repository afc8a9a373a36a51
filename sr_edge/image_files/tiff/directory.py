"""The directory of a TIFF file (TIFF 6.0 and BigTIFF): its tags, read without decoding a sample, and written."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from PIL import TiffImagePlugin

from sr_edge.errors import FrameError

_MAX_TAGS = 4096
_MAX_PAGES = 10_000
_HEADER = struct.pack("<2sHI", b"II", 42, 8)
_BYTE, _LONG, _RATIONAL, _UNDEFINED = 1, 4, 5, 7
"""Field types of TIFF 6.0."""
_FIELD_TYPES = {
    1: "B",
    3: "H",
    4: "I",
    6: "b",
    8: "h",
    9: "i",
    11: "f",
    12: "d",
    13: "I",
    16: "Q",
    17: "q",
    18: "Q",
}
_RATIONALS = {5: "II", 10: "ii"}
_BYTES = (2, 7)


class Tag(IntEnum):
    """The tags that are read."""

    NEW_SUBFILE_TYPE = 254
    WIDTH = 256
    HEIGHT = 257
    BITS_PER_SAMPLE = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES_PER_PIXEL = 277
    ROWS_PER_STRIP = 278
    STRIP_BYTE_COUNTS = 279
    X_RESOLUTION = 282
    Y_RESOLUTION = 283
    PLANAR_CONFIGURATION = 284
    T4_OPTIONS = 292
    T6_OPTIONS = 293
    RESOLUTION_UNIT = 296
    PREDICTOR = 317
    COLOR_MAP = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_BYTE_COUNTS = 325
    INK_SET = 332
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    JPEG_TABLES = 347
    YCBCR_COEFFICIENTS = 529
    YCBCR_SUBSAMPLING = 530
    REFERENCE_BLACK_WHITE = 532
    XMP = 700
    IPTC = 33723
    PHOTOSHOP = 34377
    ICC_PROFILE = 34675
    DNG_VERSION = 50706


@dataclass(frozen=True)
class Ifd:
    """The tags of one page: numbers as a tuple, text and undefined data as bytes.

    `byte_order` is that of `struct`, `offset` the place of the directory in the file, `is_big` whether it is BigTIFF.
    """

    tags: Mapping[int, tuple[Any, ...] | bytes]
    byte_order: str
    offset: int = 0
    is_big: bool = False

    def numbers(self, tag: Tag, absent: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        value = self.tags.get(tag, absent)
        return value if isinstance(value, tuple) else absent

    def number(self, tag: Tag, absent: int) -> int:
        values = self.numbers(tag)
        return int(values[0]) if values else absent

    def data(self, tag: Tag) -> bytes:
        """The value of a tag that contains a block of bytes, which some writers declare as BYTE."""
        value = self.tags.get(tag, b"")
        return value if isinstance(value, bytes) else bytes(item & 0xFF for item in value if isinstance(item, int))


def read_ifd(path: Path, file_bytes: memoryview) -> Ifd:
    """Reads the tags of the only page.

    Raises:
        FrameError: the file is cut short, has several pages, or is a raw photograph with a preview as its first page.
    """
    order = ">" if bytes(file_bytes[:2]) == b"MM" else "<"
    version = struct.unpack_from(f"{order}H", file_bytes, 2)[0]
    is_big = version == 43
    first = struct.unpack_from(f"{order}Q" if is_big else f"{order}I", file_bytes, 8 if is_big else 4)[0]
    tags, following = _directory(file_bytes, first, order, is_big)
    ifd = Ifd(tags, order, first, is_big)
    is_preview = ifd.number(Tag.NEW_SUBFILE_TYPE, 0) & 1
    if is_preview or Tag.DNG_VERSION in tags or bytes(file_bytes[8:10]) == b"CR":
        raise refused(path, "is a camera's raw file, whose TIFF page is a preview or raw sensor data", "a TIFF picture")
    pages = _pages(file_bytes, following, order, is_big)
    if pages > 1:
        raise FrameError(
            f"{path} contains {pages} pictures",
            found=pages,
            wanted=1,
            remedy="save the one you want as a separate file",
        )
    return ifd


def _directory(
    file_bytes: memoryview, at: int, order: str, is_big: bool
) -> tuple[dict[int, tuple[Any, ...] | bytes], int]:
    """The tags of the directory at an offset, and the offset of the next one."""
    count_type, entry_bytes, offset_type = ("Q", 20, "Q") if is_big else ("H", 12, "I")
    count = struct.unpack_from(order + count_type, file_bytes, at)[0]
    if not 0 < count <= _MAX_TAGS:
        raise ValueError(f"a directory of {count} tags")
    start = at + struct.calcsize(count_type)
    tags: dict[int, tuple[Any, ...] | bytes] = {}
    for entry in range(start, start + count * entry_bytes, entry_bytes):
        number, kind, length = struct.unpack_from(f"{order}HH{offset_type}", file_bytes, entry)
        value = _value(file_bytes, entry + 4 + struct.calcsize(offset_type), kind, length, order, offset_type)
        if value is not None:
            tags[number] = value
    return tags, struct.unpack_from(order + offset_type, file_bytes, start + count * entry_bytes)[0]


def _value(
    file_bytes: memoryview, field: int, kind: int, count: int, order: str, offset_type: str
) -> tuple[Any, ...] | bytes | None:
    codes = _RATIONALS.get(kind) or _FIELD_TYPES.get(kind) or ("s" if kind in _BYTES else None)
    if codes is None:
        return None
    size = count * struct.calcsize(f"={codes}")
    if size > struct.calcsize(offset_type):
        field = struct.unpack_from(order + offset_type, file_bytes, field)[0]
    if field + size > len(file_bytes):
        raise ValueError("a tag lies beyond the end of the file")
    if kind in _BYTES:
        return bytes(file_bytes[field : field + size])
    if kind in _RATIONALS:
        pairs = struct.unpack_from(f"{order}{count * 2}{codes[0]}", file_bytes, field)
        return tuple(pairs[at] / pairs[at + 1] if pairs[at + 1] else 0.0 for at in range(0, len(pairs), 2))
    return struct.unpack_from(f"{order}{count}{codes}", file_bytes, field)


def _pages(file_bytes: memoryview, following: int, order: str, is_big: bool) -> int:
    """The number of pages; thumbnails and transparency masks are none, but a chain without end is damaged."""
    pages, directories = 1, 1
    while following:
        tags, following = _directory(file_bytes, following, order, is_big)
        pages += not Ifd(tags, order).number(Tag.NEW_SUBFILE_TYPE, 0) & 0b101
        directories += 1
        if directories > _MAX_PAGES:
            raise ValueError("its pages form a chain without end")
    return pages


def refused(path: Path, what: str, wanted: str) -> FrameError:
    return FrameError(f"{path} {what}, which is not supported", found=path, wanted=wanted, remedy="save it as PNG")


_TYPE_OF_TAG = {
    Tag.WIDTH: _LONG,
    Tag.HEIGHT: _LONG,
    Tag.STRIP_OFFSETS: _LONG,
    Tag.ROWS_PER_STRIP: _LONG,
    Tag.STRIP_BYTE_COUNTS: _LONG,
    Tag.X_RESOLUTION: _RATIONAL,
    Tag.Y_RESOLUTION: _RATIONAL,
    Tag.JPEG_TABLES: _UNDEFINED,
    Tag.XMP: _BYTE,
    Tag.ICC_PROFILE: _UNDEFINED,
}
"""The types that Pillow would choose by the value, which for numbers depends on their size."""


def tiff_from_strips(tags: Mapping[int, Any], strips: Sequence[bytes]) -> bytes:
    """A little-endian TIFF file with one directory, to which the tags about the strips are added.

    Raises:
        ValueError: the file would be larger than 4 GB.
    """
    directory = TiffImagePlugin.ImageFileDirectory_v2(_HEADER)
    lengths = tuple(map(len, strips))
    # Pillow adds the end of the directory to the offsets of the strips, which follow it.
    places: dict[int, Any] = {
        Tag.STRIP_OFFSETS: tuple(np.cumsum([0, *lengths[:-1]]).tolist()),
        Tag.STRIP_BYTE_COUNTS: lengths,
    }
    every: dict[int, Any] = {**tags, **places}
    for tag, value in every.items():
        if tag in _TYPE_OF_TAG:
            directory.tagtype[tag] = _TYPE_OF_TAG[Tag(tag)]
        directory[tag] = value
    encoded = b"".join([_HEADER, directory.tobytes(len(_HEADER)), *strips])
    if len(encoded) >= 1 << 32:
        raise ValueError("TIFF files are limited to 4 GB")
    return encoded
