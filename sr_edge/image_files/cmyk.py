"""Conversion of CMYK and the check that a colour profile belongs to the samples beside it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from sr_edge.frames import max_sample_value

Samples = npt.NDArray[Any]

_SPACE = slice(16, 20)
_SPACE_OF_CHANNELS = {1: b"GRAY", 3: b"RGB ", 4: b"CMYK"}
_SMALLEST_PROFILE_BYTES = 128


def profile_fits(icc_profile: bytes, channels: int) -> bool:
    """Whether the header of an ICC profile names the colour space of 1 (gray), 3 (RGB) or 4 (CMYK) channels."""
    return len(icc_profile) >= _SMALLEST_PROFILE_BYTES and icc_profile[_SPACE] == _SPACE_OF_CHANNELS[channels]


def rgb_from_cmyk(cmyk: Samples, icc_profile: bytes | None) -> tuple[Samples, str]:
    """Converts (height, width, 4), 0 for no ink, to sRGB: with the profile if it is usable, else without.

    Profiles apply to 8 bits only, for which Pillow calls Little CMS.

    Returns:
        (height, width, 3) of the same type, and a note that says which conversion it was.
    """
    if icc_profile and profile_fits(icc_profile, 4) and cmyk.dtype == np.uint8:
        converted = _converted_with_profile(np.ascontiguousarray(cmyk, np.uint8), icc_profile)
        if converted is not None:
            return converted, "CMYK was converted to sRGB with its colour profile"
    largest = max_sample_value(cmyk.dtype)
    paper = largest - cmyk.astype(np.float64)
    rgb = np.rint(paper[..., :3] * paper[..., 3:] / largest).astype(cmyk.dtype)
    return rgb, "CMYK was converted to RGB without a colour profile"


def _converted_with_profile(cmyk: npt.NDArray[np.uint8], icc_profile: bytes) -> npt.NDArray[np.uint8] | None:
    """None if the profile is damaged."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        image = Image.frombytes("CMYK", (cmyk.shape[1], cmyk.shape[0]), cmyk.tobytes())
        rgb = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
    return None if rgb is None else np.asarray(rgb)
