"""Reads and writes PNG, JPEG, TIFF and WebP files: 8 bits with Pillow, 16 bits with `sixteen_bit_files`.

The EXIF orientation is applied to the pixels. Colour profiles are kept, other metadata is not.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from sr_edge.errors import FrameError
from sr_edge.frames import Picture
from sr_edge.sixteen_bit_files import Samples, png_from_samples, samples_from_file_bytes, tiff_from_samples
from sr_edge.whole_file import whole_file

MAX_PIXELS = 1 << 27
"""Larger pictures are refused before decoding, because a file of a few kilobytes can claim any size."""


@dataclass(frozen=True)
class _Format:
    """The capabilities of a file format, and Pillow's options for writing it.

    The options keep the most quality that the format allows, with a low compression effort: the default effort of PNG
    and of lossless WebP takes 2 and 9 times as long for files that are 15 % smaller.
    """

    name: str
    suffixes: tuple[str, ...]
    bits: tuple[int, ...]
    alpha: bool
    longest_edge_px: int
    save_options: tuple[tuple[str, int | str | bool], ...]


_FORMATS = (
    _Format("PNG", (".png",), (8, 16), True, 2**31 - 1, (("compress_level", 3),)),
    _Format("JPEG", (".jpg", ".jpeg"), (8,), False, 65_500, (("quality", 95), ("subsampling", 0))),
    _Format("TIFF", (".tif", ".tiff"), (8, 16), True, 2**31 - 1, (("compression", "tiff_adobe_deflate"),)),
    _Format("WEBP", (".webp",), (8,), True, 16_383, (("lossless", True), ("exact", True), ("method", 0))),
)
_FORMAT_OF_SUFFIX = {suffix: form for form in _FORMATS for suffix in form.suffixes}
_NAMES = [form.name for form in _FORMATS]
# Pillow's name of a JPEG file that contains a second picture, as phones write them; the first is the photograph.
_MULTI_PICTURE_JPEG = "MPO"


def is_picture_name(path: Path) -> bool:
    """Whether the suffix, in upper or lower case, is that of a picture format."""
    return path.suffix.lower() in _FORMAT_OF_SUFFIX


def list_pictures(folder: Path, recursive: bool = False) -> list[Path]:
    """Lists the picture files in `folder`, recognised by their suffix and sorted by name; may be empty.

    Raises:
        FrameError: `folder` is not a folder.
    """
    if not folder.is_dir():
        raise FrameError(
            f"{folder} is not a folder",
            found=folder,
            wanted="a folder",
            remedy="give the folder that contains the pictures",
        )
    paths = folder.rglob("*") if recursive else folder.iterdir()
    hidden = "."
    return sorted(
        path for path in paths if is_picture_name(path) and not path.name.startswith(hidden) and path.is_file()
    )


def read_picture(path: Path) -> Picture:
    """Reads one picture: gray or RGB, with alpha if the file has it, 8 or 16 bits, upright.

    Palette and CMYK pictures are converted to RGB, the latter without their colour profile.

    Raises:
        FrameError: The file is missing, truncated, not a picture, of an unsupported kind, or larger than `MAX_PIXELS`.
    """
    with _vendor_errors_as_frame_errors(path), _opened(path) as image:
        layout = _stored_layout(path, image)
        if layout.bits > 16 or image.mode == "F":
            kind = "floating-point" if image.mode == "F" else "integer"
            raise FrameError(
                f"{path} has {layout.bits}-bit {kind} samples",
                found=layout.bits,
                wanted=(8, 16),
                remedy="save it with 8 or 16 bits per sample",
            )
        if layout.bits > 8:
            return _sixteen_bit_picture(path, image, layout.is_gray)
        return _eight_bit_picture(image)


@contextmanager
def _vendor_errors_as_frame_errors(path: Path) -> Iterator[None]:
    """Converts any error, since a damaged file can make a decoder raise nearly anything, and hides its warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except FrameError:
        raise
    except Image.DecompressionBombError as error:
        pixels = _pixels_in_message(error)
        raise _too_large(path, "far too many" if pixels is None else f"{pixels:,}", pixels) from error
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise FrameError(
                f"cannot read {path}: {error.strerror}", found=path, remedy="check its permissions and the disk"
            ) from error
        raise FrameError(
            f"{path} is damaged or truncated ({error})",
            found=path,
            wanted="a complete picture",
            remedy="copy or export it again",
        ) from error


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Opens the file, reads its header and makes all checks that need no pixels."""
    if path.is_dir():
        raise FrameError(f"{path} is a folder", found=path, wanted="a picture file", remedy="give one picture file")
    if not path.is_file():
        raise FrameError(f"there is no file {path}", found=path, wanted="an existing file", remedy="check the name")
    if path.stat().st_size == 0:
        raise FrameError(
            f"{path} is empty (0 bytes)", found=0, wanted="at least one byte", remedy="copy or export it again"
        )
    try:
        image = Image.open(path, formats=_NAMES)
    except UnidentifiedImageError as error:
        raise FrameError(
            f"{path} is not a readable picture in the formats {', '.join(_NAMES)}",
            found=path,
            wanted=_NAMES,
            remedy="convert it to one of these, or copy it again",
        ) from error
    with image:
        pixels = image.width * image.height
        if pixels > MAX_PIXELS:
            raise _too_large(path, f"{image.width}x{image.height}", pixels)
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != _MULTI_PICTURE_JPEG:
            raise FrameError(
                f"{path} contains {frames} pictures",
                found=frames,
                wanted=1,
                remedy="save the one you want as a separate file",
            )
        yield image


def _pixels_in_message(error: Image.DecompressionBombError) -> int | None:
    """The number of pixels, which Pillow's error has only in its message."""
    match = re.search(r"\((\d+) pixels\)", str(error))
    return int(match[1]) if match else None


def _too_large(path: Path, shown: str, pixels: int | None) -> FrameError:
    return FrameError(
        f"{path} has {shown} pixels, above the limit of {MAX_PIXELS:,}",
        found=pixels,
        wanted=MAX_PIXELS,
        remedy="cut it into smaller pictures",
    )


@dataclass(frozen=True)
class _Layout:
    """How a file stores its samples, which Pillow's mode does not show for 16 bits."""

    bits: int
    is_gray: bool


def _stored_layout(path: Path, image: Image.Image) -> _Layout:
    if image.format == "PNG":
        depth_offset, colour_type_offset = 24, 25
        with path.open("rb") as file:
            header = file.read(colour_type_offset + 1)
        return _Layout(header[depth_offset], header[colour_type_offset] in (0, 4))
    if image.format == "TIFF":
        bits = _tiff_tag(image, 258, (1,))
        return _Layout(max(bits), len(bits) < 3)
    return _Layout(8, image.mode == "L")


def _tiff_tag(image: Image.Image, number: int, absent: tuple[int, ...]) -> tuple[int, ...]:
    value: tuple[int, ...] = cast(TiffImagePlugin.TiffImageFile, image).tag_v2.get(number, absent)
    return value


def _eight_bit_picture(image: Image.Image) -> Picture:
    upright = ImageOps.exif_transpose(image)
    gray = upright.mode in ("1", "L", "LA", "La")
    mode = ("L" if gray else "RGB") + ("A" if upright.has_transparency_data else "")
    samples = np.asarray(upright if upright.mode == mode else upright.convert(mode))
    profile = None if upright.mode == "CMYK" else upright.info.get("icc_profile")
    return _picture_from_samples(samples.reshape(upright.height, upright.width, len(mode)), profile)


def _sixteen_bit_picture(path: Path, image: Image.Image, is_gray: bool) -> Picture:
    _require_readable_sixteen_bits(path, image, is_gray)
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    image.load()  # detects a damaged file, which OpenCV would decode in part without an error
    samples = samples_from_file_bytes(path.read_bytes())
    if samples is None:
        raise FrameError(
            f"{path} stores 16-bit samples in a layout that is not supported",
            found=path,
            wanted="PNG",
            remedy="save it as PNG",
        )
    if is_gray and samples.shape[2] == 4:
        samples = samples[..., (0, 3)]
    # OpenCV applies the orientation of a TIFF, but not that of a PNG.
    if image.format == "PNG":
        samples = _UPRIGHT.get(orientation, _as_stored)(samples)
    return _picture_from_samples(samples, image.info.get("icc_profile"))


def _require_readable_sixteen_bits(path: Path, image: Image.Image, is_gray: bool) -> None:
    if is_gray and "transparency" in image.info:
        raise FrameError(
            f"{path} marks one 16-bit gray level as transparent",
            found=path,
            wanted="an alpha channel",
            remedy="save it with an alpha channel",
        )
    if image.format != "TIFF":
        return
    extra_samples, premultiplied = 338, 1
    if premultiplied in _tiff_tag(image, extra_samples, ()):
        raise FrameError(
            f"{path} has premultiplied alpha with 16 bits per sample",
            found="premultiplied alpha",
            wanted="straight alpha",
            remedy="save it with straight alpha, or as PNG",
        )
    if not image.mode.startswith(("RGB", "I")):
        raise FrameError(
            f"{path} has {image.mode} colours with 16 bits per sample",
            found=image.mode,
            wanted="RGB",
            remedy="save it as RGB",
        )


def _as_stored(samples: Samples) -> Samples:
    return samples


_UPRIGHT: dict[int, Callable[[Samples], Samples]] = {
    2: np.fliplr,
    3: lambda samples: np.rot90(samples, 2),
    4: np.flipud,
    5: lambda samples: samples.transpose(1, 0, 2),
    6: lambda samples: np.rot90(samples, -1),
    7: lambda samples: np.rot90(samples, 2).transpose(1, 0, 2),
    8: np.rot90,
}
"""Functions that turn stored samples upright, by EXIF orientation."""


def _picture_from_samples(samples: npt.NDArray[Any], icc_profile: bytes | None) -> Picture:
    """Splits samples (height, width, 1 gray, 2 gray and alpha, 3 RGB or 4 RGBA) into colours and alpha."""
    if samples.shape[2] in (1, 3):
        return Picture(np.ascontiguousarray(samples), None, icc_profile or None)
    colours, alpha = np.ascontiguousarray(samples[..., :-1]), np.ascontiguousarray(samples[..., -1])
    return Picture(colours, alpha, icc_profile or None)


def require_format_supports(path: Path, picture: Picture, scale: int = 1) -> None:
    """Checks before the work that the format of `path` can store `picture`, upscaled `scale` times.

    Raises:
        FrameError: an unknown suffix, or a bit depth, alpha channel or size that the format does not support.
    """
    form = _FORMAT_OF_SUFFIX.get(path.suffix.lower())
    if form is None:
        raise FrameError(
            f"cannot write {path}: {path.suffix!r} is not the suffix of a supported picture format",
            found=path.suffix,
            wanted=list(_FORMAT_OF_SUFFIX),
            remedy=f"choose one of: {' '.join(_FORMAT_OF_SUFFIX)}",
        )
    needed = f"{picture.bits}-bit {'gray' if picture.is_gray else 'RGB'}{' with alpha' if _has_alpha(picture) else ''}"
    able = [other.name for other in _FORMATS if _supports(other, picture)]
    if form.name not in able:
        raise FrameError(
            f"{form.name} cannot store {needed} samples, which {path} would need",
            found=form.name,
            wanted=able,
            remedy=f"write {' or '.join(able)}",
        )
    height, width = picture.height * scale, picture.width * scale
    if max(height, width) > form.longest_edge_px:
        raise FrameError(
            f"{path} would be {width}x{height} pixels, but {form.name} allows at most {form.longest_edge_px} in height "
            "and width",
            found=(height, width),
            wanted=form.longest_edge_px,
            remedy="write PNG",
        )


def _has_alpha(picture: Picture) -> bool:
    return picture.alpha is not None


def _supports(form: _Format, picture: Picture) -> bool:
    # Neither library can read a TIFF of 16-bit gray with alpha.
    unreadable = form.name == "TIFF" and picture.bits == 16 and picture.is_gray and _has_alpha(picture)
    return picture.bits in form.bits and (form.alpha or not _has_alpha(picture)) and not unreadable


def write_picture(path: Path, picture: Picture) -> None:
    """Writes one picture in the format of the suffix, losslessly except for JPEG (quality 95, 4:4:4).

    The file is complete or not written at all. A gray picture becomes RGB in WebP, which has no gray.

    Raises:
        FrameError: The format cannot store the picture, or the file cannot be written.
    """
    require_format_supports(path, picture)
    try:
        with whole_file(path) as unfinished, unfinished.open("wb") as file:
            _encode(_FORMAT_OF_SUFFIX[path.suffix.lower()], picture, file)
    except (OSError, ValueError, struct.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise FrameError(
            f"cannot write {path}: {reason}",
            found=path,
            remedy="check the folder, its permissions and the free space",
        ) from error


def jpeg_from_frame(frame_hwc: npt.NDArray[np.uint8]) -> bytes:
    """Encodes (height, width, 3) RGB or (height, width, 1) gray as JPEG (quality 95, 4:4:4) in memory."""
    file = io.BytesIO()
    _encode(_FORMAT_OF_SUFFIX[".jpg"], Picture(frame_hwc), file)
    return file.getvalue()


def _encode(form: _Format, picture: Picture, file: IO[bytes]) -> None:
    samples = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
    if picture.bits == 16:
        encode = png_from_samples if form.name == "PNG" else tiff_from_samples
        file.write(encode(samples.astype(np.uint16, copy=False), picture.icc_profile))
        return
    # A profile for gray would be wrong for the RGB that a WebP file gets.
    profile = None if form.name == "WEBP" and picture.is_gray else picture.icc_profile
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[samples.shape[2]]
    image = Image.fromarray(samples[..., 0] if mode == "L" else samples)
    image.save(file, form.name, icc_profile=profile, **dict(form.save_options))
