"""How long `sr-edge --help` takes, from a fresh process to its end: the floor of every command.

python benchmarks/start_up.py --runs 15
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path


def help_ms() -> float:
    """Milliseconds of one `sr-edge --help`."""
    command = [str(Path(sys.executable).parent / "sr-edge"), "--help"]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return 1e3 * (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", type=Path, help="also write the measurements to this JSON file")
    args = parser.parse_args()
    samples_ms = [help_ms() for _ in range(args.runs + 1)][1:]
    figures = {"runs": args.runs, "p50_ms": statistics.median(samples_ms), "max_ms": max(samples_ms)}
    print(f"sr-edge --help: median {figures['p50_ms']:.0f} ms, longest {figures['max_ms']:.0f} ms of {args.runs}")
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
