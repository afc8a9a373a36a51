"""`sr-edge bench`: measures latency, memory and fidelity of a bundle in every runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sr_edge.cli.model_argument import (
    AUTO,
    ChannelOrderOption,
    OnnxInputRangeOption,
    OnnxTileOption,
    RunnableArgument,
    opened_model,
)
from sr_edge.cli.options import (
    LOADING_MEASUREMENTS,
    AllOption,
    AnyIoOption,
    DeviceOption,
    JsonOption,
    MemoryOption,
    PrecisionsOption,
    RunsOption,
    RuntimesOption,
    SettingsOption,
    ThreadsOption,
    TrustOption,
    read_settings,
)
from sr_edge.files.whole_file import require_output_file

WarmUpOption = Annotated[int, typer.Option(min=0, help="Untimed runs before the timed ones.")]
CensusOption = Annotated[
    bool,
    typer.Option(
        "--census",
        help="Also report the time by operator, and which layers make the runtime move data (openvino and "
        "onnxruntime).",
    ),
]
CsvOption = Annotated[
    Path | None, typer.Option(help="Also write the results to this CSV file.", show_default=False, readable=False)
]


def bench(
    bundle: RunnableArgument,
    runtimes: RuntimesOption = "all",
    precisions: PrecisionsOption = "all",
    runs: RunsOption = 20,
    warm_up: WarmUpOption = 3,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
    settings: SettingsOption = [],  # noqa: B006  # typer copies it; it wants a list here
    io: AnyIoOption = None,
    memory: MemoryOption = True,
    census: CensusOption = False,
    csv: CsvOption = None,
    trust: TrustOption = "",
    tile: OnnxTileOption = None,
    input_range: OnnxInputRangeOption = AUTO,
    channel_order: ChannelOrderOption = "rgb",
    with_all: AllOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure latency, memory and fidelity of a bundle."""
    from sr_edge.cli.output import during, progress_on_stderr, result_on_stdout

    controls = read_settings(settings)
    if csv is not None:
        require_output_file(csv)
    with result_on_stdout(as_json) as show:
        with progress_on_stderr() as progress:
            with during(progress, LOADING_MEASUREMENTS):
                from rich.console import Group

                from sr_edge.bench import (
                    OpenOptions,
                    bench_bundle,
                    choose_precisions,
                    choose_runtimes,
                    csv_report,
                    golden_patches,
                    rich_report,
                    variants_of,
                    with_recommendation,
                    write_text,
                )
                from sr_edge.bench.tables import LEAST_IMPORTANT

            chosen = choose_runtimes(runtimes), choose_precisions(precisions)
            options = OpenOptions(device, io, threads, trust, controls)
            with opened_model(bundle, tile, input_range, channel_order) as opened:
                variants = variants_of(opened, *chosen, device)
                report = bench_bundle(
                    opened,
                    variants,
                    options,
                    runs,
                    warm_up,
                    memory,
                    progress=progress,
                    patches=golden_patches(opened),
                    with_census=census,
                )
                report, kept = with_recommendation(opened, report, options)
            if csv is not None:
                write_text(csv, csv_report(report))
        show(report, Group(rich_report(report, with_all), kept), LEAST_IMPORTANT)
    report.require_one_ran()
