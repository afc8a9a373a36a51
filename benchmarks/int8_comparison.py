"""INT8 of every bundled network: loss of PSNR and time, for sr-edge, NNCF and ONNX Runtime.

Tiles are 96x96, and all tools calibrate on the same images. Quality is PSNR of luma on whole test images, as papers
measure it; the noise is what INT8 changes in the network's output, in decibels below what the network itself adds to
bicubic interpolation, so that a bicubic skip hides nothing. Time is OpenVINO's: all graphs of a network run interleaved
in one process, and the median of one ratio for each round counts. The float layers of an INT8 graph run in bf16 where
the CPU supports it; those of sr-edge in fp32 where no selection of layers keeps the budget with bf16.

    pip install --constraint constraints.txt '.[comparison]'
    python benchmarks/int8_comparison.py --hr SET5 SET14      left out: those of the folder that SR_EDGE_DATA names
    python benchmarks/int8_comparison.py --hr SET5 --only convnet-tiny-x2 --makers sr-edge      a quick try
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from int8_makers import MAKERS, Material, make, missing_package
from picture_quality import CALIBRATION, TILE, Quality, TestPicture, opened, quality, test_pictures
from picture_sets import set_name, test_sets
from rich.console import Console
from rich.table import Table

from sr_edge.export import export_onnx
from sr_edge.models import LoadedModel, load_model
from sr_edge.models.registry import WEIGHTS_FOLDER
from sr_edge.runtimes import Spread, measure_interleaved, paired_ratio, supports
from sr_edge.spec import Precision
from sr_edge.upscaler import Upscaler

LARGEST_DROP_DB = 0.05
CONVOLUTIONAL = ("convnet",)
TIME_TARGETS = {True: {"bf16": 0.68, "fp32": 0.28}, False: {"bf16": 0.90}}  # by "is convolutional"


@dataclass(frozen=True)
class Graph:
    """A file to run and what it took to make; without a file, the reason why there is none."""

    maker: str
    precision: Precision
    path: Path | None
    float_precision: Precision = Precision.FP32
    seconds_to_make: float = 0.0
    int8_layers: int | None = None
    failure: str = ""


@dataclass(frozen=True)
class Row:
    """One graph in OpenVINO; `ratios` of its time to the float precisions', `failure` where there is no graph."""

    maker: str
    ran: str
    seconds_to_make: float
    int8_layers: int | None
    quality: dict[str, Quality]
    ratios: dict[str, Spread]
    failure: str = ""


@dataclass(frozen=True)
class NetworkRows:
    """One bundled network: its float precisions, then INT8 by every maker; `targets`: ratios that ours should keep.

    `measured` is the day, `weights_sha256` says of which weights.
    """

    network: str
    rows: tuple[Row, ...]
    targets: dict[str, float]
    measured: str
    weights_sha256: str


def main() -> None:
    args = _arguments()
    sets = {set_name(folder): folder for folder in test_sets(args.hr)}
    report = kept(args.json, args.only)
    for weights in sorted(WEIGHTS_FOLDER.glob("*.safetensors")):
        if args.only and weights.stem not in args.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = measured_network(weights.stem, sets, args, Path(folder))
        Console().print(table(found))
        report = sorted([*report, asdict(found)], key=lambda network: str(network["network"]))
        if args.json:
            args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def kept(file: Path | None, only: Sequence[str] | None) -> list[dict[str, Any]]:
    """What the file has of the networks that are not measured now; nothing where all are."""
    if file is None or not only or not file.is_file():
        return []
    return [network for network in json.loads(file.read_text(encoding="utf-8")) if network["network"] not in only]


def measured_network(title: str, sets: dict[str, Path], args: argparse.Namespace, folder: Path) -> NetworkRows:
    """Everything of one network; `title` is NAME-xSCALE."""
    name, _, scale = title.rpartition("-x")
    model = load_model(name, int(scale))
    floats = [Precision.FP32, *([Precision.BF16] if supports("openvino", Precision.BF16) else [])]
    source = folder / "model.onnx"
    export_onnx(model, TILE, source)
    graphs = [Graph(str(precision), precision, source, precision) for precision in floats]
    graphs += made_graphs(Material.of(source, args.images, TILE), args.makers, folder, floats[-1])
    pictures = {key: list(test_pictures(path, int(scale))) for key, path in sets.items()}
    rows = measured(model, graphs, pictures, args.rounds)
    limits = TIME_TARGETS[name.startswith(CONVOLUTIONAL)]
    targets = {key: limit for key, limit in limits.items() if Precision(key) in floats}
    day = datetime.now(timezone.utc).date().isoformat()
    return NetworkRows(title, tuple(rows), targets, day, model.card.weights_sha256)


def made_graphs(material: Material, makers: Sequence[str], folder: Path, float_precision: Precision) -> Iterator[Graph]:
    """INT8 by everyone who was asked; a maker that gives up says why."""
    for index, maker in enumerate(makers):
        path, started = folder / f"int8-{index}.onnx", time.perf_counter()
        try:
            made = make(maker, material, path, LARGEST_DROP_DB, float_precision)
        except Exception as error:  # these libraries raise whatever they like; the table says what
            yield Graph(maker, Precision.INT8, None, failure=f"{type(error).__name__}: {error}")
            continue
        yield Graph(maker, Precision.INT8, path, made.float_precision, time.perf_counter() - started, made.int8_layers)


def measured(
    model: LoadedModel,
    graphs: Sequence[Graph],
    pictures: dict[str, list[TestPicture]],
    rounds: int,
) -> Iterator[Row]:
    """Rows of all graphs; the first is the float32 one that the others are compared with."""
    with ExitStack() as stack:
        sessions = {
            graph.maker: stack.enter_context(opened(model, graph.path, graph.precision, graph.float_precision))
            for graph in graphs
            if graph.path is not None
        }
        times = dict(zip(sessions, measure_interleaved(list(sessions.values()), rounds), strict=True))
        first = sessions[graphs[0].maker]
        wanted = {key: [Upscaler(first).upscale(picture.lr) for picture in found] for key, found in pictures.items()}
        bases = {graph.maker: times[graph.maker] for graph in graphs if graph.precision is not Precision.INT8}
        for graph in graphs:
            if graph.maker not in sessions:
                yield Row(graph.maker, "", 0.0, None, {}, {}, graph.failure)
                continue
            session = sessions[graph.maker]
            yield Row(
                maker=graph.maker,
                ran=f"{session.spec.ran}, rest {session.spec.float_precision_ran}",
                seconds_to_make=graph.seconds_to_make,
                int8_layers=graph.int8_layers,
                quality={key: quality(session, pictures[key], wanted[key]) for key in pictures},
                ratios={key: paired_ratio(times[graph.maker], base) for key, base in bases.items()},
            )


def table(network: NetworkRows) -> Table:
    """For people; times are multiples, below 1 is faster."""
    sets = list(network.rows[0].quality)
    bases = list(network.rows[0].ratios)
    targets = ", ".join(f"{limit} of {key}" for key, limit in network.targets.items())
    shown = Table(
        title=f"{network.network}: at most {LARGEST_DROP_DB} dB lost; time at most {targets or 'not compared'}"
    )
    columns = [*(f"{key} dB" for key in sets), *(f"{key} noise dB" for key in sets), *(f"/ {key}" for key in bases)]
    for column in ("graph", "ran", *columns, "INT8 layers", "made in s"):
        shown.add_column(column)
    for row in network.rows:
        if row.failure:
            shown.add_row(row.maker, row.failure[:120])
            continue
        cells = [f"{row.quality[key].change_db:+.3f}" for key in sets]
        noises = [row.quality[key].noise_below_residual_db for key in sets]
        cells += ["" if noise is None else f"-{noise:.1f}" for noise in noises]
        cells += [f"{row.ratios[key].median:.2f}" for key in bases]
        layers = "" if row.int8_layers is None else str(row.int8_layers)
        shown.add_row(row.maker, row.ran, *cells, layers, f"{row.seconds_to_make:.0f}")
    return shown


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--hr", type=Path, nargs="+", default=[], metavar="FOLDER", help="folders of high-resolution test images"
    )
    parser.add_argument("--images", type=Path, default=CALIBRATION, help="images that all tools calibrate on")
    names = [path.stem for path in sorted(WEIGHTS_FOLDER.glob("*.safetensors"))]
    parser.add_argument(
        "--only", nargs="*", choices=names, metavar="NAME-xSCALE", help="measure these bundled networks only"
    )
    parser.add_argument("--makers", nargs="*", choices=MAKERS, default=MAKERS)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--json", type=Path, help="write the measurements to this JSON file; with --only, its other entries are kept"
    )
    args = parser.parse_args()
    if missing := missing_package(args.makers):
        parser.error(missing)
    return args


if __name__ == "__main__":
    main()
