"""Layouts of buffers as GStreamer describes them: by caps, or by the buffer itself where it lies otherwise."""

from __future__ import annotations

from dataclasses import replace

from sr_edge.camera.frame import Colour, ColourRange
from sr_edge.errors import FrameError
from sr_edge.gstreamer.bindings import Gst, GstVideo
from sr_edge.gstreamer.planes import PIXEL_FORMATS, BufferLayout

_FULL_RANGE = GstVideo.VideoColorRange(1)
"""Its name, 0_255, is none in Python."""


def layout_from_caps(caps: Gst.Caps) -> BufferLayout:
    """The usual layout of fixed caps.

    Raises:
        FrameError: interlaced video, or a format that is not taken.
    """
    info = GstVideo.VideoInfo.new_from_caps(caps)
    if info is None or info.finfo.name not in PIXEL_FORMATS:
        raise FrameError(
            f"sredge does not accept {caps.to_string()}",
            found=caps.to_string(),
            wanted=tuple(PIXEL_FORMATS),
            remedy="put videoconvert before it",
        )
    if info.interlace_mode != GstVideo.VideoInterlaceMode.PROGRESSIVE:
        raise FrameError(
            "the video is interlaced: each frame contains the lines of two pictures",
            found="interlaced",
            wanted="progressive",
            remedy="put deinterlace before sredge",
        )
    return BufferLayout(
        PIXEL_FORMATS[info.finfo.name], info.width, info.height, info.offset, info.stride, _colour(info.colorimetry)
    )


def frame_interval_ms(caps: Gst.Caps) -> float:
    """0 for frames at no fixed rate."""
    known, numerator, denominator = caps.get_structure(0).get_fraction("framerate")
    return 1e3 * denominator / numerator if known and numerator else 0.0


def layout_of_buffer(buffer: Gst.Buffer, usual: BufferLayout) -> BufferLayout:
    """Where this buffer's planes lie: decoders and cameras may leave room between rows and planes."""
    meta = GstVideo.buffer_get_video_meta(buffer)
    if meta is None:
        return usual
    return replace(usual, offsets=tuple(meta.offset), strides=tuple(meta.stride))


def _colour(colorimetry: GstVideo.VideoColorimetry) -> Colour:
    return Colour(
        ColourRange.FULL if colorimetry.range == _FULL_RANGE else ColourRange.LIMITED,
        GstVideo.VideoColorMatrix.to_iso(colorimetry.matrix),
        GstVideo.VideoColorPrimaries.to_iso(colorimetry.primaries),
        GstVideo.VideoTransferFunction.to_iso(colorimetry.transfer),
    )
