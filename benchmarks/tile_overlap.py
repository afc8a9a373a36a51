"""What tiling costs: a network over whole pictures against the same network over 96x96 tiles, by overlap.

An overlap that is no multiple of the window shifts the windows against the whole picture's, so that the results
differ even away from the seams. Printed: PSNR-Y against the originals, and between tiled and whole.

    python benchmarks/tile_overlap.py --hr FOLDER_OF_ORIGINALS
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sr_edge.frames import Frame, batch_from_frame, frame_from_batch
from sr_edge.metrics import psnr_y_db
from sr_edge.models import load_model
from sr_edge.spec import TileSpec
from sr_edge.tiling import upscale_frame
from sr_edge.training.data import PairSet

OVERLAPS_PX = (0, 8, 16, 24, 48)


def runner(network: nn.Module) -> Callable[[Frame], Frame]:
    """The network on uint8 HWC frames of any size."""

    def run(frame_hwc: Frame) -> Frame:
        with torch.inference_mode():
            return frame_from_batch(network(torch.from_numpy(batch_from_frame(frame_hwc))).numpy(), np.uint8)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hr", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--model", default="taylor-swinir-tiny")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--tile", type=TileSpec.parse, default=TileSpec(96, 96))
    args = parser.parse_args()
    run = runner(load_model(args.model, args.scale).module)
    pairs = PairSet.from_folder(args.hr, args.scale).pairs
    whole = [run(pair.lr) for pair in pairs]

    def mean_db(frames: list[Frame], references: list[Frame]) -> float:
        scores = (psnr_y_db(a, b, args.scale) for a, b in zip(frames, references, strict=True))
        return statistics.mean(min(score, 100.0) for score in scores)

    originals = [pair.hr for pair in pairs]
    print(f"whole pictures: {mean_db(whole, originals):.3f} dB against the originals")
    for overlap_px in OVERLAPS_PX:
        tiled = [upscale_frame(pair.lr, run, tile=args.tile, scale=args.scale, overlap_px=overlap_px) for pair in pairs]
        against_hr, against_whole = mean_db(tiled, originals), mean_db(tiled, whole)
        print(f"overlap {overlap_px:2d} px: {against_hr:.3f} dB, {against_whole:.1f} dB against whole pictures")


if __name__ == "__main__":
    main()
