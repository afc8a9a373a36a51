"""What a person may ask of an upscaled video file; loads nothing heavy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from sr_edge.errors import UsageError


class VideoCodec(str, Enum):
    """What compresses the video of a file."""

    H264 = "h264"
    H265 = "h265"
    VP9 = "vp9"
    AV1 = "av1"

    def __str__(self) -> str:
        return self.value


class Copied(str, Enum):
    """Which of the streams beside the video are copied."""

    ALL = "all"
    AUDIO = "audio"
    NONE = "none"

    def __str__(self) -> str:
        return self.value

    def takes(self, kind: str) -> bool:
        """Whether streams of this kind, in FFmpeg's words, are among them."""
        kinds = {Copied.ALL: ("audio", "subtitle", "attachment"), Copied.AUDIO: ("audio",), Copied.NONE: ()}
        return kind in kinds[self]


@dataclass(frozen=True)
class FrameRange:
    """Frames from number `first` on, counted from 0, up to and without number `end`; None is the last one."""

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
        """Reads "100:200", "100:" or ":200"; raises UsageError for anything else."""
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
        return self == ALL_FRAMES

    def count_of(self, frame_count: int) -> int:
        """How many frames these are of a file with `frame_count`; 0 where that is unknown."""
        end = frame_count if self.end is None else min(self.end, frame_count or self.end)
        return max(0, end - self.first)

    def __str__(self) -> str:
        return f"{self.first}:{'' if self.end is None else self.end}"


ALL_FRAMES = FrameRange()


@dataclass(frozen=True)
class VideoSettings:
    """How a video file is upscaled.

    Attributes:
        codec: None takes what the container and the bit depth suggest.
        crf: quality of the codec, lower is better; None takes a value at which losses are hard to see.
        frames: which of them.
        copied: which streams beside the video come along.
        resume: go on where an interrupted run of the same settings ended.
    """

    codec: VideoCodec | None = None
    crf: int | None = None
    frames: FrameRange = ALL_FRAMES
    copied: Copied = Copied.ALL
    resume: bool = True
