"""What converting NV12 frames in the graph gains, against libswscale before it: the table of docs/camera.md.

    python benchmarks/nv12.py                    # minutes, on a machine that does nothing else
    python benchmarks/nv12.py --smallest         # seconds: does it run?
    python benchmarks/nv12.py --publish          # also writes the table into docs/camera.md

Both ways run the same network on the same frames in turn, A B A B: `before` converts a frame to RGB and runs the uint8
graph, `after` runs the NV12 graph. A time is that from the decoded frame to the RGB output; what follows is the same
for both. Bytes are those that the host writes for a frame before the engine reads them. Differences are those of the
output, in 8-bit levels, on a photograph.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np

from sr_edge.bench import describe_environment, write_text
from sr_edge.camera import NetworkFrameUpscaler, VideoFrame
from sr_edge.camera.media.conversion import reformatted
from sr_edge.camera.media.frame import PixelFormat
from sr_edge.deploy import DeployPlan, deploy_network
from sr_edge.errors import PrecisionUnavailable
from sr_edge.export.graph.patches import PICTURES
from sr_edge.files.whole_file import require_output_file
from sr_edge.image_files import read_picture
from sr_edge.model_sources import open_frame_session, open_session
from sr_edge.models import load_model
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.nv12.frames import nv12_shape
from sr_edge.runtimes.engine.meters import MedianInterval
from sr_edge.runtimes.session import SessionSpec
from sr_edge.spec import FrameFormat, Precision, TileSpec
from sr_edge.tiling import plan_tiles

PAGE = Path(__file__).resolve().parent.parent / "docs" / "camera.md"
START, END = "<!-- nv12: written by benchmarks/nv12.py -->", "<!-- end of nv12 -->"
TILE = TileSpec(180, 320)
SIZES = ((180, 320), (360, 640))
RUNTIMES = ("openvino", "onnxruntime")
PRECISIONS = (Precision.FP32, Precision.INT8)
COLOUR = Nv12Colour.BT709_LIMITED


@dataclass(frozen=True)
class Row:
    """One runtime, precision, frame format and size; times are medians, and the ratio is that of after to before."""

    runtime: str
    precision: str
    pixel_format: str
    frame: str
    tiles: int
    rounds: int
    before_ms: float
    after_ms: float
    ratio: float
    interval: tuple[float, float]
    before_bytes: int
    after_bytes: int
    largest_difference: int
    share_different: float


def photograph(height: int, width: int, pixel_format: PixelFormat) -> VideoFrame:
    """A frame of this size from a bundled photograph, which is repeated by reflection."""
    pixels = np.pad(read_picture(sorted(PICTURES.iterdir())[0]).pixels, ((0, height), (0, width), (0, 0)), "symmetric")
    rgb = np.ascontiguousarray(pixels[:height, :width])
    return reformatted(VideoFrame((rgb,), PixelFormat.RGB), pixel_format)


def copied_bytes(frame: VideoFrame, spec: SessionSpec) -> tuple[int, int]:
    """Bytes that the host writes for a frame before and after: arithmetic over the arrays that each way makes."""
    pixels, planes = frame.height * frame.width, sum(plane.nbytes for plane in frame.planes)
    plan = plan_tiles(frame.height, frame.width, spec.tile, spec.overlap_px)
    rgb_tile, packed_tile = 3 * spec.tile.height * spec.tile.width, int(np.prod(nv12_shape(spec.tile)))
    is_whole = (frame.height, frame.width) == (spec.tile.height, spec.tile.width)
    # The planes for libswscale, planar RGB, packed RGB; each tile cut out, and copied into a slot of the session.
    before = planes + 2 * 3 * pixels + plan.tiles * rgb_tile * (1 if is_whole else 2)
    # The chroma of separate planes, interleaved; each tile cut out with its margin, and copied into a slot.
    interleaved = pixels // 2 if frame.format is PixelFormat.I420 else 0
    return before, interleaved + plan.tiles * packed_tile * 2


def measure(bundle: Path, runtime: str, precision: Precision, frame: VideoFrame, rounds: int, threads: int) -> Row:
    """Times both ways in turn after a warm-up."""
    with (
        open_frame_session(bundle, runtime, precision, threads=threads) as usual,
        open_session(bundle, runtime, precision, io=FrameFormat.NV12, threads=threads) as nv12,
    ):
        # The frame is the same in all rounds, so with reuse nothing would be computed.
        ways = (
            NetworkFrameUpscaler(usual, reuse="off"),
            NetworkFrameUpscaler(usual, nv12_session=nv12, reuse="off"),
        )
        outputs = [way.infer(way.prepare(frame)).planes[0].astype(int) for way in ways]
        samples: list[list[float]] = [[], []]
        for _ in range(rounds):
            for way, times_ms in zip(ways, samples, strict=True):
                started_s = time.perf_counter()
                way.infer(way.prepare(frame))
                times_ms.append(1e3 * (time.perf_counter() - started_s))
        before_bytes, after_bytes = copied_bytes(frame, nv12.spec)
        tiles = plan_tiles(frame.height, frame.width, nv12.spec.tile, nv12.spec.overlap_px).tiles
    ratio = MedianInterval.of([after / before for before, after in zip(*samples, strict=True)])
    difference = np.abs(outputs[1] - outputs[0])
    return Row(
        runtime,
        str(precision),
        str(frame.format),
        f"{frame.width}x{frame.height}",
        tiles,
        rounds,
        statistics.median(samples[0]),
        statistics.median(samples[1]),
        ratio.median,
        (ratio.low, ratio.high),
        before_bytes,
        after_bytes,
        int(difference.max()),
        float((difference > 0).mean()),
    )


def table(rows: Sequence[Row], where: str) -> str:
    """The rows as Markdown."""
    lines = [
        "| runtime | precision | frame | tiles | bytes copied before, after | ms before | ms after | after / before "
        "| levels |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row.interval
        lines.append(
            f"| {row.runtime} | {row.precision} | {row.frame} {row.pixel_format} | {row.tiles} "
            f"| {row.before_bytes / 1e6:.2f} MB, {row.after_bytes / 1e6:.2f} MB "
            f"| {row.before_ms:.2f} | {row.after_ms:.2f} | {row.ratio:.3f} ({low:.3f} to {high:.3f}) "
            f"| at most {row.largest_difference}, in {row.share_different:.1%} of the samples |"
        )
    return "\n".join([*lines, "", where])


def publish(text: str) -> None:
    """Replaces what is between the markers of docs/camera.md."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(START)
    write_text(PAGE, f"{before}{START}\n\n{text}\n\n{END}{rest.split(END)[1]}")


@contextmanager
def bundle_of(given: Path | None, precisions: Sequence[Precision], threads: int) -> Iterator[Path]:
    """The bundle of the command line, or convnet-tiny x2 with NV12 graphs, deployed into a temporary folder."""
    if given is not None:
        yield given
        return
    plan = DeployPlan(
        TILE,
        ("onnxruntime",),
        precisions,
        rounds=1,
        with_memory=False,
        with_tile_needs=False,
        threads=threads,
        nv12_colour=COLOUR,
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "convnet-tiny-x2.sredge"
        deploy_network(load_model("convnet-tiny", 2), None, out, plan)
        yield out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="a bundle with NV12 graphs of BT.709 in limited range")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--smallest", action="store_true", help="only fp32 and the small frame, 6 rounds")
    parser.add_argument("--publish", action="store_true", help="write the table into docs/camera.md")
    parser.add_argument("--json", type=Path, help="also write the measurements to this JSON file")
    args = parser.parse_args()
    if args.json is not None:
        require_output_file(args.json)
    precisions = PRECISIONS[:1] if args.smallest else PRECISIONS
    sizes, rounds = (SIZES[:1], 6) if args.smallest else (SIZES, args.rounds)
    environment = describe_environment()
    with bundle_of(args.bundle, precisions, args.threads) as bundle:
        rows: list[Row] = []
        for runtime, precision in product(RUNTIMES, precisions):
            try:
                rows += [
                    measure(bundle, runtime, precision, photograph(height, width, pixel_format), rounds, args.threads)
                    for (height, width), pixel_format in product(sizes, (PixelFormat.NV12, PixelFormat.I420))
                ]
            except PrecisionUnavailable as error:
                print(f"{runtime} {precision} is left out: {error}", file=sys.stderr)
    where = (
        f"convnet-tiny x2, {COLOUR}, tile {TILE}, {args.threads} threads, {rounds} rounds in turn, medians with the "
        f"95 % interval of the median ratio; {environment.machine.cpu}. `python benchmarks/nv12.py --publish`."
    )
    text = table(rows, where)
    print(text)
    if args.json is not None:
        document = {"environment": asdict(environment), "rows": [asdict(row) for row in rows]}
        args.json.write_text(json.dumps(document, indent=2))
    if args.publish:
        publish(text)


if __name__ == "__main__":
    main()
