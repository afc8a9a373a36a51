"""`sr-edge calibrate`: writes an INT8 ONNX file of a network whose loss stays within a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.checks import require_suffix
from sr_edge.cli.model_argument import ChannelOrderOption, InputRangeOption
from sr_edge.cli.options import (
    ArchOption,
    BlendOption,
    ExcludeOption,
    FloatPrecisionOption,
    ImagesOption,
    IncludeOption,
    JsonOption,
    MaxDropDbOption,
    MethodOption,
    RandomWeightsOption,
    ScaleOption,
    ThreadsOption,
    WeightsOption,
    read_targets,
)
from sr_edge.errors import CalibrationInterrupted, FrameError
from sr_edge.files.whole_file import require_output_file
from sr_edge.installation import how_to_install
from sr_edge.spec import Precision

if TYPE_CHECKING:
    from rich.console import Group, OverflowMethod
    from rich.table import Table

    from sr_edge.calibration import CalibratedFile, CalibrationReport, HeldOut
    from sr_edge.cli.prepare.float_graph import FloatGraph
    from sr_edge.frames import Batch
    from sr_edge.spec import StageProgress


OutputOption = Annotated[
    Path, typer.Option("--output", "-o", help="The INT8 .onnx file to write.", show_default=False, readable=False)
]
GraphOrModelArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="ONNX file, bundle, checkpoint, or name of a model that `sr-edge models` lists. Left out with --arch, "
        "which names a function that builds a network of your own; may be left out with --weights.",
        show_default=False,
    ),
]
HeldOutOption = Annotated[
    Path | None,
    typer.Option(
        "--hr",
        metavar="DIR",
        help="Folder of high-resolution images to report the PSNR on. They do not affect the calibration. For a "
        "network of scale 1, the originals of --images, by the same names.",
        show_default=False,
    ),
]
LatencyTargetOption = Annotated[
    float | None,
    typer.Option(
        metavar="MS",
        help="Latency target for one tile, in milliseconds. Selects the layers with the least loss that meet it.",
        show_default=False,
    ),
]
TimingRuntimeOption = Annotated[
    str | None,
    typer.Option(
        "--runtime",
        metavar="openvino|none",
        help="Runtime in which the layers are timed. Default: openvino if it is installed, else none.",
        show_default=False,
    ),
]
ReaderTargetsOption = Annotated[
    str | None,
    typer.Option(
        "--for",
        metavar="TARGET[,TARGET]",
        help="Runtimes that must be able to run the file; openvino selects uint8 activations, all others int8. "
        "Default: uint8 if the layers are timed in OpenVINO, else int8.",
        show_default=False,
    ),
]
PatchesOption = Annotated[int, typer.Option(min=1, help="Number of patches to cut from the images.")]
PatchSizeOption = Annotated[
    str | None,
    typer.Option(
        "--tile",
        metavar="HEIGHTxWIDTH",
        help="Patch size in pixels. Default: the input size of the graph.",
        show_default=False,
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option(
        help="JSON file that stores the measurements for later runs. Default: beside the output.", show_default=False
    ),
]
FinetuneOption = Annotated[
    int,
    typer.Option(metavar="STEPS", min=0, help="Passes that fine-tune the INT8 weights of each layer, for example 20."),
]
LEAST_IMPORTANT = ("smoothing", "clip")
"""Columns that a narrow terminal may leave out."""
RecalibrateOption = Annotated[bool, typer.Option("--recalibrate", help="Measure again even if the cache file exists.")]


def calibrate(
    images: ImagesOption,
    out: OutputOption,
    model: GraphOrModelArgument = None,
    hr: HeldOutOption = None,
    max_drop_db: MaxDropDbOption = 0.05,
    latency_target: LatencyTargetOption = None,
    runtime: TimingRuntimeOption = None,
    float_precision: FloatPrecisionOption = Precision.FP32,
    for_targets: ReaderTargetsOption = None,
    method: MethodOption = "search",
    include: IncludeOption = [],  # noqa: B006  # typer copies it; it wants a list here
    exclude: ExcludeOption = [],  # noqa: B006
    patches: PatchesOption = 40,
    tile: PatchSizeOption = None,
    cache: CacheOption = None,
    finetune: FinetuneOption = 0,
    recalibrate: RecalibrateOption = False,
    threads: ThreadsOption = None,
    scale: ScaleOption = None,
    weights: WeightsOption = None,
    blend: BlendOption = [],  # noqa: B006  # typer copies it; it wants a list here
    random_weights: RandomWeightsOption = False,
    arch: ArchOption = None,
    input_range: InputRangeOption = None,
    channel_order: ChannelOrderOption = "rgb",
    as_json: JsonOption = False,
) -> None:
    """Quantize a network to INT8 within a limit on PSNR loss."""
    from sr_edge.cli.output import progress_on_stderr, result_on_stdout, stage_on_stderr

    require_suffix(out, ".onnx")
    for file in (out, cache):
        if file is not None:
            require_output_file(file)
    targets = read_targets(for_targets)
    with result_on_stdout(as_json) as show:
        with stage_on_stderr("loading the calibration"):
            from sr_edge.calibration import Budget, CalibrationConfig, calibrate_file
            from sr_edge.calibration.calibrated_file import cache_beside, choose_activation_type
            from sr_edge.calibration.config import timed_runtime
            from sr_edge.cli.prepare.float_graph import float_graph
            from sr_edge.model_sources import NetworkChoice

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
        choice = NetworkChoice(
            model, scale, weights, random_weights, arch, input_range, tuple(blend), channel_order=channel_order
        )
        with progress_on_stderr() as progress, float_graph(choice, tile, progress) as graph:
            work = partial(
                calibrate_file,
                graph.path,
                out,
                *_patches(graph, images, hr, patches, warnings.append, progress),
                replace(config, input_range=graph.input_range),
                cache=cache,
                recalibrate=recalibrate,
                targets=targets,
                progress=progress,
            )
            written = _resumable(work, cache or cache_beside(out), recalibrate)
        all_warnings = tuple(dict.fromkeys((*warnings, *written.warnings, *written.report.warnings)))
        written = replace(written, report=replace(written.report, warnings=all_warnings))
        show(_document(graph, written), _readable(graph, written), LEAST_IMPORTANT)


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


def _patches(
    graph: FloatGraph,
    images: Path,
    hr: Path | None,
    count: int,
    warn: Callable[[str], None],
    progress: StageProgress,
) -> tuple[Sequence[Batch], list[HeldOut]]:
    """The patches to calibrate with, and those to measure the loss on."""
    from sr_edge.calibration import calibration_patches
    from sr_edge.cli.output import during

    with during(progress, "reading images"):
        patches = calibration_patches(images, graph.tile, count, channels=graph.channels, warn=warn)
        return patches, _held_out(graph, images, hr, warn)


def _held_out(graph: FloatGraph, images: Path, hr: Path | None, warn: Callable[[str], None]) -> list[HeldOut]:
    from sr_edge.bench.quality import files_without_image, pair_files, read_pair
    from sr_edge.calibration import held_out_pairs, held_out_patches
    from sr_edge.calibration.graph.scale import graph_scale
    from sr_edge.image_files import note_about_others

    if hr is None:
        return held_out_patches(images, graph.tile, channels=graph.channels, warn=warn)
    scale = graph_scale(graph.path, graph.tile, graph.channels)
    pairs, failed = [], []
    for pair in (files := pair_files(hr, scale, images if scale == 1 else None)):
        try:
            pairs.append((pair.hr.name, *read_pair(pair, scale)))
        except FrameError as error:
            failed.append(error)
            warn(str(error))
    if not pairs:
        raise failed[0]
    if failed:
        warn(f"{len(failed)} of {len(files)} test images were skipped")
    for note in note_about_others(files_without_image(hr)):
        warn(note)
    return held_out_pairs(pairs, graph.tile, channels=graph.channels)


def _document(graph: FloatGraph, written: CalibratedFile) -> dict[str, object]:
    from sr_edge.calibration.selection.pareto import curve_document

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
        summary += f" The picture of the curve requires matplotlib; run: {how_to_install('report')}"
    warnings = warning_lines(report.warnings)
    remarks = [graph.remark] if graph.remark else []
    return Group(report.in_short, _layer_table(report), *remarks, *warnings, summary, report.sentence)


def _layer_table(report: CalibrationReport) -> Table:
    from rich.table import Table

    timings = report.calibration.timings
    table = Table()
    for heading in ("layer", "precision", "clip", "smoothing", "noise dB", f"saves {timings.unit if timings else ''}"):
        is_number = heading.startswith(("noise", "saves"))
        overflow: OverflowMethod = "fold" if heading == "layer" else "ellipsis"
        table.add_column(heading, overflow=overflow, justify="right" if is_number else "left")
    table.add_column("reason")
    for row in report.layers:
        noise = "" if row.noise_db is None else f"{row.noise_db:.1f}"
        saved = "" if row.saved is None else f"{row.saved:.3f}"
        smoothing = f"{row.smoothing:g}" if row.smoothing else "none"
        table.add_row(
            row.node, row.precision.value, row.observer, smoothing if row.observer else "", noise, saved, row.reason
        )
    return table
