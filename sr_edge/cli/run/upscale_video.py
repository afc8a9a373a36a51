"""Upscaling of video files by `sr-edge upscale`."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sr_edge.cli.run.stream_options import parse_pixel_format, read_pairs, read_reuse
from sr_edge.cli.terminal import print_line
from sr_edge.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from sr_edge.camera.file.job import VideoJob, VideoResult
    from sr_edge.camera.file.probe import VideoProbe
    from sr_edge.camera.file.settings import VideoSettings
    from sr_edge.controls import Controls
    from sr_edge.runtimes import Session
    from sr_edge.spec import StageProgress
    from sr_edge.upscaler import OnTiles
    from sr_edge.upscaler.reuse_options import ReuseOptions


Choice = TypeVar("Choice", bound=Enum)

VIDEO_SLOTS = 3
"""Tiles in flight for a video file, where only throughput counts: 1.1 to 1.2 times the frame rate of an engine that is
tuned for latency, measured on 2 cores with OpenVINO and convnet-tiny in fp32 and INT8."""


@dataclass(frozen=True)
class VideoArguments:
    """The unparsed options for videos. Parsing needs the library that reads videos, which images must not require."""

    frames: str = ""
    codec: str = ""
    crf: int | None = None
    copy: str = "all"
    pixel_format: str = ""
    deinterlace: bool = False
    encode: tuple[str, ...] = ()
    reuse: str = ""
    reuse_memory: str | None = None
    reuse_refresh_s: float | None = None
    decoder: str | None = None

    def reuse_options(self) -> ReuseOptions:
        """Parses the options for reuse; raises UsageError for invalid values."""
        return read_reuse(self.reuse or "exact", self.reuse_memory, self.reuse_refresh_s)

    def settings(self, resume: bool) -> VideoSettings:
        """Parses the options; raises UsageError for invalid values."""
        from sr_edge.camera.file.settings import (
            ALL_FRAMES,
            FrameRange,
            StreamSelection,
            VideoSettings,
        )

        return VideoSettings(
            codec=self.codec or None,
            crf=self.crf,
            pixel_format=parse_pixel_format(self.pixel_format),
            is_deinterlaced=self.deinterlace,
            frames=FrameRange.parse(self.frames) if self.frames else ALL_FRAMES,
            copied_streams=_parsed_choice("choice of streams", StreamSelection, self.copy),
            resume=resume,
            encoder_options=read_pairs(list(self.encode)),
            decoder=self.decoder,
        )


def _parsed_choice(kind: str, choices: type[Choice], text: str) -> Choice:
    try:
        return choices(text)
    except ValueError:
        raise UnknownNameError(kind, text, [str(choice.value) for choice in choices]) from None


def is_video(source: Path, target: Path, arguments: VideoArguments) -> bool:
    """Whether `source` is read as a video: any file that is not an image, and an animation unless an image is wanted.

    Raises:
        UsageError: `source` is not a video, but options for videos are given; or it is not an image, but `target` is
            one.
    """
    from sr_edge.image_files import count_frames, has_picture_name, is_picture, missing_package

    if not source.is_dir() and not is_picture(source):
        if source.is_file() and has_picture_name(target):
            package = missing_package(source)
            raise UsageError(
                f"{source} is not read as an image, and {target} has the suffix of one",
                found=source,
                wanted="an image, or the name of a video for the result",
                remedy=f"pip install {package}" if package else "convert it to PNG, or name the result as a video",
            )
        return True
    if not source.is_dir() and not has_picture_name(target) and not target.is_dir() and count_frames(source) > 1:
        return True
    if arguments != VideoArguments():
        raise UsageError(
            "--frames, --decoder, --codec, --crf, --encode, --pixel-format, --deinterlace, --copy, --reuse, "
            f"--reuse-memory and --reuse-refresh apply to videos only, and {source} is not a video",
            found=source,
            wanted="a video file",
            remedy="leave them out",
        )
    return False


def check_video_files(source: Path, target: Path, settings: VideoSettings) -> VideoProbe:
    """Checks source, target and settings before a model is read, see `check_video`."""
    from sr_edge.camera.file.job import check_video

    return check_video(source, _file_in(target, source), settings)


def _file_in(target: Path, source: Path) -> Path:
    """The file to write: in a folder as target the file keeps its name."""
    return target / source.name if target.is_dir() else target


def plan_video_job(
    source: Path, target: Path, scale: int, settings: VideoSettings, probe: VideoProbe | None
) -> VideoJob:
    """Checks source and target before a model is loaded, and prints what the result will not have."""
    from sr_edge.camera.file.job import plan_video

    job = plan_video(source, _file_in(target, source), scale, settings, probe)
    for note in job.notes:
        _print_note(note)
    return job


def _print_note(note: str) -> None:
    print_line(f"note: {note}")


def run_video_job(
    job: VideoJob,
    session: Session,
    overlap_px: int | None,
    controls: Controls,
    reuse: ReuseOptions,
    progress: StageProgress,
    on_tiles: OnTiles,
) -> VideoResult:
    """Upscales the video; if that is interrupted, reports how many frames are kept."""
    from sr_edge.camera.file.job import upscale_video
    from sr_edge.camera.pipeline.frame_upscaler import NetworkFrameUpscaler

    upscaler = NetworkFrameUpscaler(session, session.spec.slots + 1, overlap_px, controls, reuse, on_tiles)
    name = job.probe.path.name
    with _reporting_kept_frames(job.target):
        return upscale_video(job, upscaler, lambda done, total: progress(name, done, total), on_event=_print_note)


@contextmanager
def _reporting_kept_frames(target: Path) -> Iterator[None]:
    from sr_edge.camera.file.segments import frames_kept

    try:
        yield
    except BaseException:
        kept = frames_kept(target)
        if kept:
            print_line(f"{kept} frames are kept beside {target}; run the same command to continue after them")
        raise


def video_summary(result: VideoResult, already_printed: Collection[str]) -> list[str]:
    """Lines that describe the written video, with the notes that were not printed before the work."""
    frames = f"{result.frames} frames of {result.width}x{result.height} {result.format}, {result.encoder}"
    resumed = f", {result.resumed} of them by an earlier run" if result.resumed else ""
    copied = f"; copied: {', '.join(result.copied)}" if result.copied else ""
    reused = f"; {result.reuse.share:.0%} of the tiles reused" if result.reuse and result.reuse.reused else ""
    return [
        f"{result.source} -> {result.target}: {frames}{resumed}{copied}{reused}",
        *(f"note: {note}" for note in result.notes if note not in already_printed),
    ]
