"""`sr-edge upscale`: picture files, folders of them, or a video file through a bundle."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.options import (
    BundleArgument,
    DeviceOption,
    FloatPrecisionOption,
    JsonOption,
    PrecisionOption,
    SettingsOption,
    ThreadsOption,
    TrustOption,
    read_settings,
)
from sr_edge.cli.stream_options import RuntimeOption, SlotsOption
from sr_edge.cli.upscale_video import VIDEO_SLOTS, VideoWords, is_video, planned_video, readable_video, upscaled_video
from sr_edge.errors import FrameError
from sr_edge.spec import Precision
from sr_edge.whole_file import require_output, require_output_file

if TYPE_CHECKING:
    from sr_edge.camera.video_file import VideoResult
    from sr_edge.cli.output import StageProgress
    from sr_edge.runtimes import SessionSpec
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
"""Not `readable`: a file that may neither be read nor written is one that cannot be written."""
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
        metavar="h264|h265|vp9|av1",
        help="Codec of the video. Default: chosen by bit depth and container.",
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
    model: BundleArgument,
    source: SourceArgument,
    target: TargetArgument,
    runtime: RuntimeOption = None,
    precision: PrecisionOption = Precision.FP32,
    float_precision: FloatPrecisionOption = Precision.FP32,
    overlap: OverlapOption = None,
    resume: ResumeOption = True,
    frames: FramesOption = "",
    codec: CodecOption = "",
    crf: CrfOption = None,
    copy: CopyOption = "all",
    slots: SlotsOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = "cpu",
    settings: SettingsOption = [],  # noqa: B006  # typer copies it; it wants a list here
    trust: TrustOption = "",
    as_json: JsonOption = False,
) -> None:
    """Upscale an image, a folder of images or a video."""
    from sr_edge.cli.output import progress_on_stderr, result_on_stdout

    controls = read_settings(settings)
    words = VideoWords(frames, codec, crf, copy)
    video = words.settings(resume) if is_video(source, words) else None
    if video is None:
        _require_place(source, target)
    with result_on_stdout(as_json) as show:
        from sr_edge.bundle import open_bundle
        from sr_edge.runtimes import open_frame_session, preferred_runtime
        from sr_edge.upscaler import Upscaler

        name = runtime or preferred_runtime()
        options = {"architecture": trust} if trust and name == "torch" else None
        with open_bundle(model) as opened:
            job = planned_video(source, target, opened.manifest.card.scale, video) if video else None
            with (
                open_frame_session(
                    opened,
                    name,
                    precision,
                    device,
                    float_precision=float_precision,
                    threads=threads,
                    slots=slots or (VIDEO_SLOTS if job else None),
                    options=options,
                ) as session,
                progress_on_stderr() as progress,
            ):
                started = time.perf_counter()
                if job is not None:
                    done = _done_video(upscaled_video(job, session, overlap, controls, progress))
                else:
                    upscaler = Upscaler(session, overlap, controls)
                    done = _done_pictures(_upscaled(upscaler, source, target, resume, progress))
                seconds = time.perf_counter() - started
        document = {"session": session.spec, "seconds": seconds, **done.document}
        show(document, "\n".join([*done.lines, _ran(session.spec, seconds)]))
    if done.failure is not None:
        raise done.failure


@dataclass(frozen=True)
class _Done:
    """What is shown of the work: as JSON, as lines, and the error to end with."""

    document: Mapping[str, object]
    lines: Sequence[str]
    failure: FrameError | None = None


def _done_video(result: VideoResult) -> _Done:
    return _Done({"video": result}, readable_video(result))


def _done_pictures(results: Sequence[FileResult]) -> _Done:
    return _Done({"files": results}, [_readable(result) for result in results], _failure(results))


def _require_place(source: Path, target: Path) -> None:
    """Raises UsageError where no result could be written; a folder of results need not exist yet."""
    if target.is_dir():
        require_output(target / source.name)
    elif not source.is_dir():
        require_output_file(target)


def _upscaled(
    upscaler: Upscaler, source: Path, target: Path, resume: bool, progress: StageProgress
) -> Sequence[FileResult]:
    from sr_edge.image_files import list_pictures
    from sr_edge.upscaler import FileResult, Outcome, upscale_file, upscale_folder

    if not source.is_dir():
        into = target / source.name if target.is_dir() else target
        upscale_file(upscaler, source, into, lambda done, total: progress(source.name, done, total))
        return [FileResult(source, into, Outcome.WRITTEN)]
    total = len(list_pictures(source))
    results = []
    for result in upscale_folder(upscaler, source, target, resume=resume):
        results.append(result)
        progress("pictures", len(results), total)
    return results


def _failure(results: Sequence[FileResult]) -> FrameError | None:
    failed = [result for result in results if result.outcome == "failed"]
    if not failed:
        return None
    return FrameError(
        f"{len(failed)} of {len(results)} pictures failed, the first: {failed[0].reason}",
        found=[result.source for result in failed],
    )


def _readable(result: FileResult) -> str:
    because = f" ({result.reason})" if result.reason else ""
    return f"{result.source} -> {result.target}: {result.outcome}{because}"


def _ran(spec: SessionSpec, seconds: float) -> str:
    float_precision = "" if spec.float_precision_ran is spec.ran else f", rest {spec.float_precision_ran}"
    return f"{spec.runtime} {spec.version} on {spec.device}, {spec.ran}{float_precision}, {seconds:.2f} s"
