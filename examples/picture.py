"""Upscales one picture: python examples/picture.py MODEL INPUT OUTPUT

MODEL is a bundle or an ONNX file.
"""

import sys

from PIL import Image

import sr_edge


def upscale_picture(model: str, source: str, target: str) -> None:
    with sr_edge.open_upscaler(model) as upscaler, Image.open(source) as small:
        print(upscaler)
        large = upscaler(small)  # an array, a tensor, a path or a list works as well
    large.save(target)
    print(f"{small.width}x{small.height} -> {large.width}x{large.height} pixels: {target}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        upscale_picture(*sys.argv[1:])
    except (sr_edge.SrEdgeError, OSError) as error:
        sys.exit(f"error: {error}")
