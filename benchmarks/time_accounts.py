"""Where TaylorSwinIR-light and LCoAN-light spend their time, beside the graphs they are compared with: docs/models.md.

TaylorSwinIR-light is compared with the static form of SwinIR-light, LCoAN-light's static form with its traced one, all
as `sr-edge export` writes them, with the bundled weights where there are any. Both graphs of a pair run in turn in one
process, with all threads; the time of a pair is the median of the ratios of all rounds. Then a census of each graph,
with one thread, says what its time consists of.

    python benchmarks/time_accounts.py --publish
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sr_edge.bench import Census, census, write_text
from sr_edge.export import Form
from sr_edge.export.export import save_model
from sr_edge.export.passes.rewrites.pipeline import rewrite
from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.speed_passes import apply_passes, passes_for_all_targets
from sr_edge.export.passes.tracing import trace
from sr_edge.export.twins.registry import to_static
from sr_edge.models import LoadedModel, load_model
from sr_edge.runtimes import MedianInterval, SessionRequest, describe_machine, open_request, random_tile, supports
from sr_edge.spec import PassChoice, Precision, TileSpec

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"
BEGIN, END = "<!-- accounts: written by benchmarks/time_accounts.py -->", "<!-- end of accounts -->"
TILE = TileSpec(96, 96)
SCALE = 2
TAYLOR, SWINIR, LCOAN = "taylor-swinir-light", "swinir-light", "lcoan-light"
RANDOM = (LCOAN,)
"""Networks without bundled weights."""

CENSUS_RUNS = 8


@dataclass(frozen=True)
class Side:
    """A graph: a network in one of its forms, static or traced."""

    system: str
    form: Form = Form.STATIC

    def __str__(self) -> str:
        return self.system if self.form is Form.STATIC else f"{self.system}, {self.form}"

    def load(self) -> LoadedModel:
        return load_model(self.system, SCALE, random_weights=self.system in RANDOM)

    def file(self, folder: Path) -> Path:
        return folder / f"{self.system}-{self.form}.onnx"

    def write(self, folder: Path) -> None:
        """Writes the graph that `sr-edge export` writes, without its checks, unless the folder has it."""
        if self.file(folder).exists():
            return
        network = self.load().module
        module = to_static(network, TILE.height, TILE.width) if self.form is Form.STATIC else network
        plain = rewrite(simplify(trace(module, TILE)).model)[-1].model
        save_model(apply_passes(plain, passes_for_all_targets(PassChoice.STRUCTURE))[0], self.file(folder))


@dataclass(frozen=True)
class Pair:
    """A graph and the one that it is compared with, in a runtime and a precision."""

    side: Side
    other: Side
    runtime: str
    precision: Precision


PAIRS = (
    Pair(Side(TAYLOR), Side(SWINIR), "openvino", Precision.FP32),
    Pair(Side(TAYLOR), Side(SWINIR), "openvino", Precision.BF16),
    Pair(Side(LCOAN), Side(LCOAN, Form.TRACED), "onnxruntime", Precision.FP32),
)


def time_ratio(pair: Pair, folder: Path, rounds: int) -> MedianInterval:
    """The time of a graph divided by that of the other one, round by round."""
    with ExitStack() as stack:
        runs = []
        for side in (pair.side, pair.other):
            request = SessionRequest(side.file(folder), side.load().card, TILE, pair.precision)
            session = stack.enter_context(open_request(pair.runtime, request))
            runs.append((session, random_tile(session.spec.tile, session.spec.io, session.spec.channels)))
        times: list[list[float]] = []
        for round_number in range(rounds + 2):
            order = (0, 1) if round_number % 2 else (1, 0)
            taken = {index: runs[index][0].run_staged(runs[index][1])[1].compute_ms for index in order}
            times.append([taken[0], taken[1]])
    return MedianInterval.of([ours / other for ours, other in times[2:]])  # the first two warm up


def rows(pairs: Sequence[Pair], folder: Path, rounds: int) -> Iterator[str]:
    """The rows of the table, two for each pair."""
    for side in dict.fromkeys(side for pair in pairs for side in (pair.side, pair.other)):
        side.write(folder)
    for pair in pairs:
        ratio = time_ratio(pair, folder, rounds)
        relative = f"{ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"
        for side, time in ((pair.side, relative), (pair.other, "1")):
            found = census(side.file(folder), pair.runtime, pair.precision, threads=1, runs=CENSUS_RUNS)
            shares = " | ".join(f"{kind.share:.0%}" for kind in found.kinds)
            yield f"| {side} | {pair.runtime} | {pair.precision} | {time} | {shares} | {_movement(found)} |"


def _movement(found: Census) -> str:
    """The three slowest kinds of movement."""
    texts = []
    for movement in found.movements[:3]:
        layers = movement.layers[0] if movement.layers else "unknown"
        texts.append(f"{', '.join(movement.operators)} in `{layers}` {movement.share:.1%}")
    return "; ".join(texts)


def section(rounds: int, folder: Path) -> str:
    """The table with the machine that it was measured on."""
    pairs = [pair for pair in PAIRS if supports(pair.runtime, pair.precision)]
    machine = describe_machine()
    folder.mkdir(parents=True, exist_ok=True)
    table = list(rows(pairs, folder, rounds))
    return "\n".join(
        (
            f"{machine.cpu}, {machine.usable_cores} cores. The time is relative to that of the next row: the median of",
            f"{rounds} rounds in turn, with its 95 % interval. The shares are those of the time with one thread.",
            "",
            "| network | runtime | precision | time | arithmetic | elementwise | movement | what moves data |",
            "|---|---|---|---:|---:|---:|---:|---|",
            *table,
        )
    )


def with_section(page: str, text: str) -> str:
    """The page with the section between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="timed runs of each graph")
    parser.add_argument(
        "--out", type=Path, default=Path("build/time_accounts"), metavar="FOLDER", help="for the graphs"
    )
    parser.add_argument("--publish", action="store_true", help="write the section of docs/models.md")
    arguments = parser.parse_args()
    text = section(arguments.rounds, arguments.out)
    print(text)
    if arguments.publish:
        write_text(PAGE, with_section(PAGE.read_text(encoding="utf-8"), text))


if __name__ == "__main__":
    main()
