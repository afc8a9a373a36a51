"""Upscales whole video files: every frame keeps its timestamp, colour and bit depth, and other streams are copied."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import cast

import av
import numpy as np

from sr_edge.camera.file.encoding import VideoFileEncoding, choose_encoding, container_of
from sr_edge.camera.file.mux import MuxJob, StreamCopies, choose_copies, mux
from sr_edge.camera.file.probe import VideoProbe, probe_video
from sr_edge.camera.file.reader import ReadSummary, VideoFileSource
from sr_edge.camera.file.segments import SEGMENT_FRAMES, Fingerprint, Segments, open_segments
from sr_edge.camera.file.settings import VideoSettings
from sr_edge.camera.flow.drop_policy import Dropping, Policy
from sr_edge.camera.flow.events import ignore_event
from sr_edge.camera.media.declared import ALPHA, INTERLACED, listed
from sr_edge.camera.media.frame import PixelFormat, VideoFrame
from sr_edge.camera.pipeline.frame_upscaler import FrameUpscaler
from sr_edge.camera.pipeline.loop import Loop
from sr_edge.camera.pipeline.options import LoopOptions
from sr_edge.errors import SrEdgeError, StreamError, UsageError
from sr_edge.files.whole_file import require_output_file
from sr_edge.upscaler.reuse import ReuseStatistics
from sr_edge.upscaler.reuse_options import EXACT

OnFrame = Callable[[int, int], None]
"""Called with the number of finished frames, including those of an interrupted run, and the approximate total; the
total is 0 while it is unknown."""

_FRAME_TIMEOUT_S = 24 * 3600.0
"""A file has no deadline, and a large model on a small machine takes long."""


@dataclass(frozen=True)
class VideoResult:
    """A written video file.

    Attributes:
        source: The file that was read.
        target: The file that was written.
        encoder: FFmpeg's name of the encoder.
        width: Width of the written frames.
        height: Height of the written frames.
        format: Pixel format of the written frames.
        frames: Number of frames.
        resumed: How many of the frames an interrupted run had finished.
        copied: The streams that were copied in addition to the video.
        reuse: Tiles that were needed and reused in this run; None if none were needed, or reuse is off.
        notes: Differences from the source that the user did not ask for.
    """

    source: Path
    target: Path
    encoder: str
    width: int
    height: int
    format: PixelFormat
    frames: int
    resumed: int
    copied: tuple[str, ...]
    reuse: ReuseStatistics | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class VideoJob:
    """A checked plan for one video file. What can still fail is decoding the remaining frames, and the disk.

    Attributes:
        probe: What was found out about the source.
        target: The file to write.
        settings: How it is upscaled.
        encoding: How the frames are encoded.
        copies: The streams that are copied.
    """

    probe: VideoProbe
    target: Path
    settings: VideoSettings
    encoding: VideoFileEncoding
    copies: StreamCopies

    def at(self, source: Path, target: Path) -> VideoJob:
        """The same job with the source and the target at other paths, for example on another machine.

        Args:
            source: A copy of the source, or the same file under another path.
            target: The file to write, in the same container format.

        Raises:
            UsageError: The suffix of `target` selects another container format.
        """
        if container_of(target) != self.encoding.container:
            raise UsageError(
                f"{target} has another container format than {self.target}",
                found=target.suffix,
                wanted=self.target.suffix,
                remedy=f"end the name in {self.target.suffix}",
            )
        return replace(self, probe=replace(self.probe, path=source), target=target)

    @property
    def notes(self) -> tuple[str, ...]:
        """Differences from the source that are known before the work, and what may look wrong in the result."""
        return tuple(_planned_notes(self))


def plan_video(source: Path, target: Path, scale: int, settings: VideoSettings | None = None) -> VideoJob:
    """Probes `source` and checks that `target` can store the result, before a model is loaded.

    Args:
        source: The video to upscale.
        target: The file to write; its suffix selects the container.
        scale: Magnification of the model.
        settings: Codec, quality, range of frames and copied streams; None selects the defaults.

    Raises:
        FrameError, StreamError: `source` cannot be read as a video.
        UsageError: `target` cannot be written, or its container cannot store the frames.
    """
    settings = settings or VideoSettings()
    if source.resolve() == target.resolve():
        raise UsageError(f"{target} is also the input file", found=target, remedy="give the output another name")
    container = container_of(target)
    probe = probe_video(source)
    require_output_file(target)
    encoding = choose_encoding(probe, target, scale, settings)
    copies = choose_copies(probe, container, settings.copied_streams)
    return VideoJob(probe, target, settings, encoding, copies)


def upscale_video(
    job: VideoJob,
    upscaler: FrameUpscaler,
    on_frame: OnFrame | None = None,
    segment_frames: int = SEGMENT_FRAMES,
    on_event: Callable[[str], None] = ignore_event,
) -> VideoResult:
    """Upscales a video file. The target is moved into place atomically when it is complete.

    Frames are decoded, upscaled and encoded concurrently, with a few frames of each stage in memory. Encoded frames are
    kept in segments beside the target, so that the same call resumes an interrupted run.

    Args:
        job: The checked plan.
        upscaler: The model; the caller closes it. It also upscales the first frame once more: the result shows whether
            an interrupted run used the same model.
        on_frame: Called after each encoded frame, and once more before the segments are muxed.
        segment_frames: Frames per segment: the most work that an interruption costs, and the largest distance between
            key frames.
        on_event: Called with what an interrupted run left and cannot be used.

    Raises:
        StreamError: The source is damaged or truncated, or the target cannot be written.
        FrameError: The range of frames begins after the end of the video.
        UsageError: The segments of an interrupted run have other settings, or another process is writing the target.
        EngineError: Inference failed.
    """
    fingerprint = {
        **encoding_fingerprint(job, upscaler, segment_frames),
        "the video": _version_of(job.probe.path),
        "the model's output": _output_digest(upscaler, job.probe.first_frame),
    }
    with open_segments(
        job.target, fingerprint, segment_frames, resume=job.settings.resume, on_event=on_event
    ) as segments:
        resumed = segments.frames
        summary, reuse = segments.summary, None
        if summary is None:
            frame_range = job.settings.frames
            source = VideoFileSource(job.probe, frame_range, segments.pts_of, job.settings.is_deinterlaced)
            total = frame_range.count_in(job.probe.frame_count)
            summary, reuse = encode_segments(source, upscaler, segments, job.encoding, total, on_frame)
            segments.finish(summary)
            if on_frame is not None:
                on_frame(summary.frames, summary.frames)
        mux_segments(job, segments, summary, segments.folder)
        segments.remove()
    return video_result(job, summary, resumed, reuse)


def mux_segments(job: VideoJob, segments: Segments, summary: ReadSummary, working_folder: Path) -> None:
    """Joins all segments of a job, and moves the file to its target.

    Args:
        job: The job.
        segments: All its segments.
        summary: The summary of all its frames.
        working_folder: Where the file is written before it is moved; on the file system of the target.

    Raises:
        StreamError: The file cannot be written, or the source or a segment cannot be read.
    """
    mux_job = MuxJob(job.probe, job.encoding, job.copies.copied, job.settings.frames, segments.segments, summary)
    mux(mux_job, working_folder, job.target)


def video_result(job: VideoJob, summary: ReadSummary, resumed: int, reuse: ReuseStatistics | None) -> VideoResult:
    """Describes the file that a job has written.

    Args:
        job: The job, whose target is complete.
        summary: The summary of all its frames.
        resumed: How many of them an interrupted run had finished.
        reuse: Which tiles were reused.
    """
    encoding = job.encoding
    return VideoResult(
        source=job.probe.path,
        target=job.target,
        encoder=encoding.encoder,
        width=encoding.width,
        height=encoding.height,
        format=encoding.format,
        frames=summary.frames,
        resumed=resumed,
        copied=tuple(map(str, job.copies.copied)),
        reuse=reuse,
        notes=(*job.notes, *_final_notes(job, summary, reuse)),
    )


def encode_segments(
    source: VideoFileSource,
    upscaler: FrameUpscaler,
    segments: Segments,
    encoding: VideoFileEncoding,
    total: int,
    on_frame: OnFrame | None,
) -> tuple[ReadSummary, ReuseStatistics | None]:
    """Upscales and encodes the segments that are not finished.

    Args:
        source: The frames that are not finished.
        upscaler: The model.
        segments: Where the segments are kept.
        encoding: How they are encoded.
        total: The approximate number of frames, for `on_frame`; 0 if it is unknown.
        on_frame: Called after each encoded frame.

    Returns:
        The summary of the source, and what was reused.

    Raises:
        StreamError, FrameError, EngineError: As `upscale_video`.
    """
    options = LoopOptions(Policy(Dropping.BLOCK), max_consecutive_failures=1, stage_timeout_s=_FRAME_TIMEOUT_S)
    loop = Loop(source, upscaler, options)
    loop_frames = cast("Generator[VideoFrame, None, None]", loop.frames())
    frames = _report_frames(loop_frames, segments.frames, total, on_frame)
    try:
        with closing(frames):
            for number, segment_frames in groupby(frames, segments.segment_of):
                segments.write(number, segment_frames, encoding)
    except StreamError as error:
        if isinstance(error.__cause__, SrEdgeError):  # the loop wraps what fails in a frame
            raise error.__cause__ from None
        raise
    if source.summary is None:
        raise StreamError(
            f"decoding stopped before the end of {source.name}", found=source.name, remedy="run the same command again"
        )
    return source.summary, loop.report().reuse


def _report_frames(
    frames: Generator[VideoFrame, None, None], finished: int, total: int, on_frame: OnFrame | None
) -> Generator[VideoFrame, None, None]:
    """Yields the frames, and reports each one when its consumer, the encoder, asks for the next."""
    with closing(frames):
        for frame in frames:
            yield frame
            finished += 1
            if on_frame is not None:
                on_frame(finished, max(finished, total))


def encoding_fingerprint(job: VideoJob, upscaler: FrameUpscaler, segment_frames: int) -> Fingerprint:
    """What determines the encoded frames beside the source and the model, by the names under which users know it."""
    encoding, reuse = job.encoding, upscaler.reuse
    return {
        "--frames": str(job.settings.frames),
        "--deinterlace": str(job.settings.is_deinterlaced),
        "the encoder": f"{encoding.encoder} {dict(encoding.options)}",
        "the frame format": f"{encoding.width}x{encoding.height} {encoding.format} {encoding.colour}",
        "the encoder's threads": str(encoding.threads),
        "the segment length": f"{segment_frames} frames",
        "PyAV": av.__version__,
        # The frames are the same with exact reuse and without reuse.
        "--reuse": EXACT if reuse.bound_db is None else f"{reuse}, refreshed every {reuse.refresh_s:g} s",
    }


def _version_of(path: Path) -> str:
    status = path.stat()
    return f"{status.st_size} bytes of {status.st_mtime_ns}"


def _output_digest(upscaler: FrameUpscaler, frame: VideoFrame) -> str:
    """A digest of the upscaled frame, which depends on weights, precision, runtime, tile overlap and controls."""
    own = upscaler.for_stream()  # the tiles that it keeps are freed with it
    with own.lock.acquire(frame):
        upscaled = own.infer(own.prepare(frame))
    digest = hashlib.sha256()
    for plane in upscaled.planes:
        digest.update(np.ascontiguousarray(plane).tobytes())
    return digest.hexdigest()[:16]


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _planned_notes(job: VideoJob) -> Iterator[str]:
    probe, encoding = job.probe, job.encoding
    yield from job.copies.notes
    if probe.decoded_format.note:
        yield probe.decoded_format.note
    if probe.format.is_rgb:
        yield f"the RGB pixels are converted to {encoding.format}, BT.709"
    if "crf" not in encoding.options and "b" in encoding.options and "b" not in job.settings.encoder_options:
        megabits = int(encoding.options["b"]) / 1e6
        yield (
            f"{encoding.encoder} has no known quality level and encodes at {megabits:.1f} Mbit/s; --encode b=8M, for "
            "example, chooses another bit rate"
        )
    if ALPHA in probe.declared:
        yield "its alpha channel is left out"
    if probe.interlacing and not job.settings.is_deinterlaced:
        yield "it is interlaced, and combing artifacts will be upscaled with it; --deinterlace avoids them"
    if job.settings.is_deinterlaced and not probe.interlacing:
        yield "no frame is marked as interlaced; all of them are deinterlaced, with the top field first"


def _final_notes(job: VideoJob, summary: ReadSummary, reuse: ReuseStatistics | None) -> Iterator[str]:
    declared = (job.probe.declared | set(summary.declared)) - {ALPHA, INTERLACED}
    if INTERLACED in summary.declared and not job.probe.interlacing:
        yield "some of its frames are interlaced, with combing artifacts; --deinterlace avoids them"
    try:
        lost = declared - probe_video(job.target).declared if declared else declared
    except SrEdgeError as error:  # a build of FFmpeg may lack the decoder of a codec that it can encode
        yield f"whether the output declares the same as the source is unknown ({error.problem}): {listed(declared)}"
    else:
        if lost:
            yield f"no longer declared in the output: {listed(lost)}"
    if reuse is not None and reuse.obstacle:
        yield f"no tiles were reused: {reuse.obstacle} (--reuse-memory)"
    if summary.unreadable_packets:
        yield f"{_counted(summary.unreadable_packets, 'damaged frame')} left out"
    if summary.timestamp_shift_s:
        yield (
            f"timestamps that did not increase moved the last frames by {summary.timestamp_shift_s:g} s; the audio may "
            "be out of sync"
        )
