"""Attention against the number of pixels: LCoA and STEA beside plain non-local attention, time and memory.

Each layer runs in its training form in PyTorch, as in the papers, on pictures of growing side; every point in a fresh
process, whose peak resident memory above that before the first picture is taken. The time of LCoA is a tenth of its
ten layers, one LSP and nine CoA, as in the paper's LCoAN; the others are one layer. The exponents are those of least
squares through log time (or memory) against log N.

    python benchmarks/attention_scaling.py --plot attention-scaling.png
    python benchmarks/attention_scaling.py --sides 32 48 --rounds 2     a quick try
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from sr_edge.models.layers.lsp import CollaborativeAttention
from sr_edge.models.layers.stea import STEA, NonLocalAttention

SIDES_PX = (32, 48, 64, 96, 128, 160, 192)
COMPARED_AT_PX = 128
LCOA_GROUPS, LCOA_FEATURES, LCOA_CLUSTERS, LCOA_WINDOW = 10, 128, 128, 384
STEA_FEATURES = 64
WARM_UP_PX = 16
MIB = 1 << 20


@dataclass(frozen=True)
class Pair:
    """An attention and the plain one of its width; limits are multiples of the plain one's, None for no target."""

    name: str
    layer: str
    plain: str
    time_limit: float | None
    memory_limit: float | None


PAIRS = (
    Pair("LCoA", "lcoa-128", "non-local-128", 0.2, 0.15),
    Pair("STEA", "stea-64", "non-local-64", None, None),
)


@dataclass(frozen=True)
class Point:
    """One layer on one square picture: median time of a layer, and peak memory above the process's own."""

    layer: str
    side_px: int
    tokens: int
    rounds: int
    layer_ms: float
    peak_bytes: int


@dataclass(frozen=True)
class Scaling:
    """One pair: exponents of N, and multiples of the plain attention at COMPARED_AT_PX, or the largest side run."""

    name: str
    layer: str
    plain: str
    time_exponent: float
    plain_time_exponent: float
    memory_exponent: float
    plain_memory_exponent: float
    compared_at_px: int
    time_ratio: float
    memory_ratio: float
    time_limit: float | None
    memory_limit: float | None


def lcoa(x: Tensor, layers: list[CollaborativeAttention]) -> Tensor:
    pattern = layers[0].compute_pattern(x)
    for layer in layers:
        x = layer(x, pattern)
    return x


def build(layer: str) -> tuple[Callable[[Tensor], Tensor], int, int]:
    """A call, the features that it takes, and how many layers it runs."""
    torch.manual_seed(0)
    kind, _, width = layer.rpartition("-")
    features = int(width)
    if kind == "lcoa":
        layers = [CollaborativeAttention(features, LCOA_CLUSTERS, LCOA_WINDOW).eval() for _ in range(LCOA_GROUPS)]
        return lambda x: lcoa(x, layers), features, LCOA_GROUPS
    module = STEA(features) if kind == "stea" else NonLocalAttention(features)
    return module.eval(), features, 1


def measure(layer: str, side_px: int, rounds: int) -> Point:
    """Runs `layer` in this process, which must be fresh."""
    call, features, layers = build(layer)
    picture = torch.randn(1, features, side_px, side_px)
    with torch.inference_mode():
        call(torch.randn(1, features, WARM_UP_PX, WARM_UP_PX))
        forget_peak()
        baseline = resident_bytes("VmRSS")
        call(picture)
        times_ms = [timed_ms(call, picture) for _ in range(rounds)]
    peak = resident_bytes("VmHWM") - baseline
    return Point(layer, side_px, side_px**2, rounds, statistics.median(times_ms) / layers, peak)


def timed_ms(call: Callable[[Tensor], Tensor], picture: Tensor) -> float:
    started = time.perf_counter()
    call(picture)
    return 1e3 * (time.perf_counter() - started)


def forget_peak() -> None:
    """Sets the process's peak back to what it holds now (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def resident_bytes(kind: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{kind}:")).split()[1])


def measure_in_fresh_process(layer: str, side_px: int, rounds: int) -> Point:
    command = [sys.executable, __file__, "--only", layer, "--sides", str(side_px), "--rounds", str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        told = done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}: too little memory?"]
        raise SystemExit(f"{layer} at {side_px}x{side_px} failed: {told[-1]}; leave that side out with --sides")
    point = Point(**json.loads(done.stdout.splitlines()[-1]))
    print(f"{layer:>14} {side_px:4} px: {point.layer_ms:10.2f} ms {point.peak_bytes / MIB:9.1f} MiB", flush=True)
    return point


def exponent(curve: list[Point], value: Callable[[Point], float]) -> float:
    """Slope of the least-squares line through log value against log N."""
    logs = np.log([(point.tokens, value(point)) for point in curve])
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def scaling(pair: Pair, points: list[Point]) -> Scaling:
    mine, plain = ([point for point in points if point.layer == name] for name in (pair.layer, pair.plain))
    sides = [point.side_px for point in mine]
    at = COMPARED_AT_PX if COMPARED_AT_PX in sides else max(sides)
    here, there = (next(point for point in curve if point.side_px == at) for curve in (mine, plain))
    return Scaling(
        name=pair.name,
        layer=pair.layer,
        plain=pair.plain,
        time_exponent=exponent(mine, lambda point: point.layer_ms),
        plain_time_exponent=exponent(plain, lambda point: point.layer_ms),
        memory_exponent=exponent(mine, lambda point: point.peak_bytes),
        plain_memory_exponent=exponent(plain, lambda point: point.peak_bytes),
        compared_at_px=at,
        time_ratio=here.layer_ms / there.layer_ms,
        memory_ratio=here.peak_bytes / there.peak_bytes,
        time_limit=pair.time_limit,
        memory_limit=pair.memory_limit,
    )


def draw(points: list[Point], path: Path) -> None:
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    for layer in (name for pair in PAIRS for name in (pair.layer, pair.plain)):
        curve = [point for point in points if point.layer == layer]
        tokens = [point.tokens for point in curve]
        style = "--" if layer.startswith("non-local") else "-"
        panels[0].loglog(tokens, [point.layer_ms for point in curve], style, marker="o", label=layer)
        panels[1].loglog(tokens, [point.peak_bytes / MIB for point in curve], style, marker="o", label=layer)
    for panel, label in zip(panels, ("time of a layer, ms", "peak memory, MiB"), strict=True):
        panel.set_xlabel("pixels N")
        panel.set_ylabel(label)
        panel.grid(alpha=0.3)
    panels[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def shown(row: Scaling) -> str:
    return (
        f"{row.name}: time N^{row.time_exponent:.2f} (plain N^{row.plain_time_exponent:.2f}), "
        f"memory N^{row.memory_exponent:.2f} (plain N^{row.plain_memory_exponent:.2f}); at {row.compared_at_px} px "
        f"{row.time_ratio:.3f} x the time (limit {row.time_limit}), "
        f"{row.memory_ratio:.3f} x the memory (limit {row.memory_limit})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES_PX, help="widths of the square images in pixels")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs at every size")
    parser.add_argument("--plot", type=Path, help="plot the curves to this PNG file")
    parser.add_argument("--json", type=Path, help="also write the measurements to this JSON file")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(asdict(measure(args.only, args.sides[0], args.rounds))))
        return
    layers = [name for pair in PAIRS for name in (pair.layer, pair.plain)]
    points = [measure_in_fresh_process(layer, side, args.rounds) for side in args.sides for layer in layers]
    rows = [scaling(pair, points) for pair in PAIRS]
    print("\n".join(map(shown, rows)))
    if args.plot:
        draw(points, args.plot)
    if args.json:
        figures = {"points": [asdict(point) for point in points], "scaling": [asdict(row) for row in rows]}
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
