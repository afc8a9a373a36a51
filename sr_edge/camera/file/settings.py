"""Settings for upscaling a video file; imports no library of codecs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from sr_edge.camera.media.frame import PixelFormat
from sr_edge.errors import UsageError
from sr_edge.spec import take_names


class VideoCodec(str, Enum):
    """The codec of the written video."""

    H264 = "h264"
    H265 = "h265"
    VP9 = "vp9"
    AV1 = "av1"

    def __str__(self) -> str:
        return self.value


class StreamSelection(str, Enum):
    """Which streams are copied in addition to the upscaled video."""

    ALL = "all"
    AUDIO = "audio"
    NONE = "none"

    def __str__(self) -> str:
        return self.value

    def includes(self, kind: str) -> bool:
        """Whether streams of this kind are copied.

        Args:
            kind: As in `OtherStream`, for example "audio" or "subtitle".
        """
        kinds = {
            StreamSelection.ALL: ("audio", "subtitle", "attachment", "cover picture"),
            StreamSelection.AUDIO: ("audio",),
            StreamSelection.NONE: (),
        }
        return kind in kinds[self]


@dataclass(frozen=True)
class FrameRange:
    """The frames from number `first`, counted from 0, up to but not including number `end`.

    `end=None` extends the range to the end of the video.

    Attributes:
        first: The first frame, counted from 0.
        end: The frame after the last one; None for the end of the video.
    """

    first: int = 0
    end: int | None = None

    def __post_init__(self) -> None:
        if self.first < 0 or (self.end is not None and self.end <= self.first):
            raise UsageError(
                f"the range {self} contains no frames",
                found=str(self),
                wanted="FIRST:END with END greater than FIRST",
                remedy="give FIRST:END with END greater than FIRST, for example 0:100",
            )

    @classmethod
    def parse(cls, text: str) -> FrameRange:
        """Parses "100:200", "100:" or ":200".

        Raises:
            UsageError: The text has another form.
        """
        match = re.fullmatch(r"(\d*):(\d*)", text.strip())
        if match is None:
            raise UsageError(
                f"cannot read {text!r} as a range of frames",
                found=text,
                wanted="FIRST:END",
                remedy="write FIRST:END, counted from 0, for example 100:200",
            )
        return cls(int(match[1] or 0), int(match[2]) if match[2] else None)

    @property
    def is_all(self) -> bool:
        """Whether the range is the whole video."""
        return self == ALL_FRAMES

    def count_in(self, frame_count: int) -> int:
        """The number of frames that the range selects from a video of `frame_count` frames; 0 if that is unknown."""
        end = frame_count if self.end is None else min(self.end, frame_count or self.end)
        return max(0, end - self.first)

    def __str__(self) -> str:
        return f"{self.first}:{'' if self.end is None else self.end}"


ALL_FRAMES = FrameRange()


@dataclass(frozen=True)
class VideoSettings:
    """How a video file is upscaled.

    Attributes:
        codec: A codec, or FFmpeg's name of an encoder such as h264_nvenc, which is used as it is or refused; None
            selects a codec by the container and the bit depth.
        crf: Constant rate factor of the codec, lower is better; None selects a value at which losses are hard to see,
            or a bit rate for an encoder without a known one.
        pixel_format: Of the encoded frames; None keeps that of the source, except that RGB becomes 4:2:0.
        is_deinterlaced: Whether the frames are deinterlaced before they are upscaled.
        frames: The frames to upscale.
        copied_streams: Which streams are copied in addition to the video.
        resume: Whether to continue an interrupted run that had the same settings.
        encoder_options: FFmpeg's options of the encoder, which override the defaults.
        decoder: FFmpeg's name of the decoder, which is used or refused; None lets FFmpeg choose one.
    """

    codec: VideoCodec | str | None = None
    crf: int | None = None
    pixel_format: PixelFormat | None = None
    is_deinterlaced: bool = False
    frames: FrameRange = ALL_FRAMES
    copied_streams: StreamSelection = StreamSelection.ALL
    resume: bool = True
    encoder_options: Mapping[str, str] = field(default_factory=dict)
    decoder: str | None = None

    def __post_init__(self) -> None:
        if self.codec in [codec.value for codec in VideoCodec]:
            take_names(self, codec=VideoCodec)
        take_names(self, pixel_format=PixelFormat, copied_streams=StreamSelection)
