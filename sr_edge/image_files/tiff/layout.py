"""How the samples of a TIFF page are stored, checked before one is read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from sr_edge.errors import FrameError
from sr_edge.image_files.tiff.directory import Ifd, Tag, refused

MAX_SAMPLES_PER_PIXEL = 16
_JPEG, WEBP = 7, 50001
_COMPRESSIONS = {
    1: "none",
    2: "CCITT RLE",
    3: "CCITT group 3",
    4: "CCITT group 4",
    5: "LZW",
    _JPEG: "JPEG",
    8: "Deflate",
    32773: "PackBits",
    32946: "Deflate",
    34925: "LZMA",
    50000: "Zstandard",
    WEBP: "WebP",
}


class Photometric(IntEnum):
    """The photometric interpretations that are converted; all others are refused."""

    WHITE_IS_ZERO = 0
    BLACK_IS_ZERO = 1
    RGB = 2
    PALETTE = 3
    CMYK = 5
    YCBCR = 6

    @property
    def channels(self) -> int:
        """Samples of one pixel that are colours."""
        return {Photometric.RGB: 3, Photometric.YCBCR: 3, Photometric.CMYK: 4}.get(self, 1)


_REFUSED_INTERPRETATIONS = {
    4: "a transparency mask",
    8: "Lab",
    9: "ICC Lab",
    10: "ITU Lab",
    32803: "a colour filter array",
}
_INTEGER, _FLOAT = 1, 3


@dataclass(frozen=True)
class TiffLayout:
    """How the samples of a page are stored, all values within what this package decodes.

    Attributes:
        ifd: The tags.
        width: Width of the picture.
        height: Height of the picture.
        bits: Bits of one sample, 1 to 16, or 16, 32 or 64 for floating point.
        is_float: Whether the samples are floating-point numbers.
        samples: Samples of one pixel, with opacity and unused ones.
        photometric: Meaning of the colours.
        is_planar: Whether each sample of the pixel has segments of its own.
        compression: Number of the compression.
        predictor: 1 none, 2 differences of neighbours, 3 the same for floating point.
        segment_px: Height and width of a tile, or of a strip of whole rows.
        is_tiled: Whether the segments are tiles, which extend beyond the picture at the right and the bottom.
        segments: Offset and length of each segment.
        subsampling: Horizontal and vertical subsampling of the chroma.
    """

    ifd: Ifd
    width: int
    height: int
    bits: int
    is_float: bool
    samples: int
    photometric: Photometric
    is_planar: bool
    compression: int
    predictor: int
    segment_px: tuple[int, int]
    is_tiled: bool
    segments: tuple[tuple[int, int], ...]
    subsampling: tuple[int, int]

    @property
    def is_lossy(self) -> bool:
        """Whether the segments are JPEG or WebP pictures, whose decoder gives RGB instead of YCbCr."""
        return self.compression in (_JPEG, WEBP)

    @property
    def grid(self) -> tuple[int, int]:
        """Segments from top to bottom and from left to right."""
        (height, width) = self.segment_px
        return -(-self.height // height), -(-self.width // width)


def read_layout(path: Path, ifd: Ifd, file_size: int) -> TiffLayout:
    """Checks the tags and collects what the decoder needs.

    Raises:
        FrameError: a value that is not decoded; the message names it.
        ValueError: the tags contradict each other, as those of a damaged file do.
    """
    width, height = ifd.number(Tag.WIDTH, 0), ifd.number(Tag.HEIGHT, 0)
    samples = ifd.number(Tag.SAMPLES_PER_PIXEL, 1)
    photometric = _photometric(path, ifd)
    if width < 1 or height < 1 or not photometric.channels <= samples <= MAX_SAMPLES_PER_PIXEL:
        raise ValueError(f"{width}x{height} pixels of {samples} samples")
    compression = ifd.number(Tag.COMPRESSION, 1)
    if compression not in _COMPRESSIONS:
        known = ", ".join(dict.fromkeys(_COMPRESSIONS.values()))
        raise refused(path, f"uses the TIFF compression {compression}", known)
    bits, is_float = _sample_type(path, ifd, samples)
    is_tiled = Tag.TILE_WIDTH in ifd.tags
    segment_px = (
        (ifd.number(Tag.TILE_HEIGHT, 0), ifd.number(Tag.TILE_WIDTH, 0))
        if is_tiled
        else (min(ifd.number(Tag.ROWS_PER_STRIP, height), height), width)
    )
    layout = TiffLayout(
        ifd,
        width,
        height,
        bits,
        is_float,
        samples,
        photometric,
        ifd.number(Tag.PLANAR_CONFIGURATION, 1) == 2 and samples > 1,
        compression,
        ifd.number(Tag.PREDICTOR, 1),
        segment_px,
        is_tiled,
        _segments(ifd, is_tiled, file_size),
        _subsampling(ifd, photometric),
    )
    _require_decodable(path, layout)
    return layout


def _photometric(path: Path, ifd: Ifd) -> Photometric:
    number = ifd.number(Tag.PHOTOMETRIC, Photometric.BLACK_IS_ZERO)
    if number not in set(Photometric):
        interpretation = _REFUSED_INTERPRETATIONS.get(number, f"the photometric interpretation {number}")
        raise refused(path, f"stores {interpretation}", "gray, RGB, palette, CMYK or YCbCr")
    inks = 1
    if number == Photometric.CMYK and ifd.number(Tag.INK_SET, inks) != inks:
        raise refused(path, "stores inks that are not CMYK", "CMYK")
    return Photometric(number)


def _sample_type(path: Path, ifd: Ifd, samples: int) -> tuple[int, bool]:
    sizes, formats = ifd.numbers(Tag.BITS_PER_SAMPLE, (1,)), ifd.numbers(Tag.SAMPLE_FORMAT, (_INTEGER,))
    if len(set(sizes[:samples])) != 1 or len(set(formats)) != 1:
        raise refused(path, f"has samples of different types ({sizes} bits)", "one type")
    bits, kind = int(sizes[0]), int(formats[0])
    if kind == _FLOAT and bits in (16, 32, 64):
        return bits, True
    if kind in (_INTEGER, 4) and 1 <= bits <= 16:
        return bits, False
    names = {_INTEGER: "integer", 2: "signed integer", _FLOAT: "floating-point", 5: "complex", 6: "complex"}
    raise FrameError(
        f"{path} has {bits}-bit {names.get(kind, 'undefined')} samples",
        found=bits,
        wanted=(8, 16),
        remedy="save it with 8 or 16 unsigned bits per sample",
    )


def _segments(ifd: Ifd, is_tiled: bool, file_size: int) -> tuple[tuple[int, int], ...]:
    offsets = ifd.numbers(Tag.TILE_OFFSETS if is_tiled else Tag.STRIP_OFFSETS)
    lengths = ifd.numbers(Tag.TILE_BYTE_COUNTS if is_tiled else Tag.STRIP_BYTE_COUNTS)
    if not lengths and len(offsets) == 1:  # allowed by old writers, for one uncompressed strip
        lengths = (max(0, file_size - offsets[0]),)
    segments = tuple(zip(offsets, lengths, strict=True))
    if any(offset + length > file_size for offset, length in segments):
        raise ValueError("a strip or tile lies beyond the end of the file")
    return segments


def _subsampling(ifd: Ifd, photometric: Photometric) -> tuple[int, int]:
    if photometric is not Photometric.YCBCR:
        return 1, 1
    horizontal, vertical = ifd.numbers(Tag.YCBCR_SUBSAMPLING, (2, 2))
    return horizontal, vertical


def _require_decodable(path: Path, layout: TiffLayout) -> None:
    """Raises FrameError for a combination that is not decoded, and ValueError for one that cannot be."""
    (segment_height, segment_width), (rows, columns) = layout.segment_px, layout.grid
    if min(segment_height, segment_width) < 1 or (layout.is_tiled and max(layout.segment_px) > 1 << 16):
        raise ValueError(f"strips or tiles of {segment_width}x{segment_height} pixels")
    if len(layout.segments) != rows * columns * (layout.samples if layout.is_planar else 1):
        raise ValueError(f"{len(layout.segments)} strips or tiles for {layout.width}x{layout.height} pixels")
    if not {*layout.subsampling} <= {1, 2, 4}:
        raise ValueError(f"a chroma subsampling of {layout.subsampling}")
    is_subsampled = layout.subsampling != (1, 1)
    colours = layout.photometric.name.replace("_", " ")
    if layout.predictor not in (1, 2, 3) or (layout.predictor == 3) > layout.is_float:
        raise refused(path, f"uses the TIFF predictor {layout.predictor}", "1, 2 or 3")
    if layout.predictor != 1 and (is_subsampled or layout.bits not in (8, 16, 32, 64) or layout.is_lossy):
        raise refused(path, f"uses a predictor with {layout.bits}-bit {colours} samples", "no predictor")
    if layout.is_float and layout.photometric not in (Photometric.BLACK_IS_ZERO, Photometric.RGB):
        raise refused(path, f"has floating-point {colours} samples", "gray or RGB")
    if layout.photometric is Photometric.YCBCR and (layout.bits not in (8, 16) or layout.samples != 3):
        raise refused(path, f"has {layout.samples} {layout.bits}-bit YCbCr samples per pixel", "3 of 8 or 16 bits")
    if layout.compression in (2, 3, 4) and (layout.bits, layout.samples) != (1, 1):
        raise refused(path, f"uses CCITT compression with {layout.bits}-bit samples", "1-bit gray")
    if is_subsampled and layout.is_planar:
        raise refused(path, "stores subsampled chroma in separate planes", "interleaved samples")
    if layout.is_lossy and (layout.bits != 8 or layout.samples > 4):
        what = f"uses JPEG or WebP compression with {layout.samples} {layout.bits}-bit samples per pixel"
        raise refused(path, what, "up to 4 of 8 bits")
