"""The part of `sr-edge upscale` that is about videos."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from sr_edge.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from sr_edge.camera.video_file import VideoJob, VideoResult
    from sr_edge.camera.video_file_settings import VideoSettings
    from sr_edge.cli.output import StageProgress
    from sr_edge.controls import Controls
    from sr_edge.runtimes import Session


Option = TypeVar("Option", bound=Enum)

VIDEO_SLOTS = 3
"""Tiles in flight where only frames a second count: 1.1 to 1.2 times as many as with an engine set for latency, on 2
cores with OpenVINO, convnet-tiny in fp32 and INT8."""


@dataclass(frozen=True)
class VideoWords:
    """The options of videos as typed. Pictures come without them, and without the library that reads videos."""

    frames: str = ""
    codec: str = ""
    crf: int | None = None
    copy: str = "all"

    def settings(self, resume: bool) -> VideoSettings:
        """Raises UsageError for values that are not valid."""
        from sr_edge.camera.video_file_settings import (
            ALL_FRAMES,
            FrameRange,
            StreamSelection,
            VideoCodec,
            VideoSettings,
        )

        return VideoSettings(
            _chosen("codec", VideoCodec, self.codec) if self.codec else None,
            self.crf,
            FrameRange.parse(self.frames) if self.frames else ALL_FRAMES,
            _chosen("stream selection", StreamSelection, self.copy),
            resume,
        )


def _chosen(kind: str, choices: type[Option], text: str) -> Option:
    try:
        return choices(text)
    except ValueError:
        raise UnknownNameError(kind, text, [str(choice.value) for choice in choices]) from None


def is_video(source: Path, words: VideoWords) -> bool:
    """Whether `source` is to be read as a video: all files that are no pictures by their suffix.

    Raises:
        UsageError: it is none, and an option of videos is given.
    """
    from sr_edge.image_files import is_picture_name

    if not source.is_dir() and not is_picture_name(source):
        return True
    if words != VideoWords():
        raise UsageError(
            f"--frames, --codec, --crf and --copy apply to videos only, and {source} is not a video",
            found=source,
            wanted="a video file",
            remedy="leave them out",
        )
    return False


def planned_video(source: Path, target: Path, scale: int, settings: VideoSettings) -> VideoJob:
    """The work, checked before a model is loaded; a folder as target keeps the name."""
    from sr_edge.camera.video_file import plan_video

    return plan_video(source, target / source.name if target.is_dir() else target, scale, settings)


def upscaled_video(
    job: VideoJob, session: Session, overlap_px: int | None, controls: Controls, progress: StageProgress
) -> VideoResult:
    """Upscales it, and says what is kept where that is interrupted."""
    from sr_edge.camera.enlarger import NetworkFrameUpscaler
    from sr_edge.camera.video_file import upscale_video

    upscaler = NetworkFrameUpscaler(session, session.spec.slots + 1, overlap_px, controls)
    name = job.probe.path.name
    with _kept_frames_named(job.target):
        return upscale_video(job, upscaler, lambda done, total: progress(name, done, total))


@contextmanager
def _kept_frames_named(target: Path) -> Iterator[None]:
    from sr_edge.camera.video_file import frames_kept

    try:
        yield
    except BaseException:
        kept = frames_kept(target)
        if kept:
            typer.echo(f"{kept} frames are kept beside {target}; the same command goes on after them", err=True)
        raise


def readable_video(result: VideoResult) -> list[str]:
    """What was written, and what a person should know of it."""
    frames = f"{result.frames} frames of {result.width}x{result.height} {result.format}, {result.encoder}"
    resumed = f", {result.resumed} of them by an earlier run" if result.resumed else ""
    copied = f"; copied: {', '.join(result.copied)}" if result.copied else ""
    return [f"{result.source} -> {result.target}: {frames}{resumed}{copied}", *(f"note: {it}" for it in result.notes)]
