"""Upscales a camera in a loop of your own: python examples/camera_loop.py MODEL [SOURCE]

SOURCE is a camera ("/dev/video0", "rtsp://...") or a clip; without one, a test pattern plays until Ctrl-C. Frames that
arrive while the model is busy are dropped, so that the frame at hand is never an old one.
"""

import sys
import time
from contextlib import suppress

from PIL import Image

import sr_edge


def watch(model: str, source: str = "test:320x180@30") -> None:
    with sr_edge.camera.stream(source, model, policy="latest") as stream, suppress(KeyboardInterrupt):
        for frame in stream:
            rgb_hwc = sr_edge.camera.rgb_from_frame(frame)
            Image.fromarray(rgb_hwc).save("newest_frame.jpg")  # your work: show the frame, or find something in it
            age_ms = (time.monotonic_ns() - frame.captured_ns) / 1e6
            print(frame, f"was captured {age_ms:.0f} ms ago")
    print(stream.report().dropped, "frames dropped")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    try:
        watch(*sys.argv[1:])
    except sr_edge.SrEdgeError as error:
        sys.exit(f"error: {error}")
