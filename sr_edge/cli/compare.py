"""`sr-edge compare`: measures the difference of two models, and finds the first layer in which they differ."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.options import Device, Json, RandomWeights, Scale, Settings, Threads, Trust, read_settings
from sr_edge.whole_file import require_output_file

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from sr_edge.bench.comparison import Comparison
    from sr_edge.bench.side_layers import LayerReport
    from sr_edge.export.layers import LayerDifference

SHOWN_BEFORE, SHOWN_AFTER = 3, 8
"""Number of layers shown before and after the first that differs; the JSON document has all."""

_MODEL_SPEC = "TARGET[@PRECISION][:RUNTIME]"


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help=f"The reference: {_MODEL_SPEC}.", show_default=False)],
    second: Annotated[
        str, typer.Argument(metavar="B", help="The candidate, which is compared with it.", show_default=False)
    ],
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR|VIDEO", help="Low-resolution images; the package includes some.", show_default=False),
    ] = None,
    patches: Annotated[int, typer.Option(min=1, help="Number of patches cut from the images.")] = 16,
    tile: Annotated[
        str | None,
        typer.Option(
            metavar="HEIGHTxWIDTH", help="Patch size if neither model has its own; 96x96.", show_default=False
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            help="Write the worst patch to this PNG file: A | B | difference.", show_default=False, readable=False
        ),
    ] = None,
    layers: Annotated[bool, typer.Option("--layers/--no-layers", help="Compare the models layer by layer.")] = True,
    tolerance: Annotated[
        float | None, typer.Option(min=0.0, help="Relative error above which a layer differs.", show_default=False)
    ] = None,
    min_psnr: Annotated[
        float | None, typer.Option(metavar="DB", help="Exit with code 1 below this RGB PSNR.", show_default=False)
    ] = None,
    scale: Scale = None,
    weights: Annotated[Path | None, typer.Option(help="Checkpoint of a registered model.", show_default=False)] = None,
    random_weights: RandomWeights = False,
    input_range: Annotated[
        float, typer.Option(help="Input range of package.module:factory: 1 (0-1) or 255 (0-255).")
    ] = 1.0,
    settings: Settings = [],  # noqa: B006  # typer copies it; it wants a list here
    threads: Threads = None,
    device: Device = "cpu",
    trust: Trust = "",
    as_json: Json = False,
) -> None:
    """Compare two models, files, precisions or runtimes, layer by layer.

    A and B are TARGET[@PRECISION][:RUNTIME]. TARGET: model.onnx, x.sredge, checkpoint.pth, a model's name, or
    package.module:factory. Examples: model.onnx; model.onnx:openvino; x.sredge@int8:openvino;
    x.sredge@int8+bf16:openvino; model.fp16.onnx@float16 (real float16 arithmetic); convnet-tiny@torch. The defaults are
    the file's own precision (fp32 for a bundle), and onnxruntime (torch for PyTorch networks).

    Exit code: 0 if the models were compared; 1 below --min-psnr, or if a model failed; 2 for wrong usage.
    """
    from sr_edge.cli.output import progress_on_stderr, result_on_stdout

    controls = read_settings(settings)
    if picture is not None:
        require_output_file(picture)
    with result_on_stdout(as_json) as show:
        from sr_edge.bench.comparison import ComparePlan, compare_models
        from sr_edge.bench.sides import ComparisonOptions
        from sr_edge.spec import TileSpec

        plan = ComparePlan(images, patches, TileSpec.parse(tile) if tile else None, picture, layers, tolerance)
        options = ComparisonOptions(scale, weights, random_weights, input_range, device, threads, trust, controls)
        with progress_on_stderr() as progress:
            report = compare_models(first, second, plan, options, progress)
        show(report, _readable(report))
    if min_psnr is not None:
        report.require_at_least(min_psnr)


def _readable(report: Comparison) -> Group:
    from rich.console import Group

    return Group(_models_table(report), _pictures(report), *_layers(report.layers))


def _models_table(report: Comparison) -> Table:
    from rich.table import Table

    table = Table("", "model", "file", "runtime", "requested", "ran", "float layers")
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
        f"{len(report.patches)} patches of {report.tile}, x{report.scale}: RGB {_db(report.psnr_rgb_db)}, "
        f"luma {_db(report.psnr_y_db)} (8 bits); largest error {report.max_abs_error:.3g} "
        f"({levels:.3g} of 255 levels)",
        f"worst patch: number {report.worst + 1}, RGB {_db(worst.psnr_rgb_db)}, luma {_db(worst.psnr_y_db)}",
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
    lines += [f"{count} nodes were not compared: {reason}" for reason, count in (report.left_out or {}).items()]
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
    for column in table.columns[3:]:
        column.justify = "right"
    for layer in layers:
        numbers = (layer.relative_error, layer.input_error, layer.max_abs_error, layer.max_abs)
        name = f"{layer.name} (rescaled)" if layer.rescaled else layer.name
        table.add_row(">" if layer is first else "", name, layer.operator, *(f"{n:.3g}" for n in numbers))
    return table
