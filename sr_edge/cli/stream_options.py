"""Arguments and options of `sr-edge stream`, of which `preview` and `upscale` share some."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sr_edge.errors import UsageError

Pairs = list[str]

Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A bundle: a .sredge folder or its .zip.", show_default=False)
]
StreamSource = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="/dev/video0, rtsp://, udp:// or http:// address, video file, folder of pictures, named pipe, - for "
        "standard input, test:320x180@30, lavfi:GRAPH, or gst:PIPELINE.",
        show_default=False,
    ),
]
StreamSink = Annotated[
    str,
    typer.Argument(
        metavar="SINK",
        help="Video file, rtsp:// or udp:// address, - for raw frames on standard output, or null, which discards the "
        "frames.",
    ),
]
Runtime = Annotated[
    str | None, typer.Option(help="Left out: openvino, onnxruntime or torch, what works.", show_default=False)
]
Slots = Annotated[int | None, typer.Option(min=1, help="Tiles in flight; more for throughput.", show_default=False)]

PolicyWords = Annotated[
    str | None,
    typer.Option(
        metavar="latest|block|'drop-late MS'",
        help="When frames come too fast; latest for live sources, block for files.",
        show_default=False,
    ),
]
Roi = Annotated[str | None, typer.Option(metavar="x,y,w,h", help="Enlarge this part only.", show_default=False)]
Every = Annotated[int, typer.Option(min=1, help="Every n-th frame by the model, bicubic between.")]
Fallback = Annotated[
    str | None,
    typer.Option(metavar="bicubic|BUNDLE", help="Go on with it while the model is too slow.", show_default=False),
]
MaxLatencyMs = Annotated[
    float | None,
    typer.Option(help="What the fallback is to hold; 100 where left out.", show_default=False),
]
StatsJson = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write the figures there every second.", show_default=False, readable=False),
]

Raw = Annotated[
    str | None, typer.Option(metavar="FORMAT:WxH@RATE", help="What a pipe sends: nv12:320x180@30.", show_default=False)
]
Rate = Annotated[
    str | None,
    typer.Option(help="Frames a second of pictures, in a folder or numbered; 30 where left out.", show_default=False),
]
Pace = Annotated[bool, typer.Option("--pace", help="Play a file by the clock, as a camera would.")]
Read = Annotated[
    Pairs, typer.Option(metavar="NAME=VALUE", help="A setting of FFmpeg's reader; repeatable.", show_default=False)
]
Codec = Annotated[str, typer.Option(help="FFmpeg's name of the encoder.")]
Encode = Annotated[
    Pairs, typer.Option(metavar="NAME=VALUE", help="A setting of the encoder; repeatable.", show_default=False)
]
GiveUpS = Annotated[
    float | None,
    typer.Option(
        min=0, help="End when a lost source or server is not back in time; left out, never.", show_default=False
    ),
]


def read_pairs(texts: Pairs) -> dict[str, str]:
    """Settings by name; raises UsageError where a text is not NAME=VALUE."""
    pairs = {}
    for text in texts:
        name, found, value = text.partition("=")
        if not found or not name:
            raise UsageError(
                f"{text!r} is not an option with its value",
                found=text,
                wanted="NAME=VALUE",
                remedy="write NAME=VALUE, for example framerate=30",
            )
        pairs[name.strip()] = value
    return pairs
