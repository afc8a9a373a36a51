"""How a stream is run, checked before it starts."""

from __future__ import annotations

from dataclasses import dataclass, field

from sr_edge.camera.enlarger import FrameUpscaler
from sr_edge.camera.fallback import FallbackTiming
from sr_edge.camera.journal import EventLog
from sr_edge.camera.policy import Policy
from sr_edge.errors import UsageError

USUAL_LATENCY_MS = 100.0
"""What a fallback is to hold where nothing else is asked for."""


@dataclass(frozen=True)
class Region:
    """A part of each frame, in pixels of the source."""

    left: int
    top: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if min(self.left, self.top) < 0 or min(self.width, self.height) < 1:
            raise UsageError(
                f"the region {self} is empty or begins outside the frame",
                found=(self.left, self.top, self.width, self.height),
                wanted="x and y from 0, width and height from 1",
                remedy="write x,y,width,height in pixels of the source",
            )

    @classmethod
    def parse(cls, text: str) -> Region:
        """Reads "x,y,w,h"; raises UsageError for anything else."""
        try:
            left, top, width, height = (int(part) for part in text.split(","))
        except ValueError:
            raise UsageError(
                f"{text!r} is not a region of a frame",
                found=text,
                wanted="x,y,width,height",
                remedy="write x,y,width,height, for example 0,0,320,180",
            ) from None
        return cls(left, top, width, height)

    def __str__(self) -> str:
        return f"{self.left},{self.top},{self.width},{self.height}"


@dataclass(frozen=True)
class LoopOptions:
    """How a stream is run.

    Attributes:
        policy: None takes `latest` for live sources, `block` for others.
        region: the part of each frame that is enlarged; None takes the whole.
        every: every n-th frame goes through the model, those between are bicubic.
        fallback: what to go on with while the model cannot hold `max_latency_ms`.
        max_latency_ms: from capture to the sink having taken the frame.
        fallback_timing: how soon the fallback takes over, and when the model is tried again.
        failures_in_a_row: so many frames without a result end the stream.
        hang_s: a stage that is not done with one frame after so long ends the stream.
        tick_s: the time between two progress reports, and between two checks for late frames and stages that hang.
        event_log: is told what a person should hear of: fallbacks, failures; of losses where the source has it too.
    """

    policy: Policy | None = None
    region: Region | None = None
    every: int = 1
    fallback: FrameUpscaler | None = None
    max_latency_ms: float | None = None
    fallback_timing: FallbackTiming = field(default_factory=FallbackTiming)
    failures_in_a_row: int = 10
    hang_s: float = 30.0
    tick_s: float = 0.5
    event_log: EventLog = field(default_factory=EventLog)

    def __post_init__(self) -> None:
        for name, count in (("every", self.every), ("failures_in_a_row", self.failures_in_a_row)):
            if count < 1:
                raise UsageError(
                    f"{name}={count} is less than 1", found=count, wanted="1 or more", remedy="give 1 or more"
                )
        if (self.fallback is None) != (self.max_latency_ms is None):
            raise UsageError(
                "a fallback needs a latency limit, and a latency limit needs a fallback",
                found=(self.fallback.name if self.fallback else None, self.max_latency_ms),
                wanted="both or neither",
                remedy="give both or neither",
            )
