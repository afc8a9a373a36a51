"""Live super-resolution: sources and sinks of video, and the pipeline between them with bounded latency.

    for frame in sr_edge.camera.stream("rtsp://camera/main", "tiny-x2.sredge", policy="latest"):
        show(sr_edge.camera.rgb_from_frame(frame))

Names load on first use, so that importing one module of the package does not load all others.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sr_edge.camera.conversion import (
        av_from_frame,
        frame_from_av,
        frame_from_rgb,
        reformatted,
        resized,
        rgb_from_frame,
    )
    from sr_edge.camera.enlarger import BicubicFrameUpscaler, FrameUpscaler, NetworkFrameUpscaler, frame_upscaler_for
    from sr_edge.camera.events import EventLog
    from sr_edge.camera.fallback import FallbackTiming
    from sr_edge.camera.frame import Chroma, Colour, ColourRange, PixelFormat, VideoFrame
    from sr_edge.camera.loop import Loop
    from sr_edge.camera.options import LoopOptions, Region
    from sr_edge.camera.policy import Dropping, Policy
    from sr_edge.camera.ports import Sink, SinkUnavailable, Source, SourceInfo
    from sr_edge.camera.raw_format import RawFormat
    from sr_edge.camera.simple_sinks import CallbackSink, NullSink
    from sr_edge.camera.sinks_open import SINKS, SinkOptions, open_sink
    from sr_edge.camera.sources_open import SOURCES, SourceOptions, open_source
    from sr_edge.camera.statistics import LatencySummary, StreamReport
    from sr_edge.camera.streaming import Stream, stream
    from sr_edge.camera.video_file import VideoJob, VideoResult, plan_video, upscale_video
    from sr_edge.camera.video_file_settings import FrameRange, StreamSelection, VideoCodec, VideoSettings
    from sr_edge.camera.watch import StageTimeout

_HOME = {
    "BicubicFrameUpscaler": "sr_edge.camera.enlarger",
    "CallbackSink": "sr_edge.camera.simple_sinks",
    "Chroma": "sr_edge.camera.frame",
    "Colour": "sr_edge.camera.frame",
    "ColourRange": "sr_edge.camera.frame",
    "Dropping": "sr_edge.camera.policy",
    "EventLog": "sr_edge.camera.events",
    "FallbackTiming": "sr_edge.camera.fallback",
    "FrameRange": "sr_edge.camera.video_file_settings",
    "FrameUpscaler": "sr_edge.camera.enlarger",
    "LatencySummary": "sr_edge.camera.statistics",
    "Loop": "sr_edge.camera.loop",
    "LoopOptions": "sr_edge.camera.options",
    "NetworkFrameUpscaler": "sr_edge.camera.enlarger",
    "NullSink": "sr_edge.camera.simple_sinks",
    "PixelFormat": "sr_edge.camera.frame",
    "Policy": "sr_edge.camera.policy",
    "RawFormat": "sr_edge.camera.raw_format",
    "Region": "sr_edge.camera.options",
    "SINKS": "sr_edge.camera.sinks_open",
    "SOURCES": "sr_edge.camera.sources_open",
    "Sink": "sr_edge.camera.ports",
    "SinkOptions": "sr_edge.camera.sinks_open",
    "SinkUnavailable": "sr_edge.camera.ports",
    "Source": "sr_edge.camera.ports",
    "SourceInfo": "sr_edge.camera.ports",
    "SourceOptions": "sr_edge.camera.sources_open",
    "StageTimeout": "sr_edge.camera.watch",
    "Stream": "sr_edge.camera.streaming",
    "StreamReport": "sr_edge.camera.statistics",
    "StreamSelection": "sr_edge.camera.video_file_settings",
    "VideoCodec": "sr_edge.camera.video_file_settings",
    "VideoFrame": "sr_edge.camera.frame",
    "VideoJob": "sr_edge.camera.video_file",
    "VideoResult": "sr_edge.camera.video_file",
    "VideoSettings": "sr_edge.camera.video_file_settings",
    "av_from_frame": "sr_edge.camera.conversion",
    "frame_from_av": "sr_edge.camera.conversion",
    "frame_from_rgb": "sr_edge.camera.conversion",
    "frame_upscaler_for": "sr_edge.camera.enlarger",
    "open_sink": "sr_edge.camera.sinks_open",
    "open_source": "sr_edge.camera.sources_open",
    "plan_video": "sr_edge.camera.video_file",
    "reformatted": "sr_edge.camera.conversion",
    "resized": "sr_edge.camera.conversion",
    "rgb_from_frame": "sr_edge.camera.conversion",
    "stream": "sr_edge.camera.streaming",
    "upscale_video": "sr_edge.camera.video_file",
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


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sr_edge.camera' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
