"""Live super-resolution: sources and sinks of video, and the pipeline between them with bounded latency.

    for frame in sr_edge.camera.stream("rtsp://camera/main", "tiny-x2.sredge", policy="latest"):
        show(sr_edge.camera.rgb_from_frame(frame))

Names load on first use: the modules of the package import each other without loading all of it.
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
    from sr_edge.camera.video_file_settings import Copied, FrameRange, VideoCodec, VideoSettings
    from sr_edge.camera.watch import StageTimeout

_HOME = {
    "BicubicFrameUpscaler": "enlarger",
    "CallbackSink": "simple_sinks",
    "Chroma": "frame",
    "Colour": "frame",
    "ColourRange": "frame",
    "Copied": "video_file_settings",
    "Dropping": "policy",
    "EventLog": "events",
    "FallbackTiming": "fallback",
    "FrameRange": "video_file_settings",
    "FrameUpscaler": "enlarger",
    "LatencySummary": "statistics",
    "Loop": "loop",
    "LoopOptions": "options",
    "NetworkFrameUpscaler": "enlarger",
    "NullSink": "simple_sinks",
    "PixelFormat": "frame",
    "Policy": "policy",
    "RawFormat": "raw_format",
    "Region": "options",
    "SINKS": "sinks_open",
    "SOURCES": "sources_open",
    "Sink": "ports",
    "SinkOptions": "sinks_open",
    "SinkUnavailable": "ports",
    "Source": "ports",
    "SourceInfo": "ports",
    "SourceOptions": "sources_open",
    "StageTimeout": "watch",
    "Stream": "streaming",
    "StreamReport": "statistics",
    "VideoCodec": "video_file_settings",
    "VideoFrame": "frame",
    "VideoJob": "video_file",
    "VideoResult": "video_file",
    "VideoSettings": "video_file_settings",
    "av_from_frame": "conversion",
    "frame_from_av": "conversion",
    "frame_from_rgb": "conversion",
    "frame_upscaler_for": "enlarger",
    "open_sink": "sinks_open",
    "open_source": "sources_open",
    "plan_video": "video_file",
    "reformatted": "conversion",
    "resized": "conversion",
    "rgb_from_frame": "conversion",
    "stream": "streaming",
    "upscale_video": "video_file",
}

__all__ = [
    "SINKS",
    "SOURCES",
    "BicubicFrameUpscaler",
    "CallbackSink",
    "Chroma",
    "Colour",
    "ColourRange",
    "Copied",
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
    return getattr(importlib.import_module(f"sr_edge.camera.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
