"""Decodes the strips and tiles of a TIFF page into an array of its samples as stored."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from sr_edge.image_files.tiff.directory import Tag, tiff_from_strips
from sr_edge.image_files.tiff.layout import WEBP, Photometric, TiffLayout

Samples = npt.NDArray[Any]

_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
STRAIGHT_ALPHA = 2
_NONE, _DEFLATE, _CCITT = 1, (8, 32946), (2, 3, 4)


def read_samples(layout: TiffLayout, file_bytes: memoryview) -> Samples:
    """Decodes all segments.

    Returns:
        (height, width, samples): uint8 up to 8 bits, uint16 up to 16, else the floating-point type. JPEG and WebP give
        RGB where they store YCbCr; all other samples are as stored.

    Raises:
        ValueError, OSError, zlib.error: the file is damaged.
    """
    planes = layout.samples if layout.is_planar else 1
    rows, columns = layout.grid
    height, width = layout.segment_px
    samples = np.empty((layout.height, layout.width, layout.samples), _sample_dtype(layout))
    for index, (offset, length) in enumerate(layout.segments):
        plane, place = divmod(index, rows * columns)
        row, column = divmod(place, columns)
        top, left = row * height, column * width
        used_rows, used_columns = min(height, layout.height - top), min(width, layout.width - left)
        size = (height, width) if layout.is_tiled else (used_rows, width)
        channels = slice(plane, plane + 1) if planes > 1 else slice(None)
        segment = _segment(layout, bytes(file_bytes[offset : offset + length]), *size, plane if planes > 1 else None)
        samples[top : top + used_rows, left : left + used_columns, channels] = segment[:used_rows, :used_columns]
    return samples


def _sample_dtype(layout: TiffLayout) -> np.dtype[Any]:
    if layout.is_float:
        return np.dtype(f"f{layout.bits // 8}")
    return np.dtype(np.uint8 if layout.bits <= 8 else np.uint16)


def _segment(layout: TiffLayout, data: bytes, height: int, width: int, plane: int | None) -> Samples:
    """One strip or tile, (height, width, samples); with `plane`, only that sample of the pixel."""
    channels = layout.samples if plane is None else 1
    if layout.is_lossy:
        return _picture_in_segment(layout, data, height, width, channels)
    horizontal, vertical = layout.subsampling
    if (horizontal, vertical) == (1, 1):
        return _plain_samples(layout, data, height, width, channels)
    unit_rows, unit_columns = -(-height // vertical), -(-width // horizontal)
    units = _plain_samples(layout, data, unit_rows, unit_columns, horizontal * vertical + 2)
    return _subsampled(units, horizontal, vertical)[:height, :width]


def _subsampled(units: Samples, horizontal: int, vertical: int) -> Samples:
    """Expands data units of `horizontal * vertical` lumas, Cb and Cr to pixels (TIFF 6.0, section 21)."""
    rows, columns, _ = units.shape
    lumas = units[..., :-2].reshape(rows, columns, vertical, horizontal).transpose(0, 2, 1, 3)
    chroma = units[..., -2:].repeat(vertical, 0).repeat(horizontal, 1)
    return np.dstack([lumas.reshape(rows * vertical, columns * horizontal), chroma])


def _plain_samples(layout: TiffLayout, data: bytes, height: int, width: int, channels: int) -> Samples:
    if layout.ifd.number(Tag.FILL_ORDER, 1) == 2:
        data = data.translate(_REVERSED_BITS)
    values = width * channels
    row_bytes = -(-values * layout.bits // 8)
    raw = _decompressed(layout, data, height, values, row_bytes)
    if len(raw) < height * row_bytes:
        raise ValueError(f"a strip or tile has {len(raw)} instead of {height * row_bytes} bytes")
    rows = np.frombuffer(raw, np.uint8, height * row_bytes).reshape(height, row_bytes)
    return _unpacked(layout, rows, values).reshape(height, width, channels)


def _unpacked(layout: TiffLayout, rows: npt.NDArray[np.uint8], values: int) -> Samples:
    """The samples of rows of bytes, (height, values), with the predictor undone."""
    if layout.predictor == 3:
        return _undo_float_predictor(layout, rows, values)
    if layout.bits not in (8, 16, 32, 64):
        return _unpacked_bits(rows, layout.bits, values)
    byte_order, kind = layout.ifd.byte_order, "f" if layout.is_float else "u"
    stored = rows.view(f"{byte_order}u{layout.bits // 8}")
    if layout.predictor == 2:
        native = stored.astype(stored.dtype.newbyteorder("="))
        step = 1 if layout.is_planar else layout.samples
        stored = np.add.accumulate(native.reshape(len(rows), -1, step), axis=1, dtype=native.dtype).reshape(
            len(rows), -1
        )
        return stored.view(f"={kind}{layout.bits // 8}")
    return stored.view(f"{byte_order}{kind}{layout.bits // 8}")


def _unpacked_bits(rows: npt.NDArray[np.uint8], bits: int, values: int) -> Samples:
    dtype = np.uint8 if bits <= 8 else np.uint16
    single = np.unpackbits(rows, axis=1)[:, : values * bits].reshape(len(rows), values, bits)
    unpacked: Samples = np.zeros((len(rows), values), dtype)
    for bit in range(bits):
        unpacked = (unpacked << 1) | single[..., bit]
    return unpacked


def _undo_float_predictor(layout: TiffLayout, rows: npt.NDArray[np.uint8], values: int) -> Samples:
    """Differences of bytes, which are stored by significance: first the highest byte of all values (Adobe, 2005)."""
    step, size = 1 if layout.is_planar else layout.samples, layout.bits // 8
    summed = np.add.accumulate(rows.reshape(len(rows), -1, step), axis=1, dtype=np.uint8)
    by_significance = summed.reshape(len(rows), size, values)
    return np.ascontiguousarray(by_significance.transpose(0, 2, 1)).view(f">f{size}").reshape(len(rows), values)


def _decompressed(layout: TiffLayout, data: bytes, height: int, values: int, row_bytes: int) -> bytes:
    """The bytes of one segment; at most those that its size needs, whatever the file claims."""
    if layout.compression == _NONE:
        return data
    if layout.compression in _DEFLATE:
        return zlib.decompressobj().decompress(data, height * row_bytes)
    if layout.compression in _CCITT:
        return _decoded_by_libtiff(layout, data, height, values, bits=1)
    return _decoded_by_libtiff(layout, data, height, row_bytes, bits=8)


def _decoded_by_libtiff(layout: TiffLayout, data: bytes, height: int, width: int, bits: int) -> bytes:
    """Lets Pillow's libtiff decompress a segment as the strip of a gray picture whose pixels are its bytes or bits."""
    options: dict[int, Any] = {
        tag: layout.ifd.number(tag, 0) for tag in (Tag.T4_OPTIONS, Tag.T6_OPTIONS) if tag in layout.ifd.tags
    }
    tags: dict[int, Any] = {Tag.BITS_PER_SAMPLE: bits, Tag.PHOTOMETRIC: Photometric.BLACK_IS_ZERO, **options}
    return _one_strip_image(layout, data, height, width, 1, tags).tobytes()


def _picture_in_segment(layout: TiffLayout, data: bytes, height: int, width: int, channels: int) -> Samples:
    """Decodes a segment that is a JPEG or WebP picture; JPEG such that Pillow converts YCbCr and nothing else."""
    if layout.compression == WEBP:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
            return _of_shape(np.asarray(image), height, width, channels)
    is_gray = channels < 3 or layout.is_planar
    photometric = Photometric.BLACK_IS_ZERO if is_gray else layout.photometric
    tags: dict[int, Any] = {Tag.BITS_PER_SAMPLE: (8,) * channels, Tag.PHOTOMETRIC: photometric}
    if photometric is Photometric.YCBCR:
        tags[Tag.YCBCR_SUBSAMPLING] = layout.subsampling
    if channels > photometric.channels:
        tags[Tag.EXTRA_SAMPLES] = STRAIGHT_ALPHA
    if layout.ifd.data(Tag.JPEG_TABLES):
        tags[Tag.JPEG_TABLES] = layout.ifd.data(Tag.JPEG_TABLES)
    return _of_shape(np.asarray(_one_strip_image(layout, data, height, width, channels, tags)), height, width, channels)


def _of_shape(decoded: Samples, height: int, width: int, channels: int) -> Samples:
    if decoded.size != height * width * channels:
        raise ValueError("a strip or tile is a picture of another kind than its file")
    return decoded.reshape(height, width, channels)


def _one_strip_image(
    layout: TiffLayout,
    data: bytes,
    height: int,
    width: int,
    channels: int,
    tags: Mapping[int, Any],
) -> Image.Image:
    every: dict[int, Any] = {
        Tag.WIDTH: width,
        Tag.HEIGHT: height,
        Tag.COMPRESSION: layout.compression,
        Tag.SAMPLES_PER_PIXEL: channels,
        Tag.ROWS_PER_STRIP: height,
        **tags,
    }
    image = TiffImagePlugin.TiffImageFile(io.BytesIO(tiff_from_strips(every, [data])))
    image.load()
    return image
