"""Upscales one picture: python examples/picture.py MODEL INPUT OUTPUT

MODEL is a bundle or an ONNX file.
"""

import sys

import numpy as np
from PIL import Image

import sr_edge


def upscale_picture(model: str, source: str, target: str) -> None:
    frame_hwc = np.asarray(Image.open(source).convert("RGB"))
    with sr_edge.open_frame_session(model) as session:
        print(session)
        large_hwc = sr_edge.Upscaler(session).upscale(frame_hwc)
    Image.fromarray(large_hwc).save(target)
    print(f"{frame_hwc.shape[1]}x{frame_hwc.shape[0]} -> {large_hwc.shape[1]}x{large_hwc.shape[0]} pixels: {target}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        upscale_picture(*sys.argv[1:])
    except (sr_edge.SrEdgeError, OSError) as error:
        sys.exit(f"error: {error}")
