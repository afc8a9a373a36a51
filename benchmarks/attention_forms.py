"""TaylorSwinIR's deployed form against its own training form and against softmax, in one interleaved run.

Four networks, 96x96 in, twice that out: TaylorSwinIR-light as its static twin and traced as written, the same network
with softmax for Taylor's series, traced, and SwinIR-light's static twin (softmax in windows of 8). Weights are random:
nothing here depends on them. Beside the ratios: the share of the machine's arithmetic peak that the static twin of
TaylorSwinIR reaches.

Each runtime and precision runs in several fresh processes, spread over the whole run, and the middle one counts: a
neighbour on a shared machine slows arithmetic and memory unequally, for as long as a process lasts.

    python benchmarks/attention_forms.py
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from arithmetic import matmul_runs, peak_rate
from torch import Tensor, nn

from sr_edge.bundle.plain import from_plain
from sr_edge.export.export import save_model
from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.tracing import trace
from sr_edge.export.twins.registry import to_static
from sr_edge.models import load_model
from sr_edge.models.architectures.taylor_swinir import TAYLOR_SWINIR_SIZES
from sr_edge.models.layers.taylor_shift import TaylorShiftAttention
from sr_edge.runtimes import SessionRequest, Spread, StageTimes, measure_interleaved, open_request, paired_ratio
from sr_edge.spec import ModelCard, Precision, TileSpec

TILE = TileSpec(96, 96)
TAYLOR, SWINIR = "taylor-swinir-light", "swinir-light"
VARIANTS = ("static", "traced", "softmax 48x48", "softmax 8x8")
TARGETS = {  # (runtime, precision): ratio to the static form that the variant should reach
    ("onnxruntime", "fp32"): {"traced": 2.7, "softmax 48x48": 6.0},
    ("openvino", "fp32"): {"traced": 2.3, "softmax 48x48": 7.0},
    ("openvino", "bf16"): {"traced": 2.2, "softmax 48x48": 7.0, "softmax 8x8": 1 / 0.95},
}
SHARE_TARGETS = {"fp32": 0.40, "bf16": 0.30}


@dataclass(frozen=True)
class FormsRow:
    """One runtime and precision: each form's time as a multiple of the static form's, and its share of the peak."""

    runtime: str
    version: str
    precision: str
    threads: int
    processes: int
    rounds: int
    ratios: dict[str, Spread]
    targets: dict[str, float]
    giga_macs: float
    peak_share: Spread | None
    peak_share_target: float | None


class SoftmaxAttention(TaylorShiftAttention):
    """Softmax over the same tokens with the same linear maps; no position bias and no mask, which would cost more."""

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        d = dim // self.heads
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, d).permute(2, 0, 3, 1, 4).unbind(0)
        out = (q * d**-0.5 @ k.transpose(-1, -2)).softmax(-1) @ v
        return self.proj(out.transpose(1, 2).reshape(batch, tokens, dim))


def with_softmax(network: nn.Module) -> nn.Module:
    """A copy whose attention is softmax in the same regions."""
    copied = copy.deepcopy(network)
    for layer in copied.modules():
        if isinstance(layer, TaylorShiftAttention):
            layer.__class__ = SoftmaxAttention
    return copied


def networks() -> dict[str, nn.Module]:
    """The four variants, in eval mode."""
    taylor = load_model(TAYLOR, 2, random_weights=True).module
    return {
        "static": to_static(taylor, TILE.height, TILE.width),
        "traced": taylor,
        "softmax 48x48": with_softmax(taylor),
        "softmax 8x8": to_static(load_model(SWINIR, 2, random_weights=True).module, TILE.height, TILE.width),
    }


def graph_paths(folder: Path) -> dict[str, Path]:
    return {name: folder / f"{name.replace(' ', '-')}.onnx" for name in VARIANTS}


def write_graphs(folder: Path) -> None:
    """Each variant as a simplified ONNX file."""
    for name, network in networks().items():
        save_model(simplify(trace(network, TILE)).model, graph_paths(folder)[name])


def needed_giga_macs() -> float:
    """Multiply-accumulates that TaylorSwinIR-light needs, second-order products counted once a pair."""
    size = TAYLOR_SWINIR_SIZES["light"]
    dim, d, layers = size.dim, size.dim // size.heads, sum(size.depths)
    pairs = d * (d + 1) // 2 + d
    linear = (4 + 2 * size.mlp_ratio) * dim**2
    attention = 2 * pairs * (d + 1) * size.heads
    convolutions = 9 * (3 * dim + (len(size.depths) + 1) * dim**2 + dim * 3 * size.scale**2)
    return TILE.height * TILE.width * (layers * (linear + attention) + convolutions) / 1e9


def measure(runtime: str, precision: Precision, graphs: dict[str, Path], rounds: int) -> FormsRow:
    """Opens all variants in one runtime and takes turns."""
    card = ModelCard(name=TAYLOR, scale=2, parameters=0, random_weights=True)
    with ExitStack() as stack:
        sessions = [
            stack.enter_context(open_request(runtime, SessionRequest(graphs[name], card, TILE, precision)))
            for name in VARIANTS
        ]
        turns = measure_interleaved(sessions, rounds, warm_up=2)
        spec = sessions[0].spec
    return FormsRow(
        runtime=runtime,
        version=spec.version,
        precision=precision.value,
        threads=spec.threads,
        processes=1,
        rounds=rounds,
        ratios={name: paired_ratio(samples, turns[0]) for name, samples in zip(VARIANTS, turns, strict=True)},
        targets=TARGETS[runtime, precision.value],
        giga_macs=needed_giga_macs(),
        peak_share=peak_share(turns[0], precision) if runtime == "openvino" else None,
        peak_share_target=SHARE_TARGETS[precision.value] if runtime == "openvino" else None,
    )


def peak_share(samples: list[StageTimes], precision: Precision) -> Spread:
    """Of the rate of a large matmul, measured right after."""
    peak = peak_rate(matmul_runs()[precision])
    return Spread.of([1e12 * needed_giga_macs() / sample.compute_ms / peak for sample in samples])


def measure_in_fresh_process(kind: str, graphs: Path, rounds: int) -> FormsRow:
    """Each runtime and precision in a process of its own: threads that one library leaves behind slow the next."""
    command = [sys.executable, __file__, "--only", kind, "--graphs", str(graphs), "--rounds", str(rounds)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return from_plain(FormsRow, json.loads(done.stdout.splitlines()[-1]), kind)


def middle(rows: Sequence[FormsRow]) -> FormsRow:
    """One row for the processes that measured the same."""
    shares = [row.peak_share for row in rows if row.peak_share]
    return replace(
        rows[0],
        processes=len(rows),
        ratios={name: Spread.across([row.ratios[name] for row in rows]) for name in VARIANTS},
        peak_share=Spread.across(shares) if shares else None,
    )


def measure_all(graphs: Path, processes: int, rounds: int) -> list[FormsRow]:
    """The kinds take turns, so that what disturbs one of their processes leaves their others alone."""
    kinds = [" ".join(kind) for kind in TARGETS]
    passes = [[measure_in_fresh_process(kind, graphs, rounds) for kind in kinds] for _ in range(processes)]
    return [middle(rows) for rows in zip(*passes, strict=True)]


def lines(row: FormsRow) -> Iterator[str]:
    """The figures as text."""
    effort = f"{row.threads} threads, {row.processes} processes of {row.rounds} rounds"
    yield f"{row.runtime} {row.version} {row.precision}, {effort}"
    for name, ratio in row.ratios.items():
        target = f", target {row.targets[name]:.2f}" if name in row.targets else ""
        spread = f"({ratio.low:.2f} to {ratio.high:.2f}{target})"
        yield f"  {name:<14} {ratio.median:6.2f} x the static form's time {spread}"
    if row.peak_share and row.peak_share_target:
        spread = f"({row.peak_share.low:.0%} to {row.peak_share.high:.0%}, target {row.peak_share_target:.0%})"
        yield f"  {row.giga_macs:.1f} GMAC at {row.peak_share.median:.0%} of the peak {spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=5, help="number of processes for every runtime and precision")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of every variant in each process")
    parser.add_argument("--json", type=Path, help="also write the measurements to this JSON file")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--graphs", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        runtime, precision = args.only.split()
        row = measure(runtime, Precision(precision), graph_paths(args.graphs), args.rounds)
        print(json.dumps(asdict(row)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_graphs(folder)
        rows = measure_all(folder, args.processes, args.rounds)
    for row in rows:
        print("\n".join(lines(row)))
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
