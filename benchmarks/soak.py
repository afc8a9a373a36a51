"""Streams for minutes and samples memory, threads and open files: python -m benchmarks.soak [MINUTES].

The first quarter is the warm-up. The figures, which compare the medians of the second and the last quarter, go to
docs/results/reliability.json.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import psutil

from benchmarks.reliability import record
from sr_edge.camera import EngineChoice, stream
from tests.fuzz import material

_INTERVAL_S = 1.0


def sampled(stopped: threading.Event) -> list[tuple[int, int, int]]:
    """Resident bytes, threads and open files of this process, once a second until it is told to stop."""
    process, samples = psutil.Process(), []
    while not stopped.wait(_INTERVAL_S):
        samples.append((process.memory_info().rss, process.num_threads(), process.num_fds()))
    return samples


def main(minutes: float = 10.0) -> int:
    stopped = threading.Event()
    samples: list[tuple[int, int, int]] = []
    sampling = threading.Thread(target=lambda: samples.extend(sampled(stopped)))
    frames = 0
    with tempfile.TemporaryDirectory() as folder:
        bundle = material.bundle(Path(folder) / "toy.sredge")
        with stream("test:160x90@30", bundle, engine=EngineChoice("onnxruntime")) as live:
            sampling.start()
            until_s = time.monotonic() + 60 * minutes
            for _ in live:
                frames += 1
                if time.monotonic() > until_s:
                    break
    stopped.set()
    sampling.join()
    quarter = len(samples) // 4
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    figures = {"minutes": minutes, "frames": frames}
    for index, name in enumerate(("resident_mb", "threads", "open_files")):
        scale = 1e6 if index == 0 else 1
        figures[name] = [round(median(sample[index] for sample in part) / scale, 1) for part in (early, late)]
    record("soak", figures)
    sys.stdout.write(f"{figures}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*map(float, sys.argv[1:])))
