"""What placed tiles gain within a bound of reuse, on the clips of `reuse_clips.py`: the small table in docs/camera.md.

Each frame is upscaled within the bound with placed tiles and without, one directly after the other and in turn; every
fourth one also without reuse, to compare with. The bundle is that of `reuse.py`, in OUT.

    python benchmarks/placed_tiles.py --frames 40
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from reuse import NETWORKS, opened
from reuse_clips import CLIPS, GOP, SCALE, Clip

from sr_edge.bench import describe_environment
from sr_edge.camera import NetworkFrameUpscaler
from sr_edge.frames import Frame
from sr_edge.metrics import psnr_y_db
from sr_edge.reuse_table import BLOCK_PX
from sr_edge.runtimes import Session
from sr_edge.upscaler import Upscaler
from sr_edge.upscaler.reuse import FrameReuse
from sr_edge.upscaler.tile_change import block_change

FIRST = GOP - 4
COMPARED = 4
"""Every so many frames are also computed without reuse."""


class WithoutPlacement:
    """A session whose network was not measured for placed tiles."""

    def __init__(self, session: Session) -> None:
        """Wraps an open session."""
        table = session.spec.reuse_table
        self.spec = replace(session.spec, reuse_table=None if table is None else replace(table, placement=None))
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


@dataclass
class Mode:
    """One way to upscale, and its figures."""

    upscaler: Upscaler
    times_ms: list[float] = field(default_factory=list)
    computed: list[int] = field(default_factory=list)
    losses_db: list[float] = field(default_factory=list)
    local_error: float = 0.0

    def upscale(self, rgb: Frame, time_s: float | None, is_counted: bool) -> Frame:
        counted: list[FrameReuse] = []
        started_s = time.perf_counter()
        upscaled = self.upscaler.upscale(rgb, on_reuse=counted.append, time_s=time_s)
        if is_counted:
            self.times_ms.append(1e3 * (time.perf_counter() - started_s))
            self.computed += [each.computed for each in counted]
        return upscaled


def measure(session: Session, clip: Clip, bound_db: float, frames: int, folder: Path) -> str:
    """A line of the table."""
    grid = Mode(Upscaler(cast(Session, WithoutPlacement(session)), reuse=bound_db))
    modes = (grid, Mode(Upscaler(session, reuse=bound_db)))
    off, converter = Upscaler(session), NetworkFrameUpscaler(session)
    decoded = clip.decoded(folder, FIRST, frames + 1)
    for index, (frame, original) in enumerate(zip(decoded, clip.originals(FIRST, len(decoded)), strict=True)):
        rgb = converter.prepare(frame).planes[0]
        order = modes if index % 2 else modes[::-1]
        outputs = {id(mode): mode.upscale(rgb, frame.time_s, index > 0) for mode in order}
        if index and index % COMPARED == 0:
            expected = off.upscale(rgb)
            for mode in modes:
                output = outputs[id(mode)]
                loss_db = psnr_y_db(expected, original, SCALE) - psnr_y_db(output, original, SCALE)
                mode.losses_db.append(loss_db)
                mode.local_error = max(mode.local_error, block_change(expected, output, BLOCK_PX * SCALE))
    cells = [
        *(f"{statistics.mean(mode.computed):.1f}" for mode in modes),
        *(f"{statistics.mean(mode.times_ms):.1f}" for mode in modes),
        *(f"{statistics.mean(mode.losses_db):+.4f}" for mode in modes),
        *(f"{mode.local_error:.1f}" for mode in modes),
    ]
    return f"| {clip.name} | {len(grid.times_ms)} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default=NETWORKS[0], choices=NETWORKS)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--bound", type=float, default=0.05, metavar="DB", help="the bound in decibels")
    parser.add_argument("--out", type=Path, default=Path("build/reuse"), metavar="FOLDER")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    with opened(arguments.network, out) as session:
        machine = describe_environment().machine
        print(f"{arguments.network}, bound {arguments.bound:g} dB: {session.spec}; {machine.cpu}\n")
        print("| clip | frames | tiles in the grid | with placed | ms | with placed | loss dB | with placed ", end="")
        print("| local error | with placed |\n|---|---|---|---|---|---|---|---|---|---|", flush=True)
        for clip in CLIPS:
            print(measure(session, clip, arguments.bound, arguments.frames, out / "clips"), flush=True)


if __name__ == "__main__":
    main()
