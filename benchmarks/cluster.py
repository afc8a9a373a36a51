"""What `sr-edge batch` costs and how it scales: the figures of docs/cluster.md, and docs/results/cluster.json.

    python benchmarks/cluster.py                 # minutes, on a machine that does nothing else
    python benchmarks/cluster.py --quick         # a trial: does it run?
    python benchmarks/cluster.py --publish

The nodes are simulated on this machine, with one core for each, which the command and Ray's own processes share with
the workers. So these are overheads and scaling, not the speed of a cluster. All variants of a comparison run in turn.

    scaling     pictures of about one second on one node, and on two: how much of twice the rate is reached
    overhead    the same pictures by `sr-edge upscale` on one core; seconds a picture by the difference of a long and a
                short run, so that start-up does not count
    items       many tiny pictures: time of the command for each item, and whether memory grows
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from cluster_nodes import Run, nodes_on, run_command

from sr_edge.bench import describe_environment, write_text
from sr_edge.frames import Picture
from sr_edge.image_files import read_picture, write_picture

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "examples" / "pictures" / "calibration"
RESULTS = ROOT / "docs" / "results" / "cluster.json"
PAGE = ROOT / "docs" / "cluster.md"
START, END = "<!-- cluster: written by benchmarks/cluster.py -->", "<!-- end of cluster -->"

SIZE = (1280, 800)
"""Width and height of a picture that takes about one second on one core."""
SHORT, LONG = 6, 24
TINY_SIZE = (32, 32)
UNGROUPED_BYTES = 1_100_000
"""So that each tiny picture is one item: smaller files share one."""
WORKERS = (1, 10, 100, 300, 1000)
"""Numbers of workers in the model of throughput."""


def make_pictures(folder: Path, number: int, size: tuple[int, int], least_bytes: int = 0) -> Path:
    """Writes different pictures of a size, cut from a bundled photograph that is repeated by reflection.

    Files of less than `least_bytes` are filled up with zeros after their end.
    """
    width, height = size
    folder.mkdir()
    photograph = read_picture(sorted(PICTURES.iterdir())[0]).pixels
    padded = np.pad(photograph, ((0, height), (0, width), (0, 0)), "symmetric")
    for index in range(number):
        row, column = index % photograph.shape[0], index // photograph.shape[0] % photograph.shape[1]
        pixels = np.ascontiguousarray(padded[row : row + height, column : column + width])
        file = folder / f"{index:05}.png"
        write_picture(file, Picture(pixels))
        os.truncate(file, max(least_bytes, file.stat().st_size))
    return folder


def deploy(out: Path) -> Path:
    command = [sys.executable, "-m", "sr_edge", "deploy", "convnet-tiny", "--scale", "2", "-o", str(out)]
    options = ["--runtimes", "openvino", "--precisions", "fp32", "--no-memory", "--no-reuse-table"]
    subprocess.run([*command, *options], check=True, capture_output=True)
    return out


class Trial:
    """Runs commands on one bundle, each into a new folder."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self._targets: Iterator[Path] = (folder / f"out-{number}" for number in count())
        self._bundle = bundle

    def batch(self, source: Path, address: str, is_sampled: bool = False) -> Run:
        arguments = ("batch", self._bundle, source, next(self._targets), "--ray", address, "--threads", "1")
        return run_command((*arguments, *_ENGINE), is_sampled=is_sampled)

    def upscale(self, source: Path) -> Run:
        arguments = ("upscale", self._bundle, source, next(self._targets), "--threads", "1")
        return run_command((*arguments, *_ENGINE), core=0)


_ENGINE = ("--runtime", "openvino", "--precision", "fp32")


def measure_pictures(trial: Trial, short: Path, long: Path, rounds: int) -> dict[str, Any]:
    """Seconds a picture of `upscale`, and of `batch` on one and on two nodes, and the time of the commands."""
    seconds: dict[str, list[float]] = {"upscale": [], "one node": [], "two nodes": []}
    start_up: dict[str, list[float]] = {name: [] for name in seconds}
    driver_s: list[float] = []
    for _ in range(rounds):
        runs = {"upscale": (trial.upscale(short), trial.upscale(long))}
        for name, cores in (("one node", (0,)), ("two nodes", (0, 1))):
            with nodes_on(cores) as address:
                runs[name] = (trial.batch(short, address), trial.batch(long, address))
        for name, (few, many) in runs.items():
            each_s = (many.seconds - few.seconds) / (LONG - SHORT)
            seconds[name].append(each_s)
            start_up[name].append(few.seconds - SHORT * each_s)
        driver_s.append((runs["two nodes"][1].cpu_s - runs["two nodes"][0].cpu_s) / (LONG - SHORT))
    pairs = list(zip(seconds["one node"], seconds["two nodes"], strict=True))
    overheads = [batch / plain - 1 for plain, batch in zip(seconds["upscale"], seconds["one node"], strict=True)]
    return {
        "pictures": LONG - SHORT,
        "rounds": rounds,
        "seconds": {name: statistics.median(samples) for name, samples in seconds.items()},
        "start_up_s": {name: statistics.median(samples) for name, samples in start_up.items()},
        "efficiency": statistics.median(one / (2 * two) for one, two in pairs),
        "efficiency_range": sorted(one / (2 * two) for one, two in pairs),
        "overhead": statistics.median(overheads),
        "overhead_range": sorted(overheads),
        "driver_cpu_s": statistics.median(driver_s),
    }


def measure_items(trial: Trial, few: Path, many: Path, number: int) -> dict[str, Any]:
    """Processor time of the command for each item, and memory in the second and the last quarter of the run."""
    with nodes_on((0, 1)) as address:
        short = trial.batch(few, address)
        long = trial.batch(many, address, is_sampled=True)
    quarter = len(long.samples) // 4
    parts = long.samples[quarter : 2 * quarter], long.samples[-quarter:]
    return {
        "items": number,
        "seconds": long.seconds,
        "driver_cpu_s": (long.cpu_s - short.cpu_s) / (number - len(list(few.iterdir()))),
        "driver_mb": [statistics.median(sample.driver_bytes for sample in part) / 1e6 for part in parts],
        "workers_mb": [statistics.median(sample.workers_bytes for sample in part) / 1e6 for part in parts],
    }


def throughput(workers: int, item_s: float, driver_s: float) -> float:
    """Items a second: the workers' rate, until the command, which handles one item after the other, is busy."""
    return min(workers / item_s, 1 / driver_s)


def page(results: Mapping[str, Any], cpu: str) -> str:
    pictures, items = results["pictures"], results["items"]
    seconds, start_up = pictures["seconds"], pictures["start_up_s"]
    low, high = pictures["efficiency_range"][0], pictures["efficiency_range"][-1]
    least, most = pictures["overhead_range"][0], pictures["overhead_range"][-1]
    driver_s = items["driver_cpu_s"]
    lines = [
        f"Measured with simulated nodes of one core each on {cpu}; each node's worker has a core of its own, which the",
        "command and Ray's processes share with it.",
        "",
        "| | seconds a picture | start-up, s |",
        "|---|---|---|",
        *(f"| {name} | {seconds[name]:.3f} | {start_up[name]:.1f} |" for name in seconds),
        "",
        f"- Two nodes reach {pictures['efficiency']:.0%} of twice the rate of one ({low:.0%} to {high:.0%} in "
        f"{pictures['rounds']} rounds; aim: 80 %).",
        f"- Overhead against `sr-edge upscale` on one core: {pictures['overhead']:+.1%} a picture ({least:+.1%} to "
        f"{most:+.1%}; aim: at most 3 %).",
        f"- The command itself takes {1e3 * driver_s:.1f} ms of processor time for each item.",
        f"- Memory over {items['items']:,} items, second and last quarter: command {items['driver_mb'][0]:.0f} and "
        f"{items['driver_mb'][1]:.0f} MB, Ray's processes with the workers {items['workers_mb'][0]:.0f} and "
        f"{items['workers_mb'][1]:.0f} MB.",
        "",
        "Calculated from these, not measured: pictures a second by the number of workers, if a picture takes one",
        "worker the time given on top. The rate grows with the workers until the command needs all of its processor.",
        "",
        "| workers | 0.1 s | 1 s | 10 s |",
        "|---|---|---|---|",
    ]
    for workers in WORKERS:
        rates = (
            throughput(workers, item_s * (1 + max(0.0, pictures["overhead"])), driver_s) for item_s in (0.1, 1, 10)
        )
        lines.append(f"| {workers:,} | " + " | ".join(f"{rate:,.1f}" for rate in rates) + " |")
    lines += [
        "",
        f"So the command handles at most {1 / driver_s:,.0f} items a second: that is {1 / driver_s:,.0f} workers if a",
        f"picture takes 1 s, and {10 / driver_s:,.0f} if it takes 10 s. Beyond that, run several jobs on different",
        "folders.",
        "",
        f"`python benchmarks/cluster.py --rounds {pictures['rounds']} --publish`",
    ]
    return "\n".join(lines)


def publish(text: str, results: Mapping[str, Any]) -> None:
    content = PAGE.read_text(encoding="utf-8")
    before, rest = content.split(START)
    write_text(PAGE, f"{before}{START}\n\n{text}\n\n{END}{rest.split(END)[1]}")
    write_text(RESULTS, json.dumps(results, indent=2) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="one round and 100 items")
    parser.add_argument("--publish", action="store_true", help="write the results and docs/cluster.md")
    args = parser.parse_args(arguments)
    rounds, items = (1, 100) if args.quick else (args.rounds, args.items)
    environment = describe_environment()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trial = Trial(folder, deploy(folder / "network.sredge"))
        short, long = (make_pictures(folder / f"pictures-{number}", number, SIZE) for number in (SHORT, LONG))
        few, many = (
            make_pictures(folder / f"tiny-{number}", number, TINY_SIZE, UNGROUPED_BYTES)
            for number in (items // 10, items)
        )
        results = {
            "environment": asdict(environment),
            "pictures": measure_pictures(trial, short, long, rounds),
            "items": measure_items(trial, few, many, items),
        }
    text = page(results, f"{environment.machine.cpu}, {environment.machine.usable_cores} cores")
    print(text)
    if args.publish:
        publish(text, results)


if __name__ == "__main__":
    main()
