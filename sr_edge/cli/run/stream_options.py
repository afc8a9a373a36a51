"""Arguments and options of `sr-edge stream`, some of which `preview` and `upscale` share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from sr_edge.camera.media.frame import PixelFormat
    from sr_edge.upscaler.reuse_options import ReuseOptions

Pairs = list[str]

MAX_DURATION_S = 365 * 24 * 3600.0
"""A year, which waits of the operating system can express."""

SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Camera (/dev/video0), rtsp://, udp:// or http:// address, video file, folder of images, named pipe, - "
        "for standard input, test:320x180@30, lavfi:GRAPH, or gst:PIPELINE.",
        show_default=False,
    ),
]
SinkArgument = Annotated[
    str,
    typer.Argument(
        metavar="SINK",
        help="Video file, rtsp:// or udp:// address, - for raw frames on standard output, or null, which discards the "
        "frames.",
    ),
]
SlotsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of tiles that are processed concurrently. More slots increase both throughput and latency. "
        "Default: 2.",
        show_default=False,
    ),
]

PolicyOption = Annotated[
    str | None,
    typer.Option(
        metavar="latest|block|'drop-late MS'",
        help="Frames to drop when they arrive too fast: all but the latest, none (block the source), or those older "
        "than MS milliseconds. Default: latest for live sources, block for files.",
        show_default=False,
    ),
]
RoiOption = Annotated[
    str | None,
    typer.Option(metavar="x,y,w,h", help="Upscale only this region of the frame.", show_default=False),
]
EveryOption = Annotated[
    int,
    typer.Option(
        min=1, help="Upscale every n-th frame with the model, and the frames in between by bicubic interpolation."
    ),
]
Nv12Option = Annotated[
    bool,
    typer.Option(
        "--nv12",
        help="Convert 8-bit 4:2:0 frames in the graph instead of before it. The bundle needs NV12 graphs with the "
        "matrix and range of the source: `sr-edge deploy --io nv12`.",
    ),
]
FallbackOption = Annotated[
    str | None,
    typer.Option(
        metavar="bicubic|MODEL",
        help="Upscale by bicubic interpolation, or with this smaller model, while the latency limit is exceeded.",
        show_default=False,
    ),
]
MaxLatencyMsOption = Annotated[
    float | None,
    typer.Option(
        help="Latency limit in milliseconds above which the fallback takes over. Default: 100.", show_default=False
    ),
]
StatsJsonOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Write statistics to this file every second.", show_default=False, readable=False
    ),
]

DurationOption = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=0.1,
        max=MAX_DURATION_S,
        help="End the stream after this time, as if the source had ended. Default: when the source ends.",
        show_default=False,
    ),
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Also show the median time of each stage while the stream runs.")
]

RawOption = Annotated[
    str | None,
    typer.Option(
        metavar="FORMAT:WxH@RATE",
        help="Format of the raw frames in a pipe, for example nv12:320x180@30.",
        show_default=False,
    ),
]
RateOption = Annotated[
    str | None,
    typer.Option(
        help="Frame rate of a source that gives none: a folder or numbered sequence of images, where the default is "
        "30, a camera without a rate, or MJPEG over HTTP.",
        show_default=False,
    ),
]
DecoderOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="FFmpeg's name of the decoder, for example h264_cuvid or h264_v4l2m2m. It is used or refused, never "
        "replaced. Default: FFmpeg's own choice, in software.",
        show_default=False,
    ),
]
TimecodeOption = Annotated[
    bool,
    typer.Option(
        "--timecode",
        help="Store when the first frame of a live source was captured (UTC) in the recorded .mp4, .mov or .mkv file.",
    ),
]
DeinterlaceOption = Annotated[
    bool,
    typer.Option(
        "--deinterlace",
        help="Deinterlace the frames with FFmpeg's filter bwdif before they are upscaled. Adds a delay of one frame.",
    ),
]
PixelFormatOption = Annotated[
    str,
    typer.Option(
        metavar="FORMAT",
        help="Pixel format of the written video, for example yuv444p. Default: as the source; yuv420p for RGB.",
        show_default=False,
    ),
]
PaceOption = Annotated[bool, typer.Option("--pace", help="Play a file in real time, as a camera would.")]
ReadOption = Annotated[
    Pairs,
    typer.Option(
        metavar="NAME=VALUE",
        help="FFmpeg option for the source, for example framerate=30. Repeatable.",
        show_default=False,
    ),
]
CodecOption = Annotated[
    str | None,
    typer.Option(
        help="FFmpeg's name of the video encoder, for example libx265 or h264_nvenc. It is used or refused, never "
        "replaced. Default: libx264.",
        show_default=False,
    ),
]
EncodeOption = Annotated[
    Pairs,
    typer.Option(
        metavar="NAME=VALUE",
        help="FFmpeg option for the encoder, for example crf=18. Repeatable.",
        show_default=False,
    ),
]
ReuseOption = Annotated[
    str,
    typer.Option(
        metavar="off|exact|DB",
        help="Tiles that are not computed again for the next frame: none, those that did not change (the output is the "
        "same to the bit), or also those that changed so little that no more than DB decibels of PSNR are lost in the "
        "mean, for example 0.05.",
    ),
]
VideoReuseOption = Annotated[
    str,
    typer.Option(
        metavar="off|exact|DB",
        help="Tiles of a video that are not computed again for the next frame: none, those that did not change (the "
        "output is the same to the bit), or also those that changed so little that no more than DB decibels of PSNR "
        "are lost in the mean. Default: exact.",
        show_default=False,
    ),
]
ReuseMemoryOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory for the tiles that are kept for reuse, for example 512M or 1G. If the tiles of one frame need "
        "more, none are reused. Default: 256M.",
        show_default=False,
    ),
]
ReuseRefreshOption = Annotated[
    float | None,
    typer.Option(
        "--reuse-refresh",
        metavar="SECONDS",
        help="With --reuse DB, the time of the video after which the kept result of a changed tile is computed again, "
        "one tile after the other. Default: 10.",
        show_default=False,
    ),
]
OpenTimeoutOption = Annotated[
    float,
    typer.Option(
        "--open-timeout",
        metavar="SECONDS",
        min=0.1,
        max=3600,
        help="Time within which a camera or network source must be open, with all playlists that it refers to.",
    ),
]
GiveUpOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Seconds after which to stop trying to reconnect to a lost source or server. Default: never stop.",
        show_default=False,
    ),
]


def read_pairs(texts: Pairs) -> dict[str, str]:
    """Parses NAME=VALUE arguments; raises UsageError for anything else and for a name that is given twice."""
    pairs = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise UsageError(
                f"{text!r} is not an option with its value",
                found=text,
                wanted="NAME=VALUE",
                remedy="write NAME=VALUE, for example framerate=30",
            )
        if (name := name.strip()) in pairs:
            raise UsageError(
                f"{text!r} sets {name} a second time", found=text, wanted="each name once", remedy="give each name once"
            )
        pairs[name] = value
    return pairs


def read_reuse(mode: str, memory: str | None, refresh_s: float | None) -> ReuseOptions:
    """Parses --reuse, --reuse-memory and --reuse-refresh; raises UsageError for anything else."""
    from sr_edge.upscaler.reuse_options import DEFAULT_REUSE_MEMORY_BYTES, ReuseOptions, parse_memory

    options = ReuseOptions.parse(mode, DEFAULT_REUSE_MEMORY_BYTES if memory is None else parse_memory(memory))
    return options if refresh_s is None else replace(options, refresh_s=refresh_s)


def parse_pixel_format(text: str) -> PixelFormat | None:
    """Parses the name of a pixel format; None for an empty one. Raises UnknownNameError for any other name."""
    from sr_edge.camera.media.frame import PixelFormat

    if not text:
        return None
    try:
        return PixelFormat(text)
    except ValueError:
        raise UnknownNameError("pixel format", text, [choice.value for choice in PixelFormat]) from None
