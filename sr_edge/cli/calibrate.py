"""`sr-edge calibrate`: writes an INT8 ONNX file of a network whose loss stays within a budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.options import (
    Arch,
    BlendWith,
    Exclude,
    FloatPrecisionOption,
    ForTargets,
    Images,
    Include,
    InputRange,
    Json,
    MaxDropDb,
    Method,
    RandomWeights,
    Scale,
    Threads,
    Weights,
    read_targets,
    require_another_file,
)
from sr_edge.errors import CalibrationInterrupted
from sr_edge.spec import Precision
from sr_edge.whole_file import require_output_file

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from sr_edge.calibration import CalibratedFile, CalibrationReport, HeldOut
    from sr_edge.cli.float_graph import FloatGraph


Out = Annotated[
    Path, typer.Option("--output", "-o", help="The INT8 .onnx file to write.", show_default=False, readable=False)
]
FileOrModel = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="A float32 .onnx file, a bundle, a checkpoint, or a name from `sr-edge models`.",
        show_default=False,
    ),
]
HeldOutPictures = Annotated[
    Path | None,
    typer.Option(
        "--hr",
        metavar="DIR",
        help="Originals; the loss against them is only reported.",
        show_default=False,
    ),
]
LatencyTarget = Annotated[
    float | None,
    typer.Option(
        metavar="MS", help="Select the best quality whose latency for one tile is at most this.", show_default=False
    ),
]
TimedIn = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        metavar="openvino|none",
        help="Runtime that layers are timed in; openvino if installed.",
        show_default=False,
    ),
]
Patches = Annotated[int, typer.Option(min=1, help="Patches cut from the pictures.")]
PatchSize = Annotated[
    str | None,
    typer.Option("--tile", metavar="HEIGHTxWIDTH", help="Patch size, for a graph of dynamic size.", show_default=False),
]
Cache = Annotated[
    Path | None, typer.Option(help="JSON file for the measurements; by default beside the output.", show_default=False)
]
Finetune = Annotated[
    int,
    typer.Option(
        metavar="STEPS", min=0, help="Fine-tuning sweeps over the INT8 weights of each layer, for example 20."
    ),
]
Recalibrate = Annotated[bool, typer.Option("--recalibrate", help="Measure again and replace the cache.")]


def calibrate(
    images: Images,
    out: Out,
    model: FileOrModel = None,
    hr: HeldOutPictures = None,
    max_drop_db: MaxDropDb = 0.05,
    latency_target: LatencyTarget = None,
    runtime: TimedIn = None,
    float_precision: FloatPrecisionOption = Precision.FP32,
    for_targets: ForTargets = None,
    method: Method = "search",
    include: Include = [],  # noqa: B006  # typer copies it; it wants a list here
    exclude: Exclude = [],  # noqa: B006
    patches: Patches = 40,
    tile: PatchSize = None,
    cache: Cache = None,
    finetune: Finetune = 0,
    recalibrate: Recalibrate = False,
    threads: Threads = None,
    scale: Scale = None,
    weights: Weights = None,
    blend: BlendWith = [],  # noqa: B006  # typer copies it; it wants a list here
    random_weights: RandomWeights = False,
    arch: Arch = None,
    input_range: InputRange = 1.0,
    as_json: Json = False,
) -> None:
    """Write a network as an INT8 ONNX file whose loss stays within a budget."""
    from sr_edge.cli.output import progress_on_stderr, result_on_stdout

    source = Path(model) if model is not None else None
    require_another_file(out, source, images, cache, weights)
    for file in (out, cache):
        if file is not None:
            require_output_file(file)
    targets = read_targets(for_targets)
    with result_on_stdout(as_json) as show:
        from sr_edge.calibration import Budget, CalibrationConfig, calibrate_file, calibration_patches
        from sr_edge.calibration.calibrated_file import cache_beside, choose_activation_type
        from sr_edge.calibration.config import timed_runtime
        from sr_edge.cli.float_graph import NetworkChoice, float_graph

        config = CalibrationConfig(
            Budget(max_drop_db, latency_target),
            method,
            tuple(include),
            tuple(exclude),
            timed_runtime(runtime),
            float_precision,
            threads,
            finetune=finetune,
        )
        choose_activation_type(targets, config.runtime)  # refuses targets of different kinds before any work
        warnings: list[str] = []
        network = NetworkChoice(model, scale, weights, random_weights, arch, input_range, tuple(blend))
        with progress_on_stderr() as progress, float_graph(network, tile, progress) as graph:
            work = partial(
                calibrate_file,
                graph.path,
                out,
                calibration_patches(images, graph.tile, patches, channels=graph.channels, warn=warnings.append),
                _held_out(graph, images, hr, warnings.append),
                replace(config, input_range=graph.input_range),
                cache=cache,
                recalibrate=recalibrate,
                targets=targets,
                progress=progress,
            )
            written = _resumable(work, cache or cache_beside(out), recalibrate)
        all_warnings = tuple(dict.fromkeys((*warnings, *written.warnings, *written.report.warnings)))
        written = replace(written, report=replace(written.report, warnings=all_warnings))
        show(_document(graph, written), _readable(graph, written))


def _resumable(work: Callable[[], CalibratedFile], cache: Path, recalibrate: bool) -> CalibratedFile:
    """Does the work; raises CalibrationInterrupted on Ctrl-C if the cache contains what was measured."""
    before = _modified_ns(cache)
    try:
        return work()
    except KeyboardInterrupt:
        if _modified_ns(cache) == before:
            raise
    again = "the same command without --recalibrate" if recalibrate else "the same command"
    raise CalibrationInterrupted(
        f"interrupted: all measurements so far are kept in {cache}",
        found=cache,
        remedy=f"run {again} to continue",
    )


def _modified_ns(file: Path) -> int | None:
    return file.stat().st_mtime_ns if file.exists() else None


def _held_out(graph: FloatGraph, images: Path, hr: Path | None, warn: Callable[[str], None]) -> list[HeldOut]:
    from sr_edge.bench.quality import pair_files, read_pair
    from sr_edge.calibration import held_out_pairs, held_out_patches
    from sr_edge.calibration.scale import graph_scale

    if hr is None:
        return held_out_patches(images, graph.tile, channels=graph.channels, warn=warn)
    scale = graph_scale(graph.path, graph.tile, graph.channels)
    pairs = [(pair.hr.name, *read_pair(pair, scale)) for pair in pair_files(hr, scale)]
    return held_out_pairs(pairs, graph.tile, channels=graph.channels)


def _document(graph: FloatGraph, written: CalibratedFile) -> dict[str, object]:
    from sr_edge.calibration.pareto import curve_document

    report = written.report
    return {
        "path": written.path,
        "activation_type": written.activation_type,
        "tile": graph.tile,
        "remark": graph.remark,
        "sentence": report.sentence,
        "originals_db": report.originals_db,
        "warnings": report.warnings,
        "layers": report.layers,
        "curve": curve_document(report),
        "files": written.files,
        "calibration": report.calibration,
    }


def _readable(graph: FloatGraph, written: CalibratedFile) -> Group:
    from rich.console import Group

    from sr_edge.cli.output import warning_lines

    report, files = written.report, ", ".join(map(str, written.files))
    summary = f"Written: {written.path} with {written.activation_type.name} activations, and the curve in {files}."
    if len(written.files) == 1:
        summary += " The picture of the curve requires matplotlib: pip install 'sr-edge[report]'"
    warnings = warning_lines(report.warnings)
    remarks = [graph.remark] if graph.remark else []
    return Group(_layer_table(report), *remarks, *warnings, summary, report.sentence)


def _layer_table(report: CalibrationReport) -> Table:
    from rich.table import Table

    timings = report.calibration.timings
    table = Table()
    for heading in ("layer", "precision", "clip", "smoothing", "noise dB", f"saves {timings.unit if timings else ''}"):
        table.add_column(heading, overflow="fold")
    table.add_column("reason")
    for row in report.layers:
        noise = "" if row.noise_db is None else f"{row.noise_db:.1f}"
        saved = "" if row.saved is None else f"{row.saved:.3f}"
        smoothing = f"{row.smoothing:g}" if row.smoothing else "none"
        table.add_row(
            row.node, row.precision.value, row.observer, smoothing if row.observer else "", noise, saved, row.reason
        )
    return table
