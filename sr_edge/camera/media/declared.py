"""What a container and its frames declare beside the pixels, to be compared with what an output declares."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

_SIDE_DATA = {
    "MASTERING_DISPLAY_METADATA": "HDR mastering display",
    "CONTENT_LIGHT_LEVEL": "HDR content light levels",
    "DYNAMIC_HDR_PLUS": "HDR10+ metadata",
    "DYNAMIC_HDR_VIVID": "HDR Vivid metadata",
    "DOVI_METADATA": "Dolby Vision metadata",
    "DOVI_RPU_BUFFER": "Dolby Vision metadata",
    "AMBIENT_VIEWING_ENVIRONMENT": "ambient viewing environment",
    "SPHERICAL": "spherical projection",
    "A53_CC": "closed captions",
    "S12M_TIMECODE": "timecodes of the frames",
    "GOP_TIMECODE": "timecodes of the frames",
    "AFD": "active format description",
    "PANSCAN": "pan and scan",
    "ICC_PROFILE": "ICC profile",
}
"""Names of side data of frames. FFmpeg's decoders attach what the container declares about the stream, too."""
_STEREO = "stereo 3D"
ALPHA = "alpha channel"
INTERLACED = "interlaced frames"
STEREO_TAG, ALPHA_TAG, TIMECODE_TAG = "stereo_mode", "alpha_mode", "timecode"
_STEREO_TAG_BY_TYPE = {1: "left_right", 2: "top_bottom"}
"""Matroska's names of the arrangements of FFmpeg's AVStereo3DType that are the same after upscaling. The lines, columns
and pixels of interleaved views would be mixed."""
_LASTING_STEREO_TAGS = ("left_right", "right_left", "top_bottom", "bottom_top", "block_lr", "block_rl")


def declared_by_frame(av_frame: Any) -> set[str]:
    """What a decoded frame declares about itself."""
    declared = {_SIDE_DATA[data.type.name] for data in av_frame.side_data if data.type.name in _SIDE_DATA}
    if av_frame.interlaced_frame:
        declared.add(INTERLACED)
    return declared | {_STEREO} if _stereo_type(av_frame) else declared


def declared_by(container: Any, video: Any, av_frame: Any) -> set[str]:
    """What a file or stream declares.

    Args:
        container: An open PyAV container.
        video: Its video stream.
        av_frame: A decoded frame of it.
    """
    declared = declared_by_frame(av_frame)
    tags = _lower(video.metadata)
    if has_alpha(av_frame) or tags.get(ALPHA_TAG) == "1":
        declared.add(ALPHA)
    if tags.get(STEREO_TAG, "mono") != "mono":
        declared.add(_STEREO)
    if TIMECODE_TAG in {**tags, **_lower(container.metadata)}:
        declared.add("timecode")
    if container.chapters():
        declared.add("chapters")
    return declared


def has_alpha(av_frame: Any) -> bool:
    """Whether a decoded frame has an alpha channel."""
    return any(component.is_alpha for component in av_frame.format.components)


def stereo_tag(video: Any, av_frame: Any) -> str | None:
    """Matroska's tag for the arrangement of two views in one frame; None if there is none, or upscaling destroys it."""
    tag = _lower(video.metadata).get(STEREO_TAG) or _STEREO_TAG_BY_TYPE.get(_stereo_type(av_frame))
    return tag if tag in _LASTING_STEREO_TAGS else None


def listed(declared: Iterable[str]) -> str:
    return ", ".join(sorted(declared))


def _stereo_type(av_frame: Any) -> int:
    """FFmpeg's AVStereo3DType; 0 for a single view. Views whose order is exchanged count as unknown."""
    data = av_frame.side_data.get("STEREO3D")
    if data is None:
        return 0
    arrangement, flags = struct.unpack_from("=2i", bytes(data))
    return int(arrangement) if arrangement == 0 or not flags else -1


def _lower(metadata: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in metadata.items()}
