"""`sr-edge evaluate`: measures PSNR and SSIM of a bundle on test images, in every runtime and precision."""

from __future__ import annotations

from dataclasses import replace
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
    DeviceOption,
    JsonOption,
    LrOption,
    PrecisionsOption,
    RuntimesOption,
    SettingsOption,
    ThreadsOption,
    TrustOption,
    read_settings,
)


def evaluate(
    bundle: RunnableArgument,
    hr: Annotated[Path, typer.Option(metavar="DIR", help="Folder of high-resolution images.", show_default=False)],
    lr: LrOption = None,
    runtimes: RuntimesOption = "all",
    precisions: PrecisionsOption = "all",
    threads: ThreadsOption = None,
    device: DeviceOption = None,
    settings: SettingsOption = [],  # noqa: B006  # typer copies it; it wants a list here
    trust: TrustOption = "",
    tile: OnnxTileOption = None,
    input_range: OnnxInputRangeOption = AUTO,
    channel_order: ChannelOrderOption = "rgb",
    with_all: AllOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure PSNR and SSIM of a bundle on test images."""
    from sr_edge.cli.output import during, progress_on_stderr, result_on_stdout

    controls = read_settings(settings)
    with result_on_stdout(as_json) as show:
        with progress_on_stderr() as progress:
            with during(progress, LOADING_MEASUREMENTS):
                from sr_edge.bench import (
                    OpenOptions,
                    bench_bundle,
                    choose_precisions,
                    choose_runtimes,
                    files_without_image,
                    pair_files,
                    rich_report,
                    variants_of,
                )
                from sr_edge.bench.tables import LEAST_IMPORTANT

            chosen = choose_runtimes(runtimes), choose_precisions(precisions)
            options = OpenOptions(device, threads=threads, trusted_architecture=trust, controls=controls)
            with opened_model(bundle, tile, input_range, channel_order) as opened:
                pairs = pair_files(hr, opened.manifest.card.scale, lr)
                variants = variants_of(opened, *chosen, device)
                report = bench_bundle(opened, variants, options, rounds=0, pairs=pairs, progress=progress)
                report = replace(report, not_images=files_without_image(hr, lr))
        show(report, rich_report(report, with_all), LEAST_IMPORTANT)
    report.require_one_ran()
    report.require_all_scored()
