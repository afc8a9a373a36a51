"""`sr-edge batch`: upscales an archive of pictures and videos on one or many machines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.interrupts import finishing_on_signal
from sr_edge.cli.model_argument import (
    AUTO,
    ChannelOrderOption,
    OnnxInputRangeOption,
    OnnxTileOption,
    RunFloatPrecisionOption,
    RunnableArgument,
    RunPrecisionOption,
    RunRuntimeOption,
    opened_model,
)
from sr_edge.cli.options import DeviceOption, JsonOption, SettingsOption, read_settings
from sr_edge.cli.run.stream_options import DeinterlaceOption, EncodeOption, PixelFormatOption
from sr_edge.cli.run.upscale import CodecOption, CopyOption, CrfOption, OverlapOption
from sr_edge.cli.run.upscale_video import VideoArguments
from sr_edge.cli.terminal import print_line
from sr_edge.errors import FrameError

if TYPE_CHECKING:
    from sr_edge.cli.output import ShowProgress
    from sr_edge.cluster import BatchProgress, BatchResult, FailedFile

SHOWN_FAILURES = 5

ManySourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Folder with pictures and videos, with all folders in it; a pattern such as 'photos/**/*.png'; one file; "
        "or a list of files, one a line, whose name ends in .txt. Paths or URLs, for example s3://bucket/photos.",
        show_default=False,
    ),
]
ManyTargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="Folder of the results, in which files keep their names and folders: a path or a URL. On a cluster, paths "
        "must be the same shared folder on every machine.",
        show_default=False,
    ),
]
RayOption = Annotated[
    str,
    typer.Option(
        "--ray",
        metavar="local|auto|HOST:PORT",
        help="Ray cluster to run on: local starts Ray on this machine alone, auto joins the cluster that this machine "
        "is a part of, HOST:PORT names its head.",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Most workers, processes with one engine each, that run at the same time. Default: as many as the "
        "machines have room for.",
        show_default=False,
    ),
]
EngineThreadsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="CPU threads of each engine, which occupies as many cores. Default: 1, or with --ray local and --workers "
        "the cores divided by the workers.",
        show_default=False,
    ),
]
BatchReuseOption = Annotated[
    str,
    typer.Option(
        metavar="off|exact",
        help="Tiles of a video that are not computed again for the next frame: none, or those that did not change.",
    ),
]
ResumeBatchOption = Annotated[
    bool, typer.Option(help="Skip files that an earlier job finished with the same model and options.")
]
FailFastOption = Annotated[
    bool, typer.Option("--fail-fast", help="Send no more files after the first that failed.", show_default=False)
]


def batch(
    model: RunnableArgument,
    source: ManySourceArgument,
    target: ManyTargetArgument,
    ray: RayOption = "local",
    workers: WorkersOption = None,
    runtime: RunRuntimeOption = AUTO,
    precision: RunPrecisionOption = AUTO,
    float_precision: RunFloatPrecisionOption = None,
    threads: EngineThreadsOption = None,
    device: DeviceOption = None,
    overlap: OverlapOption = None,
    resume: ResumeBatchOption = True,
    fail_fast: FailFastOption = False,
    codec: CodecOption = "",
    crf: CrfOption = None,
    encode: EncodeOption = [],  # noqa: B006  # typer copies it; it wants a list here
    pixel_format: PixelFormatOption = "",
    deinterlace: DeinterlaceOption = False,
    copy: CopyOption = "all",
    reuse: BatchReuseOption = "exact",
    settings: SettingsOption = [],  # noqa: B006
    tile: OnnxTileOption = None,
    input_range: OnnxInputRangeOption = AUTO,
    channel_order: ChannelOrderOption = "rgb",
    as_json: JsonOption = False,
) -> None:
    """Upscale an archive of pictures and videos on one or many machines, with Ray.

    Each result appears under its name when it is complete, and is recorded in TARGET/.sr-edge-batch. The same command
    continues an interrupted job, and does again only what changed. Ctrl-C lets the files end that have begun; a second
    Ctrl-C ends them at once.
    """
    from sr_edge.cli.output import progress_on_stderr, result_on_stdout
    from sr_edge.cluster.job import BatchOptions, upscale_many
    from sr_edge.model_sources import EngineChoice

    video = VideoArguments("", codec, crf, copy, pixel_format, deinterlace, tuple(encode)).settings(resume)
    options = BatchOptions(workers, overlap, read_settings(settings), video, reuse, fail_fast)
    choice = EngineChoice.read(runtime, precision, float_precision, device, threads)
    with result_on_stdout(as_json) as show:
        with (
            opened_model(model, tile, input_range, channel_order) as opened,
            progress_on_stderr() as progress,
            finishing_on_signal(_say_finishing) as requested_code,
        ):
            result = upscale_many(
                opened,
                source,
                target,
                ray=ray,
                engine=choice,
                options=options,
                on_progress=_Bar(progress),
                on_event=print_line,
                is_stopping=lambda: requested_code() != 0,
            )
            exit_code = requested_code()
        show(result, "\n".join(_summary(result)))
    if exit_code:
        raise typer.Exit(exit_code)
    if result.failed:
        raise FrameError(
            f"{_counted(result.failed, 'file')} failed, see {result.records}",
            found=[failure.source for failure in result.failures],
            remedy="run the same command again to try only what is not finished",
        )


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _say_finishing() -> None:
    print_line("stopping: files that have begun are finished; press Ctrl-C again to end at once")


class _Bar:
    """Shows the progress of a job as one bar over its items."""

    def __init__(self, progress: ShowProgress) -> None:
        self._progress = progress
        self._started: float | None = None

    def __call__(self, state: BatchProgress) -> None:
        now = time.monotonic()
        if self._started is None:
            self._started = now  # the start of Ray and the loading of the model do not count in the rates
        seconds = max(now - self._started, 1e-3)
        details = [f"{state.pictures / seconds:.1f} pictures/s"] if state.pictures else []
        details += [f"{state.frames / seconds:.1f} frames/s"] if state.frames else []
        details.append(_counted(state.workers, "worker"))
        details += [f"{state.failed} failed"] if state.failed else []
        # Videos and pictures take different times, so that the time left cannot be estimated from the items.
        self._progress("items", state.items, state.total, ", ".join(details), has_time_left=not state.frames)


def _summary(result: BatchResult) -> list[str]:
    pictures = [_counted(result.pictures, "picture")] if result.pictures or not result.videos else []
    videos = [f"{_counted(result.videos, 'video')} with {_counted(result.frames, 'frame')}"] if result.videos else []
    counts = {"finished before": result.skipped, "kept": result.kept, "failed": result.failed, "not tried": result.left}
    others = "".join(f", {count} {name}" for name, count in counts.items() if count)
    engine = f"{result.engine.runtime} {result.engine.variant.label}"
    machines = ", ".join(f"{name}: {count}" for name, count in sorted(result.machines.items()))
    if result.skipped and not (result.done or result.kept or result.failed or result.left):
        are_finished = f"{_counted(result.skipped, 'file')} {'is' if result.skipped == 1 else 'are'} finished"
        return [f"nothing to do: {are_finished} in {result.target}", *(f"note: {note}" for note in result.notes)]
    lines = [f"{' and '.join([*pictures, *videos])} to {result.target}{others}; {engine}, {result.seconds:.1f} s"]
    lines += [f"files by machine: {machines}"] if len(result.machines) > 1 else []
    lines += [f"lost machines: {', '.join(result.lost_machines)}"] if result.lost_machines else []
    lines += [_failure_line(each) for each in result.failures[:SHOWN_FAILURES]]
    hidden = result.failed - SHOWN_FAILURES
    lines += [f"{hidden} more failed; {result.records} lists all"] if hidden > 0 else []
    return [*lines, *(f"note: {note}" for note in result.notes)]


def _failure_line(failure: FailedFile) -> str:
    """The error of a file with its path or URL once; most errors have it already."""
    named = failure.source in failure.error
    return f"failed: {failure.error}" if named else f"failed: {failure.source}: {failure.error}"
