"""The options of a stream, checked before it starts."""

from __future__ import annotations

from dataclasses import dataclass, field

from sr_edge.camera.flow.drop_policy import Policy
from sr_edge.camera.flow.events import EventLog
from sr_edge.camera.pipeline.fallback import FallbackTiming
from sr_edge.camera.pipeline.frame_upscaler import FrameUpscaler
from sr_edge.errors import UsageError
from sr_edge.frames import Region

DEFAULT_MAX_LATENCY_MS = 100.0
"""The latency limit of a fallback if none is given."""


@dataclass(frozen=True)
class LoopOptions:
    """Options of a stream.

    Attributes:
        policy: which frames are dropped; None means `latest` for live sources and `block` for others.
        region: the part of each frame that is upscaled; None means the whole frame.
        every: the model upscales every n-th frame, bicubic interpolation the others.
        fallback: the upscaler that takes over while the model exceeds `max_latency_ms`.
        max_latency_ms: the latency limit, from capture until the sink has taken the frame.
        fallback_timing: when the fallback takes over, and when the model is tried again.
        max_consecutive_failures: the stream ends when this many frames in a row have failed.
        stage_timeout_s: the stream ends when a stage takes longer than this for one frame.
        report_interval_s: the time between two progress reports, and between two checks for late frames and stages
            that hang.
        event_log: records fallbacks and failed frames, and lost connections if the source uses the same log.
    """

    policy: Policy | None = None
    region: Region | None = None
    every: int = 1
    fallback: FrameUpscaler | None = None
    max_latency_ms: float | None = None
    fallback_timing: FallbackTiming = field(default_factory=FallbackTiming)
    max_consecutive_failures: int = 10
    stage_timeout_s: float = 30.0
    report_interval_s: float = 0.5
    event_log: EventLog = field(default_factory=EventLog)

    def __post_init__(self) -> None:
        counts = (("every", self.every), ("max_consecutive_failures", self.max_consecutive_failures))
        for name, count in counts:
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
