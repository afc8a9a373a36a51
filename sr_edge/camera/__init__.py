"""Live super-resolution: sources and sinks of video, and the pipeline between them with bounded latency.

    for frame in sr_edge.camera.stream("rtsp://camera/main", "tiny-x2.sredge", policy="latest"):
        show(sr_edge.camera.rgb_from_frame(frame))

Names load on first use, so that importing one module of the package does not load all others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sr_edge.lazy_face import lazy_face

if TYPE_CHECKING:
    from sr_edge.camera.file.job import VideoJob, VideoResult, plan_video, upscale_video
    from sr_edge.camera.file.settings import FrameRange, StreamSelection, VideoCodec, VideoSettings
    from sr_edge.camera.flow.drop_policy import Dropping, Policy
    from sr_edge.camera.flow.events import EventLog
    from sr_edge.camera.media.conversion import (
        av_from_frame,
        frame_from_av,
        frame_from_rgb,
        reformatted,
        resized,
        rgb_from_frame,
    )
    from sr_edge.camera.media.frame import Chroma, Colour, ColourRange, PixelFormat, VideoFrame
    from sr_edge.camera.media.raw_format import RawFormat
    from sr_edge.camera.pipeline.fallback import FallbackTiming
    from sr_edge.camera.pipeline.frame_upscaler import (
        BicubicFrameUpscaler,
        FrameUpscaler,
        NetworkFrameUpscaler,
        frame_upscaler_for,
    )
    from sr_edge.camera.pipeline.loop import Loop
    from sr_edge.camera.pipeline.options import LoopOptions
    from sr_edge.camera.pipeline.statistics import LatencySummary, StreamReport
    from sr_edge.camera.pipeline.watchdog import StageTimeout
    from sr_edge.camera.protocols import Sink, SinkUnavailable, Source, SourceInfo
    from sr_edge.camera.sinks.open import SINKS, SinkOptions, open_sink
    from sr_edge.camera.sinks.simple import CallbackSink, NullSink
    from sr_edge.camera.sources.open import SOURCES, SourceOptions, open_source
    from sr_edge.camera.streaming import Stream, stream
    from sr_edge.frames import Region
    from sr_edge.model_sources import EngineChoice
    from sr_edge.upscaler.reuse_options import ReuseOptions

_HOMES = {
    "BicubicFrameUpscaler": "sr_edge.camera.pipeline.frame_upscaler",
    "CallbackSink": "sr_edge.camera.sinks.simple",
    "Chroma": "sr_edge.camera.media.frame",
    "Colour": "sr_edge.camera.media.frame",
    "ColourRange": "sr_edge.camera.media.frame",
    "Dropping": "sr_edge.camera.flow.drop_policy",
    "EngineChoice": "sr_edge.model_sources",
    "EventLog": "sr_edge.camera.flow.events",
    "FallbackTiming": "sr_edge.camera.pipeline.fallback",
    "FrameRange": "sr_edge.camera.file.settings",
    "FrameUpscaler": "sr_edge.camera.pipeline.frame_upscaler",
    "LatencySummary": "sr_edge.camera.pipeline.statistics",
    "Loop": "sr_edge.camera.pipeline.loop",
    "LoopOptions": "sr_edge.camera.pipeline.options",
    "NetworkFrameUpscaler": "sr_edge.camera.pipeline.frame_upscaler",
    "NullSink": "sr_edge.camera.sinks.simple",
    "PixelFormat": "sr_edge.camera.media.frame",
    "Policy": "sr_edge.camera.flow.drop_policy",
    "RawFormat": "sr_edge.camera.media.raw_format",
    "Region": "sr_edge.frames",
    "ReuseOptions": "sr_edge.upscaler.reuse_options",
    "SINKS": "sr_edge.camera.sinks.open",
    "SOURCES": "sr_edge.camera.sources.open",
    "Sink": "sr_edge.camera.protocols",
    "SinkOptions": "sr_edge.camera.sinks.open",
    "SinkUnavailable": "sr_edge.camera.protocols",
    "Source": "sr_edge.camera.protocols",
    "SourceInfo": "sr_edge.camera.protocols",
    "SourceOptions": "sr_edge.camera.sources.open",
    "StageTimeout": "sr_edge.camera.pipeline.watchdog",
    "Stream": "sr_edge.camera.streaming",
    "StreamReport": "sr_edge.camera.pipeline.statistics",
    "StreamSelection": "sr_edge.camera.file.settings",
    "VideoCodec": "sr_edge.camera.file.settings",
    "VideoFrame": "sr_edge.camera.media.frame",
    "VideoJob": "sr_edge.camera.file.job",
    "VideoResult": "sr_edge.camera.file.job",
    "VideoSettings": "sr_edge.camera.file.settings",
    "av_from_frame": "sr_edge.camera.media.conversion",
    "frame_from_av": "sr_edge.camera.media.conversion",
    "frame_from_rgb": "sr_edge.camera.media.conversion",
    "frame_upscaler_for": "sr_edge.camera.pipeline.frame_upscaler",
    "open_sink": "sr_edge.camera.sinks.open",
    "open_source": "sr_edge.camera.sources.open",
    "plan_video": "sr_edge.camera.file.job",
    "reformatted": "sr_edge.camera.media.conversion",
    "resized": "sr_edge.camera.media.conversion",
    "rgb_from_frame": "sr_edge.camera.media.conversion",
    "stream": "sr_edge.camera.streaming",
    "upscale_video": "sr_edge.camera.file.job",
}

__all__ = [
    "SINKS",
    "SOURCES",
    "BicubicFrameUpscaler",
    "CallbackSink",
    "Chroma",
    "Colour",
    "ColourRange",
    "Dropping",
    "EngineChoice",
    "EventLog",
    "FallbackTiming",
    "FrameRange",
    "FrameUpscaler",
    "LatencySummary",
    "Loop",
    "LoopOptions",
    "NetworkFrameUpscaler",
    "NullSink",
    "PixelFormat",
    "Policy",
    "RawFormat",
    "Region",
    "ReuseOptions",
    "Sink",
    "SinkOptions",
    "SinkUnavailable",
    "Source",
    "SourceInfo",
    "SourceOptions",
    "StageTimeout",
    "Stream",
    "StreamReport",
    "StreamSelection",
    "VideoCodec",
    "VideoFrame",
    "VideoJob",
    "VideoResult",
    "VideoSettings",
    "av_from_frame",
    "frame_from_av",
    "frame_from_rgb",
    "frame_upscaler_for",
    "open_sink",
    "open_source",
    "plan_video",
    "reformatted",
    "resized",
    "rgb_from_frame",
    "stream",
    "upscale_video",
]

__getattr__, __dir__ = lazy_face(__name__, _HOMES)
