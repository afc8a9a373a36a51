"""`sr-edge compare`: measures the difference of two models, and finds the first layer in which they differ."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.model_argument import AUTO, ChannelOrderOption, read_input_range
from sr_edge.cli.options import (
    LOADING_MEASUREMENTS,
    JsonOption,
    RandomWeightsOption,
    ScaleOption,
    SettingsOption,
    ThreadsOption,
    TrustOption,
    read_settings,
)
from sr_edge.files.whole_file import require_output_file

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from sr_edge.bench.compare.compared_layers import LayerReport
    from sr_edge.bench.compare.comparison import Comparison
    from sr_edge.export.checks.layer_diff import LayerDifference

SHOWN_BEFORE, SHOWN_AFTER = 3, 8
"""Number of layers shown before and after the first that differs; the JSON document has all."""

_MODEL_SPEC = "TARGET[@PRECISION][:RUNTIME]"
ComparedRangeOption = Annotated[
    str,
    typer.Option(
        "--input-range",
        metavar="auto|1|255",
        help="Largest input value of ONNX files and of your own network: 1 for a range of 0-1, 255 for 0-255. auto "
        "finds it out for ONNX files, and is 1 for networks.",
    ),
]

ModelsDeviceOption = Annotated[str, typer.Option(help="Device of both models, as `sr-edge doctor` names it.")]

ReferenceArgument = Annotated[str, typer.Argument(metavar="A", help=f"Reference: {_MODEL_SPEC}.", show_default=False)]
CandidateArgument = Annotated[
    str, typer.Argument(metavar="B", help="Candidate, in the same notation.", show_default=False)
]
ImagesOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR|VIDEO",
        help="Folder of low-resolution images, or video. Default: bundled images.",
        show_default=False,
    ),
]
PatchesOption = Annotated[int, typer.Option(min=1, help="Number of patches to cut from the images.")]
PatchSizeOption = Annotated[
    str | None,
    typer.Option(
        metavar="HEIGHTxWIDTH",
        help="Patch size in pixels, if neither model has a fixed one. Default: 96x96.",
        show_default=False,
    ),
]
PictureOption = Annotated[
    Path | None,
    typer.Option(
        help="PNG file to write the worst patch to, as A | B | difference.", show_default=False, readable=False
    ),
]
LayersOption = Annotated[bool, typer.Option("--layers/--no-layers", help="Also compare the outputs of the layers.")]
ToleranceOption = Annotated[
    float | None,
    typer.Option(
        min=0.0,
        help="Relative error above which the outputs of a layer are reported as different. Default: depends on the "
        "precisions.",
        show_default=False,
    ),
]
MinPsnrOption = Annotated[
    float | None,
    typer.Option(
        metavar="DB",
        help="Exit with code 1 if the PSNR of all channels is below this value, in decibels.",
        show_default=False,
    ),
]
WeightsOption = Annotated[
    Path | None, typer.Option(help="Checkpoint to load into a model given by name.", show_default=False)
]


def compare(
    first: ReferenceArgument,
    second: CandidateArgument,
    images: ImagesOption = None,
    patches: PatchesOption = 16,
    tile: PatchSizeOption = None,
    picture: PictureOption = None,
    layers: LayersOption = True,
    tolerance: ToleranceOption = None,
    min_psnr: MinPsnrOption = None,
    scale: ScaleOption = None,
    weights: WeightsOption = None,
    random_weights: RandomWeightsOption = False,
    input_range: ComparedRangeOption = AUTO,
    channel_order: ChannelOrderOption = "rgb",
    settings: SettingsOption = [],  # noqa: B006  # typer copies it; it wants a list here
    threads: ThreadsOption = None,
    device: ModelsDeviceOption = "cpu",
    trust: TrustOption = "",
    as_json: JsonOption = False,
) -> None:
    """Compare the outputs of two models layer by layer.

    They may be two files, or one model in two precisions or runtimes. A and B are written as
    TARGET[@PRECISION][:RUNTIME]. TARGET is an .onnx file, a bundle, a checkpoint, the name of a model, or
    package.module:factory. PRECISION defaults to that of the file, and to fp32 for a bundle. RUNTIME defaults to
    onnxruntime, and to torch for a PyTorch network.

    Examples: model.onnx; convnet-tiny@torch; model.onnx:openvino; x.sredge@int8:openvino; x.sredge@int8+bf16:openvino
    (INT8, all other operators in bf16); model.fp16.onnx@float16 (computed in real float16 arithmetic).

    The exit code is 0 after a comparison, 1 if the PSNR is below --min-psnr or a model fails, and 2 for invalid
    arguments.
    """
    from sr_edge.cli.output import progress_on_stderr, result_on_stdout, stage_on_stderr

    controls = read_settings(settings)
    if picture is not None:
        require_output_file(picture)
    with result_on_stdout(as_json) as show:
        with stage_on_stderr(LOADING_MEASUREMENTS):
            from sr_edge.bench.compare.compared_models import ComparisonOptions
            from sr_edge.bench.compare.comparison import ComparePlan, compare_models
            from sr_edge.spec import TileSpec

        plan = ComparePlan(images, patches, TileSpec.parse(tile) if tile else None, picture, layers, tolerance)
        options = ComparisonOptions(
            scale,
            weights,
            random_weights,
            read_input_range(input_range),
            channel_order,
            device,
            threads,
            trust,
            controls,
        )
        with progress_on_stderr() as progress:
            report = compare_models(first, second, plan, options, progress)
        show(report, _readable(report))
    if min_psnr is not None:
        report.require_at_least(min_psnr)


def _readable(report: Comparison) -> Group:
    from rich.console import Group

    from sr_edge.cli.output import warning_lines

    return Group(_models_table(report), *warning_lines(report.warnings), _pictures(report), *_layers(report.layers))


def _models_table(report: Comparison) -> Table:
    from rich.table import Table

    table = Table("", "model", "file", "runtime", "requested", "ran", "float layers")
    for column in table.columns[1:3]:
        column.overflow = "fold"  # paths may be longer than a line
    for letter, model in (("A", report.reference), ("B", report.candidate)):
        runtime = f"{model.runtime} {model.version}".strip()
        table.add_row(
            letter,
            model.name,
            model.file,
            runtime,
            model.requested,
            model.ran,
            model.float_precision_ran,
        )
    return table


def _pictures(report: Comparison) -> str:
    worst = report.patches[report.worst]
    levels = 255 * report.max_abs_error
    lines = [
        *(f"{model.name}: {remark}" for model in (report.reference, report.candidate) for remark in model.remarks),
        f"{len(report.patches)} patches of {report.tile}, x{report.scale}: all channels {_db(report.psnr_db)}, "
        f"luma {_db(report.psnr_y_db)} (8 bits); largest error {report.max_abs_error:.3g} "
        f"({levels:.3g} of 255 levels)",
        f"worst patch: number {report.worst + 1}, all channels {_db(worst.psnr_db)}, luma {_db(worst.psnr_y_db)}",
    ]
    if report.picture is not None:
        lines.append(f"{report.picture}: A | B | difference times {report.amplification:,} of that patch")
    return "\n".join(lines)


def _db(value: float) -> str:
    return f"{value:.2f} dB" if math.isfinite(value) else "equal" if value > 0 else "not finite"


def _layers(report: LayerReport) -> list[str | Table]:
    if report.reason:
        return [f"layers not compared: {report.reason}"]
    lines = [f"the layers of {name} are those of its ONNX export, computed in onnxruntime" for name in report.exported]
    lines += [
        f"{count} {'node was' if count == 1 else 'nodes were'} not compared: {reason}"
        for reason, count in (report.left_out or {}).items()
    ]
    first = report.first_apart
    if first is None:
        heading = f"no layer differs: all {len(report.layers)} agree to a relative error of {report.tolerance:g}"
        shown = sorted(report.layers, key=lambda layer: -layer.added_error)[:SHOWN_AFTER]
        return [*lines, f"{heading}; the layers that add the largest errors:", _layer_table(shown, None)]
    at = report.layers.index(first)
    heading = f"first layer that differs (relative error above {report.tolerance:g}): {first.name}, number {at + 1} of "
    shown = list(report.layers[max(0, at - SHOWN_BEFORE) : at + SHOWN_AFTER])
    return [*lines, f"{heading}{len(report.layers)}", _layer_table(shown, first)]


def _layer_table(layers: list[LayerDifference], first: LayerDifference | None) -> Table:
    from rich.table import Table

    table = Table("", "layer", "operator", "relative error", "of its inputs", "largest error", "largest value")
    table.columns[1].overflow = "fold"
    for column in table.columns[3:]:
        column.justify = "right"
    for layer in layers:
        numbers = (layer.relative_error, layer.input_error, layer.max_abs_error, layer.max_abs)
        name = f"{layer.name} (rescaled)" if layer.rescaled else layer.name
        table.add_row(">" if layer is first else "", name, layer.operator, *(f"{n:.3g}" for n in numbers))
    return table
