"""The supported pixel format that is nearest to a format of FFmpeg, and what a conversion to it loses.

Frames of formats that libswscale can read are converted when they are decoded: no chroma sample is averaged away, RGB
stays RGB, and the depth becomes the next supported one. Only depths above 10 bits of YUV and gray are reduced, since
most encoders write no more, and the alpha channel is left out, since networks upscale three channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import av

from sr_edge.camera.media.frame import PixelFormat
from sr_edge.errors import FrameError

_SAME_SAMPLES = {
    "yuvj420p": PixelFormat.I420,
    "yuvj422p": PixelFormat.I422,
    "yuvj444p": PixelFormat.I444,
}
"""FFmpeg's deprecated names of the formats with full range."""
_YUV = {
    (2, 2): (PixelFormat.I420, PixelFormat.I420_10),
    (2, 1): (PixelFormat.I422, PixelFormat.I422_10),
    (1, 1): (PixelFormat.I444, PixelFormat.I444_10),
}
"""Formats of 8 and of 10 bits by the columns and rows of luma for each sample of chroma."""
_SEMIPLANAR_420 = {"nv21": PixelFormat.NV12, "p010be": PixelFormat.P010}
_UNREADABLE = ("rgb4", "bgr4", "gray32le", "gray32be")
_UNREADABLE_PREFIXES = ("yaf", "rgbf", "rgbaf")
"""Formats that libswscale cannot read, or that end the process in some of its releases: 4-bit RGB without a byte for
each pixel, 32-bit gray, floating-point gray with alpha, packed floating-point RGB."""
_XYZ = "xyz12"


@dataclass(frozen=True)
class NearestFormat:
    """How frames of one of FFmpeg's formats are represented.

    Attributes:
        source: FFmpeg's name of the decoded format.
        pixel_format: The format of the frames.
        is_converted: Whether libswscale converts the frames; otherwise their memory is used as it is.
        chroma: Whether the conversion interpolates chroma, because the format has another subsampling.
        bits: Significant bits of a sample as decoded.
        has_alpha: Whether the decoded frames have an alpha channel, which is left out.
    """

    source: str
    pixel_format: PixelFormat
    is_converted: bool
    chroma: bool
    bits: int
    has_alpha: bool

    @property
    def note(self) -> str:
        """What the conversion changes, for the user; empty if it only rearranges the samples."""
        changes = []
        if self.chroma:
            changes.append("chroma is interpolated")
        if self.bits > self.pixel_format.bits:
            changes.append(f"{self.bits}-bit samples become {self.pixel_format.bits}-bit")
        elif self.bits < 8 or 8 < self.bits < self.pixel_format.bits:
            changes.append(f"{self.bits}-bit samples become {self.pixel_format.bits}-bit without loss")
        if self.source.startswith(_XYZ):
            changes.append("XYZ becomes RGB")
        return f"{self.source} pixels are converted to {self.pixel_format}: {', '.join(changes)}" if changes else ""


@lru_cache
def nearest_format(name: str) -> NearestFormat:
    """The supported pixel format that keeps the most of FFmpeg's format `name`.

    Raises:
        FrameError: libswscale cannot read the format, or it has no colours yet: a Bayer pattern, or the memory of a
            hardware decoder.
    """
    video_format = av.VideoFormat(name, 64, 64)
    components = [component for component in video_format.components if not component.is_alpha]
    bits = max((component.bits for component in components), default=0)
    has_alpha = len(components) < len(video_format.components)
    supported = _same_format(name)
    if supported is not None:
        return NearestFormat(name, supported, False, False, supported.bits, has_alpha)
    if video_format.is_bayer or not components or name in _UNREADABLE or name.startswith(_UNREADABLE_PREFIXES):
        raise _unsupported(name)
    if video_format.is_rgb or video_format.has_palette or name.startswith(_XYZ):
        depth = bits if not video_format.has_palette else 8
        return NearestFormat(name, PixelFormat.RGB if depth <= 8 else PixelFormat.RGB_16, True, False, depth, has_alpha)
    if len(components) == 1:
        gray = PixelFormat.GRAY if bits <= 8 else PixelFormat.GRAY_10
        return NearestFormat(name, gray, True, False, bits, has_alpha)
    own = (64 // video_format.chroma_width(64), 64 // video_format.chroma_height(64))
    kept = (min(own[0], 2), min(own[1], own[0], 2))
    pixel_format = _SEMIPLANAR_420.get(name) or _YUV[kept][bits > 8]
    return NearestFormat(name, pixel_format, True, kept != own, bits, has_alpha)


def _same_format(name: str) -> PixelFormat | None:
    if name in _SAME_SAMPLES:
        return _SAME_SAMPLES[name]
    return PixelFormat(name) if name in PixelFormat._value2member_map_ else None


def _unsupported(name: str) -> FrameError:
    supported = [pixel_format.value for pixel_format in PixelFormat]
    return FrameError(
        f"the pixel format {name} is not supported",
        found=name,
        wanted=supported,
        remedy=f"convert the video to one of {', '.join(supported)}",
    )
