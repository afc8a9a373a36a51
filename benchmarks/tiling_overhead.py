"""Share of the time of upscaling a picture that is spent outside the network.

Outside are: cutting tiles, conversion between the frame's and the graph's format, blending, and the output frame.
File coding is not. Two forms take turns, and medians are printed:
 - one tile after the other: here the network's own time is known for each tile, and the rest is the overhead;
 - in flight: what `Upscaler` does, where cutting and blending hide behind the next tile's computation.

    python benchmarks/tiling_overhead.py --bundle convnet-tiny.sredge --precision int8 --io uint8
    python benchmarks/tiling_overhead.py --network-ms 40
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
from chosen_session import add_session_arguments, chosen_session

from sr_edge.bench.environment import describe_environment
from sr_edge.frames import Frame
from sr_edge.runtimes import Session
from sr_edge.tiling import plan_tiles, upscale_frame
from sr_edge.upscaler import Upscaler


@dataclass(frozen=True)
class Overhead:
    """Medians over `runs` repetitions of each form, in turn; milliseconds are of the whole picture."""

    runtime: str
    ran: str
    io: str
    tile: str
    picture: str
    tiles: int
    runs: int
    network_ms: float
    outside_ms: float
    outside_share: float
    outside_ms_per_output_megapixel: float
    in_flight_ms: float
    sequential_ms: float


def sequential_run(session: Session, frame: Frame, overlap_px: int) -> tuple[float, float]:
    """Milliseconds of one upscaling, all of it and in the engine."""
    engine_ms = 0.0

    def run(tile_hwc: Frame) -> Frame:
        nonlocal engine_ms
        upscaled, stages = session.run_staged(tile_hwc)
        engine_ms += stages.compute_ms
        return cast(Frame, upscaled)

    spec = session.spec
    started = time.perf_counter()
    upscale_frame(frame, run, tile=spec.tile, scale=spec.scale, overlap_px=overlap_px)
    return 1e3 * (time.perf_counter() - started), engine_ms


def measure_overhead(session: Session, frame: npt.NDArray[np.uint8], overlap_px: int, runs: int) -> Overhead:
    """Takes turns between both forms after one warm-up of each."""
    upscaler = Upscaler(session, overlap_px)
    sequential: list[tuple[float, float]] = []
    in_flight_ms: list[float] = []
    for _ in range(runs + 1):
        sequential.append(sequential_run(session, frame, overlap_px))
        started = time.perf_counter()
        upscaler.upscale(frame)
        in_flight_ms.append(1e3 * (time.perf_counter() - started))
    height, width, spec = *frame.shape[:2], session.spec
    outside_ms = statistics.median(total - engine for total, engine in sequential[1:])
    return Overhead(
        runtime=f"{spec.runtime} {spec.version}".strip(),
        ran=str(spec.ran),
        io=str(spec.io),
        tile=str(spec.tile),
        picture=f"{width}x{height}",
        tiles=plan_tiles(height, width, spec.tile, overlap_px).tiles,
        runs=runs,
        network_ms=statistics.median(engine for _, engine in sequential[1:]),
        outside_ms=outside_ms,
        outside_share=statistics.median((total - engine) / total for total, engine in sequential[1:]),
        outside_ms_per_output_megapixel=outside_ms / (height * width * spec.scale**2 / 1e6),
        in_flight_ms=statistics.median(in_flight_ms[1:]),
        sequential_ms=statistics.median(total for total, _ in sequential[1:]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_session_arguments(parser)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the measurements to this JSON file")
    args = parser.parse_args()
    frame = np.random.default_rng(0).integers(0, 256, (args.height, args.width, 3), np.uint8)
    environment = describe_environment()
    with chosen_session(args) as session:
        overlap_px = session.spec.overlap_px if args.overlap is None else args.overlap
        found = measure_overhead(session, frame, overlap_px, args.runs)
    print(f"{found.runtime}, {found.ran}, {found.io} graph, {found.tiles} tiles of {found.tile} for {found.picture}")
    print(f"outside the network  {found.outside_ms:8.2f} ms = {found.outside_share:.2%} of the time")
    print(f"per output megapixel {found.outside_ms_per_output_megapixel:8.2f} ms")
    print(f"in the network       {found.network_ms:8.2f} ms")
    print(f"one after the other  {found.sequential_ms:8.2f} ms, in flight {found.in_flight_ms:.2f} ms")
    if args.json is not None:
        args.json.write_text(json.dumps({"overhead": asdict(found), "environment": asdict(environment)}, indent=2))


if __name__ == "__main__":
    main()
