"""Reads TIFF files: every photometric interpretation of gray, RGB, palette, CMYK and YCbCr becomes gray or RGB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sr_edge.errors import FrameError
from sr_edge.frames import max_sample_value
from sr_edge.image_files.cmyk import rgb_from_cmyk
from sr_edge.image_files.stored import StoredPicture, turned_upright
from sr_edge.image_files.tiff.directory import Ifd, Tag, read_ifd
from sr_edge.image_files.tiff.layout import Photometric, TiffLayout, read_layout
from sr_edge.image_files.tiff.segments import STRAIGHT_ALPHA, Samples, read_samples

_PREMULTIPLIED_ALPHA = 1
_CORELDRAW_ALPHA = 999
_ALPHA = (_PREMULTIPLIED_ALPHA, STRAIGHT_ALPHA, _CORELDRAW_ALPHA)
_ROUNDING = 1e-3
"""How far floating-point samples may lie outside of the range 0 to 1."""


def is_tiff(path: Path) -> bool:
    """Whether the content is that of a TIFF or BigTIFF file."""
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_tiff(path: Path, max_pixels: int) -> tuple[StoredPicture, Ifd]:
    """Reads the only page, upright, as gray or RGB of 8 or 16 bits with straight alpha, and its tags.

    Samples of fewer than 8 bits become 8 bits, all others 16 bits; floating-point samples must be from 0 to 1.

    Raises:
        FrameError: a variant that is not supported, several pages, or more than `max_pixels` pixels.
        Exception: the file is damaged.
    """
    file_bytes = memoryview(path.read_bytes())
    ifd = read_ifd(path, file_bytes)
    width, height = ifd.number(Tag.WIDTH, 0), ifd.number(Tag.HEIGHT, 0)
    if width * height > max_pixels:
        raise FrameError(
            f"{path} has {width}x{height} pixels, above the limit of {max_pixels:,}",
            found=width * height,
            wanted=max_pixels,
            remedy="cut it into smaller pictures",
        )
    layout = read_layout(path, ifd, len(file_bytes))
    samples = read_samples(layout, file_bytes)
    colours, alpha, notes = _colours_and_alpha(path, layout, samples)
    profile = ifd.data(Tag.ICC_PROFILE) or None
    if layout.photometric is Photometric.CMYK:
        colours, note = rgb_from_cmyk(colours, profile)
        profile, notes = None, [*notes, note]
    orientation = ifd.number(Tag.ORIENTATION, 1)
    upright_alpha = None if alpha is None else turned_upright(alpha, orientation)
    return StoredPicture(turned_upright(colours, orientation), upright_alpha, profile, tuple(notes)), ifd


def _colours_and_alpha(path: Path, layout: TiffLayout, samples: Samples) -> tuple[Samples, Samples | None, list[str]]:
    """Splits pixels into colours, still CMYK where they are stored so, and straight alpha (height, width)."""
    notes = []
    count = layout.photometric.channels
    kinds = layout.ifd.numbers(Tag.EXTRA_SAMPLES)
    extra = layout.samples - count
    if extra and not kinds and layout.photometric is Photometric.RGB and extra == 1:
        kinds = (STRAIGHT_ALPHA,)  # written without the tag by old programs
    place = next((index for index, kind in enumerate(kinds[:extra]) if kind in _ALPHA), None)
    if extra > (place is not None):
        notes.append("samples beside the colours and the opacity are left out")
    is_palette = layout.photometric is Photometric.PALETTE
    stored = samples[..., :count]
    colours = _looked_up(layout, stored[..., 0]) if is_palette else _converted(layout, _integers(path, layout, stored))
    if place is None:
        return colours, None, notes
    alpha = np.ascontiguousarray(_integers(path, layout, samples[..., count + place]))
    if alpha.dtype != colours.dtype:  # beside a palette of more than 8 bits
        alpha = (alpha >> 8).astype(np.uint8)
    if kinds[place] == _PREMULTIPLIED_ALPHA:
        colours = _straight(colours, alpha)
    return colours, alpha, notes


def _integers(path: Path, layout: TiffLayout, samples: Samples) -> Samples:
    """The samples in the full range of uint8 or uint16."""
    if layout.is_float:
        return _from_floats(path, samples)
    if layout.bits in (8, 16):
        return samples
    target, largest = (255, np.uint8) if layout.bits < 8 else (65535, np.uint16)
    steps = (1 << layout.bits) - 1
    return ((samples.astype(np.uint32) * target + steps // 2) // steps).astype(largest)


def _from_floats(path: Path, samples: Samples) -> npt.NDArray[np.uint16]:
    least, most = float(samples.min()), float(samples.max())
    if not (least >= -_ROUNDING and most <= 1 + _ROUNDING):
        raise FrameError(
            f"{path} has floating-point samples from {least:g} to {most:g}",
            found=(least, most),
            wanted=(0.0, 1.0),
            remedy="scale them to the range 0 to 1, or save it with 16 bits per sample",
        )
    return np.rint(np.clip(samples, 0, 1).astype(np.float64) * 65535).astype(np.uint16)


def _converted(layout: TiffLayout, colours: Samples) -> Samples:
    if layout.photometric is Photometric.WHITE_IS_ZERO:
        return max_sample_value(colours.dtype) - colours
    if layout.photometric is Photometric.YCBCR and not layout.is_lossy:
        return _rgb_from_ycbcr(layout.ifd, colours)
    return colours


def _looked_up(layout: TiffLayout, indices: Samples) -> npt.NDArray[np.uint8]:
    """The colours of a palette, whose 16-bit values are reduced to the 8 bits that all programs store in it."""
    palette = np.array(layout.ifd.numbers(Tag.COLOR_MAP)).reshape(3, 1 << layout.bits).T
    is_eight_bit = palette.max() < 256  # written by old programs, against the specification
    colours: npt.NDArray[np.uint8] = (palette if is_eight_bit else palette >> 8).astype(np.uint8)
    return colours[indices]


def _rgb_from_ycbcr(ifd: Ifd, ycbcr: Samples) -> Samples:
    """TIFF 6.0, sections 20 and 21: full-range luma and chroma unless ReferenceBlackWhite declares other codes."""
    largest = max_sample_value(ycbcr.dtype)
    middle = (largest + 1) // 2
    codes = ifd.numbers(Tag.REFERENCE_BLACK_WHITE, (0, largest, middle, largest, middle, largest))
    red, green, blue = ifd.numbers(Tag.YCBCR_COEFFICIENTS, (0.299, 0.587, 0.114))
    luma, cb, cr = (
        (ycbcr[..., channel].astype(np.float64) - black) * (coding / max(white - black, 1e-9))
        for channel, (black, white, coding) in enumerate(
            zip(codes[::2], codes[1::2], (largest, largest - middle, largest - middle), strict=True)
        )
    )
    r = luma + cr * (2 - 2 * red)
    b = luma + cb * (2 - 2 * blue)
    g = (luma - red * r - blue * b) / green
    rgb: Samples = np.rint(np.clip(np.dstack([r, g, b]), 0, largest)).astype(ycbcr.dtype)
    return rgb


def _straight(colours: Samples, alpha: Samples) -> Samples:
    """Divides premultiplied colours by alpha; black where nothing is visible."""
    largest: Any = max_sample_value(colours.dtype)
    opacity = alpha[..., None].astype(np.float64)
    divided = colours * (largest / np.maximum(opacity, 1))
    straight: Samples = np.where(opacity > 0, np.rint(np.clip(divided, 0, largest)), 0).astype(colours.dtype)
    return straight
