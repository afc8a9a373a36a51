"""`sr-edge upscale`: upscales an image, a folder of images or a video file with a bundle."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.model_argument import (
    AUTO,
    ChannelOrderOption,
    OnnxInputRangeOption,
    OnnxTileOption,
    RunFloatPrecisionOption,
    RunnableArgument,
    RunPrecisionOption,
    RunRuntimeOption,
    chosen_engine,
    opened_model,
)
from sr_edge.cli.options import (
    DeviceOption,
    JsonOption,
    SettingsOption,
    ThreadsOption,
    TrustOption,
    read_settings,
)
from sr_edge.cli.run.stream_options import (
    DecoderOption,
    DeinterlaceOption,
    EncodeOption,
    PixelFormatOption,
    ReuseMemoryOption,
    ReuseRefreshOption,
    VideoReuseOption,
)
from sr_edge.cli.run.upscale_video import (
    VIDEO_SLOTS,
    VideoArguments,
    check_video_files,
    is_video,
    plan_video_job,
    run_video_job,
    video_summary,
)
from sr_edge.cli.terminal import print_line
from sr_edge.errors import FrameError, UsageError
from sr_edge.files.whole_file import require_output, require_output_file

if TYPE_CHECKING:
    from sr_edge.camera.file.job import VideoJob, VideoResult
    from sr_edge.runtimes import SessionSpec
    from sr_edge.spec import StageProgress
    from sr_edge.upscaler import FileResult, Upscaler


SourceArgument = Annotated[
    Path, typer.Argument(metavar="IN", help="Image, folder of images, or video.", show_default=False)
]
TargetArgument = Annotated[
    Path,
    typer.Argument(
        metavar="OUT",
        help="Image or video to write, or a folder in which the files keep their names.",
        show_default=False,
        readable=False,
    ),
]
"""`readable=False`, so that a file without any permissions is reported as one that cannot be written."""
SlotsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of tiles that are processed concurrently. More slots increase both throughput and latency. "
        "Default: 2, or 3 for a video.",
        show_default=False,
    ),
]
OverlapOption = Annotated[
    int | None,
    typer.Option(
        min=0, help="Minimum overlap of tiles in low-resolution pixels. Default: the model's own.", show_default=False
    ),
]
ResumeOption = Annotated[
    bool, typer.Option(help="Skip images whose results are newer, and continue an interrupted video.")
]
FramesOption = Annotated[
    str,
    typer.Option(
        metavar="FIRST:END",
        help="Frames of a video to upscale, counted from 0, END excluded. Default: all.",
        show_default=False,
    ),
]
CodecOption = Annotated[
    str,
    typer.Option(
        metavar="h264|h265|vp9|av1|ENCODER",
        help="Codec of the video, or FFmpeg's name of an encoder, for example h264_nvenc. "
        "Default: chosen by bit depth and container.",
        show_default=False,
    ),
]
CrfOption = Annotated[
    int | None,
    typer.Option(
        help="Constant rate factor of the video; 0 is the best quality. Default: the codec's own.", show_default=False
    ),
]
CopyOption = Annotated[
    str, typer.Option(metavar="all|audio|none", help="Other streams of the video to copy without re-encoding.")
]


def upscale(
    model: RunnableArgument,
    source: SourceArgument,
    target: TargetArgument,
    runtime: RunRuntimeOption = AUTO,
    precision: RunPrecisionOption = AUTO,
    float_precision: RunFloatPrecisionOption = None,
    overlap: OverlapOption = None,
    resume: ResumeOption = True,
    frames: FramesOption = "",
    decoder: DecoderOption = None,
    codec: CodecOption = "",
    crf: CrfOption = None,
    encode: EncodeOption = [],  # noqa: B006  # typer copies it; it wants a list here
    pixel_format: PixelFormatOption = "",
    deinterlace: DeinterlaceOption = False,
    copy: CopyOption = "all",
    reuse: VideoReuseOption = "",
    reuse_memory: ReuseMemoryOption = None,
    reuse_refresh_s: ReuseRefreshOption = None,
    slots: SlotsOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
    settings: SettingsOption = [],  # noqa: B006
    trust: TrustOption = "",
    tile: OnnxTileOption = None,
    input_range: OnnxInputRangeOption = AUTO,
    channel_order: ChannelOrderOption = "rgb",
    as_json: JsonOption = False,
) -> None:
    """Upscale an image, a folder of images or a video."""
    from sr_edge.cli.output import progress_on_stderr, result_on_stdout, stage_on_stderr

    controls = read_settings(settings)
    video_arguments = VideoArguments(
        frames,
        codec,
        crf,
        copy,
        pixel_format,
        deinterlace,
        tuple(encode),
        reuse,
        reuse_memory,
        reuse_refresh_s,
        decoder,
    )
    reused = video_arguments.reuse_options()
    video = video_arguments.settings(resume) if is_video(source, target, video_arguments) else None
    if video is None:
        _require_fitting_source(source, resume)
        _require_writable_target(source, target)
    probe = check_video_files(source, target, video) if video else None
    with result_on_stdout(as_json) as show, ExitStack() as loading:
        loading.enter_context(stage_on_stderr(f"loading {model.name}"))
        from sr_edge.model_sources import EngineChoice, open_engine, tile_reporter
        from sr_edge.upscaler import Upscaler

        choice = EngineChoice.read(
            runtime, precision, float_precision, device, threads, slots or (VIDEO_SLOTS if video else None)
        )
        with opened_model(model, tile, input_range, channel_order) as opened:
            job = plan_video_job(source, target, opened.manifest.card.scale, video, probe) if video else None
            engine = chosen_engine(opened, choice)
            options = {"architecture": trust} if trust and engine.runtime == "torch" else None
            with open_engine(opened, engine, options) as session:
                loading.close()
                progress = loading.enter_context(progress_on_stderr())
                started = time.perf_counter()
                if job is not None:
                    on_tiles = tile_reporter(opened, print_line)
                    result = run_video_job(job, session, overlap, controls, reused, progress, on_tiles)
                    outcome = _video_outcome(job, result)
                else:
                    on_tiles = tile_reporter(opened, print_line, suggests_frame=False)
                    upscaler = Upscaler(session, overlap, controls, on_tiles=on_tiles)
                    outcome = _upscale_pictures(upscaler, source, target, resume, progress)
                seconds = time.perf_counter() - started
                loading.close()
        document = {"engine": engine, "session": session.spec, "seconds": seconds, **outcome.document}
        show(document, "\n".join([*outcome.lines, _session_line(session.spec, seconds)]))
    if outcome.failure is not None:
        raise outcome.failure


@dataclass(frozen=True)
class _Outcome:
    """The result to print, as JSON and as lines, and the error to raise afterwards."""

    document: Mapping[str, object]
    lines: Sequence[str]
    failure: FrameError | None = None


def _video_outcome(job: VideoJob, result: VideoResult) -> _Outcome:
    return _Outcome({"video": result}, video_summary(result, job.notes))


def _picture_outcome(results: Sequence[FileResult], others: Sequence[Path] = ()) -> _Outcome:
    from sr_edge.image_files import note_about_others

    lines = [*map(_result_line, results), *_counted_notes(results), *note_about_others(others)]
    return _Outcome({"files": results, "not_pictures": others}, lines, _failure(results))


def _counted_notes(results: Sequence[FileResult]) -> list[str]:
    """Each note once, with the number of pictures that it concerns."""
    counts = Counter(note for result in results for note in result.notes)
    if len(results) == 1:
        return [f"note: {note}" for note in counts]
    return [f"note: {note} ({count} picture{'s' if count > 1 else ''})" for note, count in counts.items()]


def _require_fitting_source(source: Path, resume: bool) -> None:
    """Checks a picture or folder of pictures before a model is loaded.

    Raises:
        FrameError: It does not exist.
        UsageError: `--no-resume` was given for a single picture.
    """
    if not source.exists():
        raise FrameError(
            f"there is no file or folder {source}", found=source, wanted="an existing file", remedy="check the name"
        )
    if not resume and not source.is_dir():
        raise UsageError(
            f"--no-resume has no effect on {source}: a single image is always upscaled again",
            found=source,
            wanted="a folder of images, or a video",
            remedy="leave --no-resume out",
        )


def _require_writable_target(source: Path, target: Path) -> None:
    """Raises UsageError if the result cannot be written; a folder of results need not exist yet."""
    from sr_edge.image_files import result_name

    if target.is_dir():
        require_output(target / result_name(source))
    elif not source.is_dir():
        require_output_file(target)


def _upscale_pictures(
    upscaler: Upscaler, source: Path, target: Path, resume: bool, progress: StageProgress
) -> _Outcome:
    from sr_edge.image_files import result_name, scan_folder
    from sr_edge.upscaler import FileResult, Outcome, upscale_file, upscale_folder

    if not source.is_dir():
        output = target / result_name(source) if target.is_dir() else target
        notes = upscale_file(upscaler, source, output, lambda done, total: progress(source.name, done, total))
        return _picture_outcome([FileResult(source, output, Outcome.WRITTEN, notes=notes)])
    content = scan_folder(source)
    results = []
    for result in upscale_folder(upscaler, source, target, resume=resume):
        results.append(result)
        progress("pictures", len(results), len(content.pictures))
    return _picture_outcome(results, content.others)


def _failure(results: Sequence[FileResult]) -> FrameError | None:
    failed = [result for result in results if result.outcome == "failed"]
    if not failed:
        return None
    return FrameError(
        f"{len(failed)} of {len(results)} pictures failed, the first: {failed[0].reason}",
        found=[result.source for result in failed],
    )


def _result_line(result: FileResult) -> str:
    reason = f" ({result.reason})" if result.reason else ""
    return f"{result.source} -> {result.target}: {result.outcome}{reason}"


def _session_line(spec: SessionSpec, seconds: float) -> str:
    float_precision = (
        "" if spec.float_precision_ran is spec.ran else f" with {spec.float_precision_ran} for all other operators"
    )
    return f"{spec.runtime} {spec.version} on {spec.device}, {spec.ran}{float_precision}, {seconds:.2f} s"
