"""Live super-resolution: sources, sinks, and the loop that joins them and never falls behind.

for frame in sr_edge.camera.stream("rtsp://camera/main", "tiny-x2.sredge", policy="latest"):
    show(sr_edge.camera.rgb_from_frame(frame))
"""

from __future__ import annotations

from sr_edge.camera.conversion import av_from_frame, frame_from_av, frame_from_rgb, reformatted, resized, rgb_from_frame
from sr_edge.camera.enlarger import BicubicFrameUpscaler, FrameUpscaler, NetworkFrameUpscaler, frame_upscaler_for
from sr_edge.camera.fallback import FallbackTiming
from sr_edge.camera.frame import Chroma, Colour, ColourRange, PixelFormat, VideoFrame
from sr_edge.camera.journal import EventLog
from sr_edge.camera.loop import Loop
from sr_edge.camera.open_sink import SINKS, SinkOptions, open_sink
from sr_edge.camera.open_source import SOURCES, SourceOptions, open_source
from sr_edge.camera.options import LoopOptions, Region
from sr_edge.camera.policy import Dropping, Policy
from sr_edge.camera.ports import Sink, SinkUnavailable, Source, SourceInfo
from sr_edge.camera.raw import RawFormat
from sr_edge.camera.simple_sinks import CallbackSink, NullSink
from sr_edge.camera.statistics import StreamReport, Times
from sr_edge.camera.streaming import Stream, stream
from sr_edge.camera.video_file import VideoJob, VideoResult, plan_video, upscale_video
from sr_edge.camera.video_file_settings import FrameRange, StreamSelection, VideoCodec, VideoSettings
from sr_edge.camera.watch import HungStage

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
    "HungStage",
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
    "Stream",
    "StreamReport",
    "StreamSelection",
    "Times",
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
