"""The main job on bundled weights and free pictures: deploys to INT8, upscales, and shows before and after.

Usage: python scripts/demo.py [--output FOLDER]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sr_edge.frames import Picture
from sr_edge.image_files import read_picture, write_picture
from sr_edge.metrics import psnr_y_db
from sr_edge.resize import downscale_bicubic, resize_bicubic

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "examples" / "pictures"
MODEL, SCALE, TILE = "taylor-swinir-tiny", 2, "96x96"
RUNTIME, PRECISION = "openvino", "int8"
DETAIL = (slice(330, 412), slice(100, 196))
ENLARGEMENT = 5
MARGIN_PX, CAPTION_PX = 12, 30


class Panel(NamedTuple):
    caption: str
    frame_hwc: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def run_sr_edge(*arguments: str | Path) -> None:
    print("\n$ sr-edge", *(_shown(argument) for argument in arguments), flush=True)
    subprocess.run([sys.executable, "-m", "sr_edge", *map(str, arguments)], check=True)


def _shown(argument: str | Path) -> str:
    if isinstance(argument, Path) and argument.is_relative_to(ROOT):
        return str(argument.relative_to(ROOT))
    return str(argument)


def deploy(bundle: Path) -> None:
    run_sr_edge(
        *("deploy", MODEL, "--scale", str(SCALE), "--tile", TILE, "--images", PICTURES / "calibration"),
        *("--hr", PICTURES / "hr", "--runtimes", "all", "-o", bundle),
    )


def upscale(bundle: Path, small: Path, large: Path) -> None:
    run_sr_edge("upscale", bundle, small, large, "--runtime", RUNTIME, "--precision", PRECISION)


def compare(truth_file: Path, small: Path, large: Path) -> list[Panel]:
    """Bicubic, ours and the truth, with PSNR-Y of the first two."""
    truth = read_picture(truth_file).pixels
    bicubic = resize_bicubic(read_picture(small).pixels, SCALE)
    ours = read_picture(large).pixels
    return [
        Panel(f"bicubic: {psnr_y_db(bicubic, truth, SCALE):.2f} dB", bicubic),
        Panel(f"{MODEL}, {PRECISION}: {psnr_y_db(ours, truth, SCALE):.2f} dB", ours),
        Panel("the original", truth),
    ]


def draw(panels: list[Panel]) -> Image.Image:
    """The panels side by side: the detail enlarged without smoothing, its caption below."""
    details = [_enlarged(panel.frame_hwc[DETAIL]) for panel in panels]
    width, height = details[0].size
    canvas = Image.new(
        "RGB", (len(panels) * (width + MARGIN_PX) + MARGIN_PX, height + 2 * MARGIN_PX + CAPTION_PX), "white"
    )
    pen = ImageDraw.Draw(canvas)
    for column, (panel, detail) in enumerate(zip(panels, details, strict=True)):
        left = MARGIN_PX + column * (width + MARGIN_PX)
        canvas.paste(detail, (left, MARGIN_PX))
        centre = (left + width // 2, height + MARGIN_PX + CAPTION_PX // 2 + MARGIN_PX // 2)
        pen.text(centre, panel.caption, fill="black", font=ImageFont.load_default(18), anchor="mm")
    return canvas


def _enlarged(frame_hwc: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Image.Image:
    detail = Image.fromarray(frame_hwc)
    return detail.resize((detail.width * ENLARGEMENT, detail.height * ENLARGEMENT), Image.Resampling.NEAREST)


def show_before_and_after(bundle: Path, output: Path) -> list[Panel]:
    """Shrinks the portrait, upscales it with the bundle, and writes before_after.png; returns what it shows."""
    truth, small, large = PICTURES / "hr" / "astronaut.png", output / "small.png", output / "upscaled.png"
    write_picture(small, Picture(downscale_bicubic(read_picture(truth).pixels, SCALE)))
    upscale(bundle, small, large)
    panels = compare(truth, small, large)
    draw(panels).save(output / "before_after.png", optimize=True)
    return panels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "demo-output", help="folder for all that is written")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    bundle = output / f"{MODEL}-x{SCALE}.sredge"

    deploy(bundle)
    panels = show_before_and_after(bundle, output)
    print("\nPSNR-Y against the original:", *(panel.caption for panel in panels[:2]), sep="\n  ")
    print(f"\nlook at {_shown(output / 'before_after.png')}")


if __name__ == "__main__":
    main()
