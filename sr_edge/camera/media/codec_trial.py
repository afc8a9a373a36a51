"""The program that tries codecs for `sr_edge.camera.media.codecs`, in a separate process, which a driver may crash.

It reads a JSON array of trials from standard input, and prints a line with a JSON object for each.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import av
import av.logging

_FRAMES = 3
_SOFTWARE_ENCODERS = {
    "h264": "libx264",
    "hevc": "libx265",
    "av1": "libsvtav1",
    "vp8": "libvpx",
    "vp9": "libvpx-vp9",
    "mjpeg": "mjpeg",
    "mpeg1video": "mpeg1video",
    "mpeg2video": "mpeg2video",
    "mpeg4": "mpeg4",
    "h263": "h263",
}
"""Software encoders of the codecs that hardware decodes. FFmpeg has none for VC-1."""
_QUIET = {"libx265": {"x265-params": "log-level=none"}}


def verdict_on(trial: Mapping[str, Any]) -> dict[str, Any]:
    """Whether a codec works, None if that cannot be tried, and the reason if it does not."""
    reason = _reason_against(trial)
    if not reason and trial["kind"] == "decoder" and _sample_encoder(trial["name"]) is None:
        return {"works": None, "reason": "it opens; no frame was decoded, because FFmpeg cannot encode this codec"}
    return {"works": not reason, "reason": reason}


def _reason_against(trial: Mapping[str, Any]) -> str:
    with av.logging.Capture(local=False) as messages:
        try:
            return _encode(trial) if trial["kind"] == "encoder" else _decode(trial)
        except (av.error.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
    # The first message names the cause, such as a missing library; the error itself is often "Unknown error".
    first = next((text.strip() for _, _, text in messages if text.strip()), "")
    return (first or str(reason)).rstrip(".")


def _encode(trial: Mapping[str, Any]) -> str:
    context, packets = _encoded(trial["name"], trial, trial["options"])
    unused = sorted(context.options)
    if unused:
        return f"it has no option {', '.join(unused)}"
    return "" if packets else "it returned no packet"


def _encoded(name: str, trial: Mapping[str, Any], options: Mapping[str, str]) -> tuple[Any, list[Any]]:
    """Opens an encoder, and encodes black frames."""
    context: Any = av.CodecContext.create(name, "w")
    context.width, context.height, context.pix_fmt = trial["width"], trial["height"], trial["pixel_format"]
    context.color_range = trial["color_range"]
    context.time_base, context.framerate = Fraction(1, 30), Fraction(30)
    context.options = dict(options)
    context.open()
    packets = [packet for frame in _frames(trial) for packet in context.encode(frame)]
    return context, packets + context.encode(None)


def _frames(trial: Mapping[str, Any]) -> Iterator[Any]:
    for number in range(_FRAMES):
        frame = av.VideoFrame(trial["width"], trial["height"], trial["pixel_format"])
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.pts, frame.time_base = number, Fraction(1, 30)
        yield frame


def _decode(trial: Mapping[str, Any]) -> str:
    decoder: Any = av.CodecContext.create(trial["name"], "r")
    decoder.width, decoder.height = trial["width"], trial["height"]
    encoder = _sample_encoder(trial["name"])
    if encoder is None:
        decoder.open()
        return ""
    _, packets = _encoded(
        encoder, {**trial, "pixel_format": _format_of(encoder), "color_range": 0}, _QUIET.get(encoder, {})
    )
    pictures = [picture for packet in [*packets, None] for picture in decoder.decode(packet)]
    return "" if pictures else "it opened, and returned no picture"


def _sample_encoder(decoder: str) -> str | None:
    """The encoder of a video for a decoder; None if this build of FFmpeg has none."""
    encoder = _SOFTWARE_ENCODERS.get(av.Codec(decoder, "r").canonical_name)
    return encoder if encoder in av.codecs_available else None


def _format_of(encoder: str) -> str:
    return "yuvj420p" if encoder == "mjpeg" else "yuv420p"


if __name__ == "__main__":
    av.logging.set_level(av.logging.ERROR)
    for requested in json.load(sys.stdin):
        sys.stdout.write(json.dumps(verdict_on(requested)) + "\n")
        sys.stdout.flush()
