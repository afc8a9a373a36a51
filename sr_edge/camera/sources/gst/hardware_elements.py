"""The elements of GStreamer that encode and decode video in hardware, found and tried with GStreamer's own tools."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from sr_edge.camera.media.codecs import TRIAL_LIMIT_S, CodecKind, CodecVerdict

_LISTED = re.compile(r"\s*\S+:\s+(?P<name>\S+): .+")
"""A line of gst-inspect-1.0: "nvcodec:  nvh264enc: NVENC H.264 Video Encoder"."""
_NOT_TRIED = "it is registered; no frame was decoded"


def hardware_elements(
    inspect: Sequence[str] = ("gst-inspect-1.0",),
    launch: Sequence[str] = ("gst-launch-1.0", "-q"),
    limit_s: float = TRIAL_LIMIT_S,
) -> tuple[CodecVerdict, ...] | None:
    """GStreamer's hardware encoders and decoders for video. Encoders are tried with three frames.

    GStreamer registers most of these elements only where it finds the driver, so a machine without one lists none.

    Args:
        inspect: The program that lists the elements of a class, with its options.
        launch: The program that runs a pipeline, with its options.
        limit_s: How long a program may take.

    Returns:
        Each element; None if GStreamer's tools are not installed, or do not answer.
    """
    verdicts = []
    for kind in CodecKind:
        names = _names(inspect, kind, limit_s)
        if names is None:
            return None
        for name in names:
            if kind is CodecKind.DECODER:
                verdicts.append(CodecVerdict(name, kind, None, _NOT_TRIED))
                continue
            reason = _reason_against_encoder(launch, name, limit_s)
            verdicts.append(CodecVerdict(name, kind, not reason, reason))
    return tuple(verdicts)


def _names(inspect: Sequence[str], kind: CodecKind, limit_s: float) -> list[str] | None:
    command = [*inspect, "-t", f"Codec/{kind.value.title()}/Video/Hardware"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return [match["name"] for line in listed.stdout.splitlines() if (match := _LISTED.fullmatch(line))]


def _reason_against_encoder(launch: Sequence[str], name: str, limit_s: float) -> str:
    """Why an element encodes no frames; empty if it does."""
    frames = "videotestsrc num-buffers=3 ! video/x-raw,width=352,height=288 ! videoconvert"
    command = [*launch, *f"{frames} ! {name} ! fakesink".split()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return f"it did not answer within {limit_s:g} s"
    except OSError as error:
        return str(error.strerror)
    if done.returncode == 0:
        return ""
    if done.returncode < 0:
        return f"the driver crashed with signal {-done.returncode}"
    messages = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return messages[0] if messages else f"gst-launch-1.0 ended with exit code {done.returncode}"
