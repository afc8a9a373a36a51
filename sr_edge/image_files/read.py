"""Reads picture files: gray or RGB of 8 or 16 bits, with or without alpha, upright, with their metadata."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from sr_edge.errors import FrameError
from sr_edge.frames import NO_METADATA, Picture, PictureMetadata, max_sample_value
from sr_edge.image_files.cmyk import profile_fits, rgb_from_cmyk
from sr_edge.image_files.depth import stored_bits
from sr_edge.image_files.formats import read_formats
from sr_edge.image_files.metadata import read_metadata, read_tiff_metadata
from sr_edge.image_files.sixteen_bit import samples_from_file_bytes
from sr_edge.image_files.stored import Samples, StoredPicture, turned_upright
from sr_edge.image_files.tiff.read import is_tiff, read_tiff

MAX_PIXELS = 1 << 27
"""Larger pictures are refused before decoding, because a file of a few kilobytes can claim any size."""

# Pillow's name of a JPEG file that contains a second picture, as phones write them; the first is the photograph.
_MULTI_PICTURE_JPEG = "MPO"
_GRAY_MODES = ("1", "L", "LA", "La")
_COLOUR_MODES = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "YCbCr")
_PNG_COLOUR_TYPE, _GRAY_WITH_ALPHA = 25, 4
_DEEP_GRAY_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")


def read_picture(path: Path) -> Picture:
    """Reads one picture: gray or RGB, with alpha if the file has it, 8 or 16 bits, upright.

    The format is recognised by the content. Palette and CMYK pictures are converted to RGB. The `notes` of the picture
    say what was converted or left out.

    Raises:
        FrameError: The file is missing, truncated, not a picture, of an unsupported kind, an animation, or larger than
            `MAX_PIXELS`.
    """
    with _vendor_errors_as_frame_errors(path):
        _require_file(path)
        if is_tiff(path):
            stored, ifd = read_tiff(path, MAX_PIXELS)
            metadata, lost = read_tiff_metadata(path, ifd)
        else:
            with _opened(path) as image:
                metadata, lost = read_metadata(path, image)
                stored = _decoded(path, image)
    return _picture(stored, metadata, lost)


def _picture(stored: StoredPicture, metadata: PictureMetadata = NO_METADATA, lost: Sequence[str] = ()) -> Picture:
    profile, notes = stored.icc_profile, (*stored.notes, *lost)
    if profile and not profile_fits(profile, stored.colours.shape[2]):
        profile, notes = None, (*notes, "the colour profile is left out, because it does not fit the pixels")
    return Picture(stored.colours, stored.alpha, profile, metadata, notes)


def picture_from_image(image: Image.Image) -> Picture:
    """The picture in an image of Pillow, as `read_picture` reads it from a file, upright.

    Of an animation it is the current frame. Metadata other than the colour profile stay with the image.

    Raises:
        FrameError: The image is empty, damaged, or has a mode that is neither gray nor colour.
    """
    name = getattr(image, "filename", "") or "the image"
    if not image.width * image.height:
        raise FrameError(
            f"an image of {image.width}x{image.height} pixels is empty",
            found=(image.height, image.width),
            wanted="at least one pixel",
            remedy="give an image with pixels",
        )
    with _vendor_errors_as_frame_errors(Path(name)):
        stored = _decoded_image(Path(name), image, bits=8)
    return _picture(stored)


def count_frames(path: Path) -> int:
    """The number of pictures in a file, more than 1 for an animation; 0 if it is not readable as a picture."""
    try:
        with _vendor_errors_as_frame_errors(path), Image.open(path, formats=read_formats()) as image:
            return 1 if image.format == _MULTI_PICTURE_JPEG else int(getattr(image, "n_frames", 1))
    except (FrameError, UnidentifiedImageError):
        return 0


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


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise FrameError(f"{path} is a folder", found=path, wanted="a picture file", remedy="give one picture file")
    if not path.exists():
        raise FrameError(f"there is no file {path}", found=path, wanted="an existing file", remedy="check the name")
    if not path.is_file():
        raise FrameError(
            f"{path} is a device or a pipe", found=path, wanted="a picture file", remedy="give one picture file"
        )
    if path.stat().st_size == 0:
        raise FrameError(
            f"{path} is empty (0 bytes)", found=0, wanted="at least one byte", remedy="copy or export it again"
        )


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Opens the file, reads its header and makes all checks that need no pixels."""
    names = read_formats()
    try:
        image = Image.open(path, formats=names)
    except UnidentifiedImageError as error:
        shown = ", ".join(names[:-1])
        raise FrameError(
            f"{path} is not a readable picture in the formats {shown} or {names[-1]}",
            found=path,
            wanted=names,
            remedy="convert it to one of these, or copy it again",
        ) from error
    with image:
        pixels = image.width * image.height
        if pixels > MAX_PIXELS:
            raise _too_large(path, f"{image.width}x{image.height}", pixels)
        frames = 1 if image.format == _MULTI_PICTURE_JPEG else getattr(image, "n_frames", 1)
        if frames > 1:
            raise FrameError(
                f"{path} contains {frames} pictures",
                found=frames,
                wanted=1,
                remedy="save the one you want as a separate file, or upscale the file alone to a video",
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


def _decoded(path: Path, image: Image.Image) -> StoredPicture:
    bits = stored_bits(path, image)
    if image.format == "PNG" and bits > 8 and image.mode not in _DEEP_GRAY_MODES:
        return _sixteen_bit_png(path, image)
    return _decoded_image(path, image, bits)


def _decoded_image(path: Path, image: Image.Image, bits: int) -> StoredPicture:
    if image.mode in _DEEP_GRAY_MODES:
        return _deep_gray_picture(path, image)
    if image.mode not in (*_GRAY_MODES, *_COLOUR_MODES, "CMYK"):
        kind = "floating-point samples" if image.mode == "F" else f"{image.mode} colours"
        raise FrameError(f"{path} has {kind}", found=image.mode, wanted="gray or RGB", remedy="save it as RGB")
    return _eight_bit_picture(image, bits)


def _eight_bit_picture(image: Image.Image, bits: int) -> StoredPicture:
    notes = [f"{bits}-bit samples were reduced to 8 bits"] if bits > 8 else []
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "CMYK":
        rgb, note = rgb_from_cmyk(np.asarray(upright), upright.info.get("icc_profile"))
        return StoredPicture(rgb, notes=(*notes, note))
    mode = ("L" if upright.mode in _GRAY_MODES else "RGB") + ("A" if upright.has_transparency_data else "")
    samples = np.asarray(upright if upright.mode == mode else upright.convert(mode))
    return _split(samples.reshape(upright.height, upright.width, len(mode)), upright, notes)


def _deep_gray_picture(path: Path, image: Image.Image) -> StoredPicture:
    """Gray of 16 bits, in which one level may be declared to be transparent."""
    gray = np.asarray(image)
    lowest, highest, largest = int(gray.min()), int(gray.max()), max_sample_value(np.uint16)
    if lowest < 0 or highest > largest:
        raise FrameError(
            f"{path} has samples from {lowest} to {highest}",
            found=(lowest, highest),
            wanted=(0, largest),
            remedy="scale them to 16 bits",
        )
    samples = turned_upright(gray.astype(np.uint16), image.getexif().get(ExifTags.Base.Orientation, 1))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        alpha = np.where(samples == transparent, 0, max_sample_value(np.uint16)).astype(np.uint16)
        samples = np.dstack([samples, alpha])
    return _split(samples.reshape(*samples.shape[:2], -1), image, [])


def _sixteen_bit_png(path: Path, image: Image.Image) -> StoredPicture:
    """16-bit PNG with colour or alpha, which Pillow would reduce to 8 bits."""
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    image.load()  # detects a damaged file, which OpenCV would decode in part without an error
    file_bytes = path.read_bytes()
    samples = samples_from_file_bytes(file_bytes)
    if samples is None:
        raise FrameError(
            f"{path} stores 16-bit samples in a layout that is not supported",
            found=path,
            wanted="8 bits",
            remedy="save it as PNG",
        )
    if file_bytes[_PNG_COLOUR_TYPE] == _GRAY_WITH_ALPHA and samples.shape[2] == 4:
        samples = samples[..., (0, 3)]
    return _split(turned_upright(samples, orientation), image, [])


def _split(samples: Samples, image: Image.Image, notes: Sequence[str]) -> StoredPicture:
    """Splits samples (height, width, 1 gray, 2 gray and alpha, 3 RGB or 4 RGBA) into colours and alpha."""
    profile = image.info.get("icc_profile") or None
    if samples.shape[2] in (1, 3):
        return StoredPicture(np.ascontiguousarray(samples), None, profile, tuple(notes))
    colours, alpha = np.ascontiguousarray(samples[..., :-1]), np.ascontiguousarray(samples[..., -1])
    return StoredPicture(colours, alpha, profile, tuple(notes))
