"""Simulated nodes of a Ray cluster on this machine, each with one core of its own, and samples of their processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

SAMPLE_S = 0.5
"""How often memory is sampled."""


@contextmanager
def nodes_on(cores: Sequence[int]) -> Iterator[str]:
    """Starts a cluster with one node for each of these cores, whose workers run on that core; yields its address."""
    from ray.cluster_utils import Cluster  # type: ignore[import-not-found,unused-ignore]

    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=0, include_dashboard=False)  # the head only schedules
        for core in cores:
            os.sched_setaffinity(0, {core})  # inherited by the node and all of its workers
            cluster.add_node(num_cpus=1)
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]


@dataclass
class Sample:
    """Resident memory in bytes at a time since the start: of the command, and of all other processes of Ray."""

    time_s: float
    driver_bytes: int
    workers_bytes: int


@dataclass
class Run:
    """One `sr-edge` command.

    Attributes:
        seconds: From its start to its end.
        cpu_s: Processor time of the command itself, without the workers.
        document: What it printed with --json.
        samples: Memory while it ran; empty unless it was asked for.
    """

    seconds: float
    cpu_s: float
    document: dict[str, Any]
    samples: list[Sample] = field(default_factory=list)


def run_command(arguments: Sequence[str | Path], core: int | None = None, is_sampled: bool = False) -> Run:
    """Runs `sr-edge ARGUMENTS --json`, on one core if `core` is given; SystemExit if it fails."""
    command = [sys.executable, "-m", "sr_edge", *map(str, arguments), "--json"]
    samples: list[Sample] = []
    stopped = threading.Event()
    before = os.times()
    started_s = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
    )
    sampling = threading.Thread(target=_sample, args=(process.pid, samples, stopped), daemon=True)
    if is_sampled:
        sampling.start()
    out, problem = process.communicate()
    seconds = time.perf_counter() - started_s
    stopped.set()
    after = os.times()
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed: {problem.strip()}")
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(seconds, cpu_s, json.loads(out), samples)


def _sample(driver: int, samples: list[Sample], stopped: threading.Event) -> None:
    started_s = time.monotonic()
    while not stopped.wait(SAMPLE_S):
        with suppress(psutil.Error):
            driver_bytes = psutil.Process(driver).memory_info().rss
            samples.append(Sample(time.monotonic() - started_s, driver_bytes, _ray_bytes()))


def _ray_bytes() -> int:
    """Private memory of all processes of Ray: resident without what is shared, so that no page counts twice."""
    total = 0
    for process in psutil.process_iter(["name", "cmdline"]):
        with suppress(psutil.Error):
            words = " ".join(process.info["cmdline"] or [])
            if "raylet" in words or "gcs_server" in words or words.startswith("ray::"):
                memory = process.memory_info()
                total += memory.rss - memory.shared
    return total
