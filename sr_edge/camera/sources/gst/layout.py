"""The memory layout of a buffer, from its caps or from the metadata of the buffer itself."""

from __future__ import annotations

from dataclasses import replace

from sr_edge.camera.media.frame import Colour, ColourRange
from sr_edge.camera.sources.gst.bindings import Gst, GstVideo
from sr_edge.camera.sources.gst.planes import PIXEL_FORMATS, BufferLayout
from sr_edge.errors import FrameError

_FULL_RANGE = GstVideo.VideoColorRange(1)
"""GST_VIDEO_COLOR_RANGE_0_255, whose name in the bindings would begin with a digit."""


def layout_from_caps(caps: Gst.Caps) -> BufferLayout:
    """GStreamer's default layout for fixed caps.

    Raises:
        FrameError: The video is interlaced, or its format is not supported.
    """
    info = GstVideo.VideoInfo.new_from_caps(caps)
    if info is None or info.finfo.name not in PIXEL_FORMATS:
        raise FrameError(
            f"the caps {caps.to_string()} are not supported",
            found=caps.to_string(),
            wanted=tuple(PIXEL_FORMATS),
            remedy="convert the video with videoconvert",
        )
    if info.interlace_mode != GstVideo.VideoInterlaceMode.PROGRESSIVE:
        raise FrameError(
            "the video is interlaced: each frame contains the lines of two images",
            found="interlaced",
            wanted="progressive",
            remedy="convert the video with deinterlace",
        )
    return BufferLayout(
        PIXEL_FORMATS[info.finfo.name], info.width, info.height, info.offset, info.stride, _colour(info.colorimetry)
    )


def frame_interval_ms(caps: Gst.Caps) -> float:
    """The time between frames; 0 for a variable frame rate."""
    has_rate, numerator, denominator = caps.get_structure(0).get_fraction("framerate")
    return 1e3 * denominator / numerator if has_rate and numerator else 0.0


def layout_of_buffer(buffer: Gst.Buffer, default: BufferLayout) -> BufferLayout:
    """The layout of one buffer: decoders and cameras may add padding between rows and planes (GstVideoMeta)."""
    meta = GstVideo.buffer_get_video_meta(buffer)
    if meta is None:
        return default
    return replace(default, offsets=tuple(meta.offset), strides=tuple(meta.stride))


def _colour(colorimetry: GstVideo.VideoColorimetry) -> Colour:
    return Colour(
        ColourRange.FULL if colorimetry.range == _FULL_RANGE else ColourRange.LIMITED,
        GstVideo.VideoColorMatrix.to_iso(colorimetry.matrix),
        GstVideo.VideoColorPrimaries.to_iso(colorimetry.primaries),
        GstVideo.VideoTransferFunction.to_iso(colorimetry.transfer),
    )
