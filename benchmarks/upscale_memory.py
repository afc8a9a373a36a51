"""Peak memory of upscaling a 4K picture against that of a 720p one, each in a fresh process.

The limit: peak RSS at 3840x2160 <= peak RSS at 1280x720 + 3 x the bytes of the larger input and output picture.

    python benchmarks/upscale_memory.py --bundle convnet-tiny.sredge --precision int8 --io uint8
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from chosen_session import add_session_arguments, chosen_session

from sr_edge.upscaler import Upscaler

SMALL, LARGE = (1280, 720), (3840, 2160)
PICTURES_ALLOWED = 3
MIB = 1 << 20


@dataclass(frozen=True)
class Peak:
    """What one fresh process reached; `picture_bytes` are those of its input and output together."""

    picture: str
    runtime: str
    ran: str
    peak_rss_bytes: int
    picture_bytes: int


def peak_of_this_process(args: argparse.Namespace, width: int, height: int) -> Peak:
    """Upscales one picture here and reads the highest resident size of the process."""
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    with chosen_session(args) as session:
        upscaled = Upscaler(session, args.overlap).upscale(frame)
        spec = session.spec
    return Peak(
        f"{width}x{height}",
        f"{spec.runtime} {spec.version}".strip(),
        str(spec.ran),
        peak_rss_bytes(),
        frame.nbytes + upscaled.nbytes,
    )


def peak_rss_bytes() -> int:
    """From /proc where there is one: getrusage also counts what the parent process had before this one began."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def peak_of_fresh_process(arguments: list[str], width: int, height: int) -> Peak:
    command = [sys.executable, __file__, *arguments, "--only", f"{width}x{height}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{width}x{height} failed: {done.stderr.strip()}")
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_session_arguments(parser)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="also write the measurements to this JSON file")
    args = parser.parse_args()
    if args.only:
        width, height = map(int, args.only.split("x"))
        print(json.dumps(asdict(peak_of_this_process(args, width, height))))
        return
    small, large = (peak_of_fresh_process(sys.argv[1:], *size) for size in (SMALL, LARGE))
    limit_bytes = small.peak_rss_bytes + PICTURES_ALLOWED * large.picture_bytes
    holds = large.peak_rss_bytes <= limit_bytes
    for peak in (small, large):
        print(f"{peak.picture:>9}: peak RSS {peak.peak_rss_bytes / MIB:7.0f} MiB ({peak.runtime}, {peak.ran})")
    grown = (large.peak_rss_bytes - small.peak_rss_bytes) / large.picture_bytes
    print(f"    limit:          {limit_bytes / MIB:7.0f} MiB, {'kept' if holds else 'EXCEEDED'}; ", end="")
    print(f"grew by {grown:.2f} x the larger pictures, {PICTURES_ALLOWED} allowed")
    if args.json is not None:
        figures = {"small": asdict(small), "large": asdict(large), "limit_bytes": limit_bytes, "holds": holds}
        args.json.write_text(json.dumps(figures, indent=2))
    if not holds:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
