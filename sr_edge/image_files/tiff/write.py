"""Writes TIFF files of 8 or 16 bits: one page of Deflate-compressed strips.

Pillow writes no 16-bit colour; OpenCV omits the tag that declares the fourth sample to be alpha, and all metadata.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from sr_edge.frames import Picture, PictureMetadata
from sr_edge.image_files.tiff.directory import Tag, tiff_from_strips
from sr_edge.image_files.tiff.layout import Photometric

_DEFLATE, _DIFFERENCES, _STRAIGHT_ALPHA, _INCH = 8, 2, 2, 2
_STRIP_BYTES = 1 << 20
_COMPRESSION_LEVEL = 3


def tiff_from_picture(picture: Picture) -> bytes:
    """Encodes gray or RGB, with or without alpha, as a little-endian TIFF file; raises ValueError above 4 GB."""
    samples = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
    height, width, channels = samples.shape
    rows = max(1, _STRIP_BYTES // samples[:1].nbytes)
    strips = [_strip(samples[top : top + rows]) for top in range(0, height, rows)]
    tags: dict[int, Any] = {
        Tag.WIDTH: width,
        Tag.HEIGHT: height,
        Tag.BITS_PER_SAMPLE: (picture.bits,) * channels,
        Tag.COMPRESSION: _DEFLATE,
        Tag.PHOTOMETRIC: Photometric.BLACK_IS_ZERO if picture.is_gray else Photometric.RGB,
        Tag.SAMPLES_PER_PIXEL: channels,
        Tag.ROWS_PER_STRIP: rows,
        Tag.PLANAR_CONFIGURATION: 1,
        Tag.PREDICTOR: _DIFFERENCES,
    }
    if picture.alpha is not None:
        tags[Tag.EXTRA_SAMPLES] = _STRAIGHT_ALPHA
    if picture.icc_profile:
        tags[Tag.ICC_PROFILE] = picture.icc_profile
    return tiff_from_strips({**tags, **_described(picture.metadata)}, strips)


def _strip(samples: npt.NDArray[np.unsignedinteger[Any]]) -> bytes:
    differences = samples.copy()
    np.subtract(samples[:, 1:], samples[:, :-1], out=differences[:, 1:])
    return zlib.compress(differences.astype(samples.dtype.newbyteorder("<")).tobytes(), _COMPRESSION_LEVEL)


def _described(metadata: PictureMetadata) -> dict[int, Any]:
    tags: dict[int, Any] = {}
    if metadata.exif:
        exif = Image.Exif()
        exif.load(metadata.exif)
        tags.update(exif)
        directories = {key: dict(exif.get_ifd(key)) for key in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)}
        tags.update({key: entries for key, entries in directories.items() if entries})
    if metadata.xmp:
        tags[Tag.XMP] = metadata.xmp
    if metadata.dpi:
        tags |= {Tag.X_RESOLUTION: metadata.dpi[0], Tag.Y_RESOLUTION: metadata.dpi[1], Tag.RESOLUTION_UNIT: _INCH}
    return tags
