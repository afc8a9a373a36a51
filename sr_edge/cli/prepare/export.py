"""`sr-edge export`: writes a network as a checked ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.checks import require_suffix
from sr_edge.cli.model_argument import ChannelOrderOption, InputRangeOption
from sr_edge.cli.options import (
    LOADING_TORCH,
    ArchOption,
    BakeOption,
    BlendOption,
    FormName,
    IoOption,
    JsonOption,
    ModelArgument,
    Nv12ColourOption,
    RandomWeightsOption,
    ScaleOption,
    TargetsOption,
    TileOption,
    WeightsOption,
    chosen_nv12_colour,
    read_settings,
    read_targets,
)
from sr_edge.files.whole_file import require_output_file
from sr_edge.spec import FrameFormat, TileSpec

if TYPE_CHECKING:
    from sr_edge.export import ExportReport
    from sr_edge.frames import Batch


CHECKED_PATCHES = 2
"""The number of patches cut from `--images`; each takes seconds in real float16 arithmetic."""


class FloatPrecision(str, Enum):
    """The precisions that `export` writes; `calibrate` makes INT8."""

    FP32 = "fp32"
    FP16 = "fp16"


class UntimedPasses(str, Enum):
    """The values of `--passes` that need no measurement, as in `sr_edge.spec.PassChoice`; `deploy` measures."""

    NONE = "none"
    STRUCTURE = "structure"
    ALL = "all"


OutputOption = Annotated[
    Path, typer.Option("--output", "-o", help="The .onnx file to write.", show_default=False, readable=False)
]
GraphPrecisionOption = Annotated[
    FloatPrecision,
    typer.Option("--precision", help="Precision of the graph. fp16 keeps operators that would lose accuracy in fp32."),
]
FormOption = Annotated[
    FormName,
    typer.Option(
        "--form", help="static: constant shapes and portable operators; traced: the graph as PyTorch traces it."
    ),
]
DynamicOption = Annotated[
    bool,
    typer.Option("--dynamic", help="Make input height and width dynamic, for networks without attention windows."),
]
PassesOption = Annotated[
    UntimedPasses | None,
    typer.Option(
        "--passes",
        help="Passes that make the graph faster. none; structure: those that are a gain on every target; all: also "
        "those that are a gain in some runtimes only (`sr-edge deploy` finds out which). Default: structure, and none "
        "with --dynamic.",
        show_default=False,
    ),
]
CheckImagesOption = Annotated[
    Path | None,
    typer.Option(
        "--images",
        metavar="DIR|VIDEO",
        help="Folder of images, or video, to check the graph with, in addition to worst cases.",
        show_default=False,
    ),
]
TileNeedsOption = Annotated[
    bool,
    typer.Option(
        "--tile-needs", help="Measure how tiling changes the result and store it in the metadata. Takes minutes."
    ),
]


def export(
    out: OutputOption,
    model: ModelArgument = None,
    scale: ScaleOption = None,
    tile: TileOption = None,
    io: IoOption = FrameFormat.FLOAT_NCHW,
    nv12_colour: Nv12ColourOption = None,
    precision: GraphPrecisionOption = FloatPrecision.FP32,
    form: FormOption = FormName.STATIC,
    dynamic: DynamicOption = False,
    passes: PassesOption = None,
    for_targets: TargetsOption = None,
    images: CheckImagesOption = None,
    tile_needs: TileNeedsOption = False,
    weights: WeightsOption = None,
    blend: BlendOption = [],  # noqa: B006  # typer copies it; it wants a list here
    random_weights: RandomWeightsOption = False,
    arch: ArchOption = None,
    input_range: InputRangeOption = None,
    channel_order: ChannelOrderOption = "rgb",
    bake: BakeOption = [],  # noqa: B006  # typer copies it; it wants a list here
    as_json: JsonOption = False,
) -> None:
    """Export a network to ONNX and verify the result."""
    from sr_edge.cli.output import named_steps, progress_on_stderr, result_on_stdout

    require_suffix(out, ".onnx")
    require_output_file(out)
    constants, targets = read_settings(bake), read_targets(for_targets)
    colour = chosen_nv12_colour(io is FrameFormat.NV12, nv12_colour)
    with result_on_stdout(as_json) as show:
        from sr_edge.model_sources import NetworkChoice
        from sr_edge.spec import PassChoice, Precision

        choice = NetworkChoice(
            model, scale, weights, random_weights, arch, input_range, tuple(blend), constants, channel_order
        )
        with progress_on_stderr() as progress, named_steps(progress) as begin:
            begin(LOADING_TORCH)
            from sr_edge.cli.prepare.tiles import chosen_tile, requested_tile
            from sr_edge.export import Form, export_onnx
            from sr_edge.export.passes.speed_passes import passes_for_all_targets
            from sr_edge.model_sources import load_network
            from sr_edge.models.tiles.tile_safety import overlap_note, with_tile_needs

            begin(f"loading {choice.shown_name}")
            network = load_network(choice, requested_tile(tile))
            tile_size = chosen_tile(tile, network, progress)
            remarks: list[str] = []
            if tile_needs:
                begin("measuring the effect of tiles")
                network = with_tile_needs(network, tile_size)
                remarks.append(overlap_note(network.card.tile_needs))
            report = export_onnx(
                network,
                tile_size,
                out,
                form=Form(form.value),
                io=io,
                nv12_colour=colour,
                precision=Precision(precision.value),
                dynamic=dynamic,
                passes=passes_for_all_targets(PassChoice(passes.value)) if passes else None,
                targets=targets,
                patches=_photographs(images, tile_size, network.card.channels, remarks.append),
                progress=begin,
            )
        report = replace(report, remarks=(*network.remarks, *report.remarks, *filter(None, remarks)))
        show(report, _readable(report, targets))


def passes_line(passes: Sequence[str]) -> str:
    """Names what changed the form of a graph, for a person."""
    return f"the graph was rewritten by: {', '.join(passes)} (see Rewrites and Passes in docs/export.md)"


def _photographs(images: Path | None, tile: TileSpec, channels: int, warn: Callable[[str], None]) -> Sequence[Batch]:
    from sr_edge.calibration import calibration_patches

    return calibration_patches(images, tile, CHECKED_PATCHES, channels=channels, warn=warn) if images else ()


def _readable(report: ExportReport, targets: Sequence[str]) -> str:
    from sr_edge.cli.output import warning_lines
    from sr_edge.export.checks.float16 import LOSS_BOUND_DB

    metadata, parity = report.metadata, report.parity
    card = metadata.card
    size = f"tile {metadata.tile}" if metadata.tile else "any size"
    io = f"{metadata.io} io" + (f" ({metadata.nv12_colour})" if metadata.nv12_colour else "")
    lines = [
        f"{report.path}: {card.name} x{card.scale}, {metadata.form}, {metadata.precision}, {io}, {size}",
        f"{report.nodes} nodes, {report.size_bytes / 1e6:.2f} MB, SHA-256 {report.sha256[:12]}...",
        parity.sentence,
    ]
    if report.passes:
        lines.append(passes_line(report.passes))
    if report.float16 is not None:
        lines.append(
            f"fp16 against fp32, in float16 arithmetic: {report.float16.psnr_db:.1f} dB, costs "
            f"{report.float16.loss_db:.3f} dB on photographs and flat pictures ({LOSS_BOUND_DB:g} allowed)"
        )
    lines += [f"{target}: accepted: {report.nodes} nodes" for target in targets]
    if card.controls:
        lines.append(f"controls: {', '.join(map(str, card.controls))}")
    if card.random_weights:
        lines.append("RANDOM WEIGHTS: for latency studies only")
    lines += warning_lines(report.warnings)
    return "\n".join((*lines, *report.remarks))
