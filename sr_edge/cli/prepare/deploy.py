"""`sr-edge deploy`: the main job, from a checkpoint or ONNX file to a verified bundle."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.model_argument import ChannelOrderOption, InputRangeOption
from sr_edge.cli.options import (
    LOADING_TORCH,
    AllOption,
    ArchOption,
    BakeOption,
    BlendOption,
    ExcludeOption,
    FormName,
    HrOption,
    IncludeOption,
    JsonOption,
    LrOption,
    MaxDropDbOption,
    MemoryOption,
    MethodOption,
    ModelArgument,
    Nv12ColourOption,
    PrecisionsOption,
    RandomWeightsOption,
    RunsOption,
    RuntimesOption,
    ScaleOption,
    TargetsOption,
    ThreadsOption,
    TileOption,
    WeightsOption,
    chosen_nv12_colour,
    read_settings,
    read_targets,
)
from sr_edge.files.whole_file import require_output
from sr_edge.spec import DEFAULT_TILE, FrameFormat, PassChoice

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

    from sr_edge.bundle import RecommendedEngine
    from sr_edge.deploy import DeployReport, Recommendation
    from sr_edge.spec import ModelCard


CalibrationImagesOption = Annotated[
    Path | None,
    typer.Option(
        "--images",
        metavar="DIR|VIDEO",
        help="Folder of low-resolution images, or video, to calibrate with. Default: two bundled images.",
        show_default=False,
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Bundle to write: a folder NAME.sredge or an archive NAME.zip. Default: named after model and scale.",
        show_default=False,
        readable=False,
    ),
]
FormOption = Annotated[
    FormName | None,
    typer.Option(
        "--form",
        help="static: constant shapes and portable operators; traced: the graph as PyTorch traces it. Default: static, "
        "or traced for networks without a static form.",
        show_default=False,
    ),
]
PassesOption = Annotated[
    PassChoice | None,
    typer.Option(
        "--passes",
        help="Passes that make the graphs faster. none; structure: those that are a gain on every target; measured: "
        "also those that are faster here, timed in OpenVINO and ONNX Runtime for at most 20 s; all: all of them, "
        "without timing. Default: measured.",
        show_default=False,
    ),
]
FrameOption = Annotated[
    list[str],
    typer.Option(
        "--frame",
        metavar="WIDTHxHEIGHT",
        help="Size of the frames of a camera or video, for which the bundle also gets graphs of a tile that fits. It "
        "is width first, whereas tiles are height first: 320x180 gives a tile of 180x320. Repeatable.",
        show_default=False,
    ),
]
DeployIoOption = Annotated[
    FrameFormat | None,
    typer.Option(
        "--io",
        help="Frame format of additional graphs: nv12 adds graphs with NV12 input and uint8 output, for the main tile "
        "alone. Those for float and uint8 frames are always written.",
        show_default=False,
    ),
]
TileNeedsOption = Annotated[
    bool,
    typer.Option(
        "--tile-needs/--no-tile-needs",
        help="Measure in PyTorch how much tiling changes the output, and record it in the bundle's model card.",
    ),
]
ReuseTableOption = Annotated[
    bool,
    typer.Option(
        "--reuse-table/--no-reuse-table",
        help="Measure how much PSNR it costs to reuse the results of tiles that changed a little, and record it in the "
        "bundle's model card, for `--reuse DB` of other commands.",
    ),
]


def deploy(
    model: ModelArgument = None,
    images: CalibrationImagesOption = None,
    out: OutputOption = None,
    scale: ScaleOption = None,
    tile: TileOption = None,
    frame: FrameOption = [],  # noqa: B006  # typer copies it; it wants a list here
    hr: HrOption = None,
    lr: LrOption = None,
    runtimes: RuntimesOption = "all",
    precisions: PrecisionsOption = "all",
    form: FormOption = None,
    passes: PassesOption = None,
    for_targets: TargetsOption = None,
    io: DeployIoOption = None,
    nv12_colour: Nv12ColourOption = None,
    method: MethodOption = "search",
    max_drop_db: MaxDropDbOption = 0.05,
    include: IncludeOption = [],  # noqa: B006  # typer copies it; it wants a list here
    exclude: ExcludeOption = [],  # noqa: B006
    runs: RunsOption = 20,
    memory: MemoryOption = True,
    tile_needs: TileNeedsOption = True,
    reuse_table: ReuseTableOption = True,
    threads: ThreadsOption = None,
    weights: WeightsOption = None,
    blend: BlendOption = [],  # noqa: B006  # typer copies it; it wants a list here
    random_weights: RandomWeightsOption = False,
    arch: ArchOption = None,
    input_range: InputRangeOption = None,
    channel_order: ChannelOrderOption = "rgb",
    bake: BakeOption = [],  # noqa: B006  # typer copies it; it wants a list here
    with_all: AllOption = False,
    as_json: JsonOption = False,
) -> None:
    """Export, calibrate, verify and time a model in one step."""
    from sr_edge.cli.output import during, progress_on_stderr, result_on_stdout

    constants, targets = read_settings(bake), read_targets(for_targets)
    colour = chosen_nv12_colour(io is FrameFormat.NV12, nv12_colour)
    if out is not None:
        require_output(out)
    with result_on_stdout(as_json) as show:
        from sr_edge.model_sources import NetworkChoice

        choice = NetworkChoice(
            model, scale, weights, random_weights, arch, input_range, tuple(blend), constants, channel_order
        )
        with progress_on_stderr() as progress:
            with during(progress, LOADING_TORCH):
                from sr_edge.bench import choose_precisions, choose_runtimes
                from sr_edge.bench.tables import LEAST_IMPORTANT
                from sr_edge.cli.prepare.tiles import chosen_tile, requested_tile
                from sr_edge.deploy import DeployPlan, deploy_network
                from sr_edge.deploy.plan import require_timed_runtime
                from sr_edge.export import Form
                from sr_edge.model_sources import load_network

            plan = DeployPlan(
                tile=DEFAULT_TILE,
                runtimes=choose_runtimes(runtimes),
                precisions=choose_precisions(precisions),
                method=method,
                include=include,
                exclude=exclude,
                max_drop_db=max_drop_db,
                threads=threads,
                rounds=runs,
                with_memory=memory,
                hr=hr,
                lr=lr,
                with_tile_needs=tile_needs,
                with_reuse_table=reuse_table,
                form=Form(form.value) if form else None,
                targets=targets,
                passes=passes or PassChoice.MEASURED,
                frames=frame,
                nv12_colour=colour,
            )
            if passes is PassChoice.MEASURED:
                require_timed_runtime(plan.runtimes)
            with during(progress, f"loading {choice.shown_name}"):
                network = load_network(choice, requested_tile(tile))
            plan = replace(plan, tile=chosen_tile(tile, network, progress))
            bundle = out or _default_output(network.card)
            require_output(bundle)
            report = deploy_network(network, images, bundle, plan, progress)
        show(report, _readable(report, with_all), LEAST_IMPORTANT)
    report.require_reproduced()
    report.bench.require_all_scored()


def _default_output(card: ModelCard) -> Path:
    """The name of the bundle, such as convnet-tiny-x2.sredge, without characters that are unsafe in file names."""
    return Path(f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', card.name)}-x{card.scale}.sredge")


def _readable(report: DeployReport, with_all: bool) -> Group:
    from rich.console import Group

    from sr_edge.bench import rich_report
    from sr_edge.cli.output import warning_lines
    from sr_edge.cli.prepare.export import passes_line

    files = len(report.manifest.digests())
    written = f"\nwrote {report.path}: {files} files, golden frames included; check it anywhere with `sr-edge selftest`"
    if report.bench.recommended:
        written += "; " + _default_sentence(report.bench.recommended[0])
    base = report.exports[0]
    verified = [base.parity.sentence, *([passes_line(base.passes)] if base.passes else [])]
    verified += report.manifest.pass_lines
    warnings = warning_lines(warning for export in report.exports for warning in export.warnings)
    return Group(
        rich_report(report.bench, with_all),
        *verified,
        *report.notes,
        *warnings,
        written,
        *advice_lines(report.recommendations, with_all),
    )


def _default_sentence(engine: RecommendedEngine) -> str:
    from sr_edge.bench import Variant

    label = Variant(engine.runtime, engine.precision, engine.float_precision).label
    return f"`upscale`, `stream` and `preview` run it in {engine.runtime} {label} on this machine by default"


def advice_lines(recommendations: Sequence[Recommendation], with_all: bool) -> Iterator[str | Text]:
    """The recommendations as lines of text, the fastest runtime first.

    Args:
        recommendations: One for each runtime.
        with_all: Whether to show how each of them is run; otherwise only the first.
    """
    from rich.text import Text

    if recommendations:
        yield "\nrecommended here, by what was measured:"
    for recommendation in recommendations:
        yield f"{recommendation.runtime}: {recommendation.summary}"
        is_shown = with_all or recommendation is recommendations[0]
        for line in filter(None, (recommendation.command, recommendation.python) if is_shown else ()):
            yield Text(f"    {line}", no_wrap=True, overflow="ignore")  # a wrapped line cannot be copied into a shell
