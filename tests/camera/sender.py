"""A camera for tests, in a process of its own: sends flat frames to an address until it is ended.

python sender.py URL CONTAINER WIDTHxHEIGHT FRAMES_PER_SECOND

Frame n has the level of `clips.grey(n)`. Says "sending" when the other side takes frames, and tries again until then.
"""

from __future__ import annotations

import sys
import time
from fractions import Fraction
from typing import Any

import av
import numpy as np

TRY_FOR_S = 30


def connected(url: str, container: str, width: int, height: int, rate: int) -> tuple[Any, Any]:
    """The open container and its video stream; the header is sent with the first attempt that succeeds."""
    until_s = time.monotonic() + TRY_FOR_S
    while True:
        try:
            options = {"rtsp_transport": "tcp"} if container == "rtsp" else {}
            output: Any = av.open(url, "w", format=container, options=options)
            video = output.add_stream("libx264", rate=rate, options={"g": "5", "tune": "zerolatency"})
            video.width, video.height, video.pix_fmt = width, height, "yuv420p"
            video.codec_context.time_base = Fraction(1, 90_000)
            output.start_encoding()
            return output, video
        except OSError:
            if time.monotonic() > until_s:
                raise
            time.sleep(0.05)


def main() -> None:
    url, container, size, rate = sys.argv[1:]
    width, height = (int(side) for side in size.split("x"))
    output, video = connected(url, container, width, height, int(rate))
    print("sending", flush=True)  # noqa: T201
    begun_s = time.monotonic()
    number = 0
    while True:
        picture = av.VideoFrame(width, height, "yuv420p")
        for index, plane in enumerate(picture.planes):
            np.frombuffer(plane, np.uint8)[:] = 20 + 8 * (number % 25) if index == 0 else 128  # type: ignore[call-overload]
        picture.pts, picture.time_base = 90_000 * number // int(rate), Fraction(1, 90_000)
        output.mux(video.encode(picture))
        number += 1
        time.sleep(max(0.0, begun_s + number / int(rate) - time.monotonic()))


if __name__ == "__main__":
    main()
