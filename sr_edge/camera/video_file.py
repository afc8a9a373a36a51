"""Whole video files: every frame through the network, its time, colour and depth kept, all else copied."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import cast

import av
import numpy as np

from sr_edge.camera.enlarger import FrameUpscaler
from sr_edge.camera.frame import PixelFormat, VideoFrame
from sr_edge.camera.loop import Loop
from sr_edge.camera.options import LoopOptions
from sr_edge.camera.policy import Dropping, Policy
from sr_edge.camera.video_file_codec import VideoFileEncoding, choose_encoding, container_of
from sr_edge.camera.video_file_facts import VideoProbe, probe_video
from sr_edge.camera.video_file_join import MuxJob, StreamCopies, choose_copies, mux
from sr_edge.camera.video_file_parts import SEGMENT_FRAMES, Plan, Segments, opened_segments, segments_folder
from sr_edge.camera.video_file_settings import VideoSettings
from sr_edge.camera.video_file_source import Ending, VideoFileSource
from sr_edge.errors import SrEdgeError, StreamError, UsageError
from sr_edge.whole_file import require_output_file

OnFrame = Callable[[int, int], None]
"""Told how many frames are done, those of an interrupted run among them, and about how many there are; 0 unknown."""

_ONE_FRAME_S = 24 * 3600.0
"""How long one frame may take: nothing is late here, and networks on small machines are slow."""


@dataclass(frozen=True)
class VideoResult:
    """What was written.

    Attributes:
        width, height, format: of its frames.
        frames: all of them; `resumed` came from an interrupted run.
        copied: the streams beside the video.
        notes: what differs from the source although nobody asked for it.
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
    notes: tuple[str, ...]


@dataclass(frozen=True)
class VideoJob:
    """One video file and what becomes of it, checked: what is left to go wrong is the file's end and the disk."""

    probe: VideoProbe
    target: Path
    settings: VideoSettings
    encoding: VideoFileEncoding
    copying: StreamCopies


def plan_video(source: Path, target: Path, scale: int, settings: VideoSettings | None = None) -> VideoJob:
    """Reads the beginning of `source` and checks that `target` can hold what it becomes, before any model is loaded.

    Raises:
        FrameError, StreamError: `source` cannot be read as a video.
        UsageError: `target` cannot be written, or cannot hold the frames or one of the copied streams.
    """
    settings = settings or VideoSettings()
    if source.resolve() == target.resolve():
        raise UsageError(f"{target} is also the input file", found=target, remedy="give the output another name")
    container = container_of(target)
    probe = probe_video(source)
    require_output_file(target)
    encoding = choose_encoding(probe, target, scale, settings.codec, settings.crf)
    return VideoJob(probe, target, settings, encoding, choose_copies(probe, target, container, settings.copied))


def upscale_video(
    job: VideoJob, upscaler: FrameUpscaler, on_frame: OnFrame | None = None, part_frames: int = SEGMENT_FRAMES
) -> VideoResult:
    """Upscales a video file; the result appears whole or not at all.

    Frames are decoded, enlarged and encoded at the same time; a few of each are in memory. What is encoded is kept
    beside the target in parts of `part_frames` frames, so that the same call goes on after a kill.

    Args:
        upscaler: the network; stays the caller's. Its answer to the first frame, which costs that frame once more,
            tells whether it is that of an interrupted run.
        on_frame: called after each encoded frame, and once more before the parts become one file.
        part_frames: what a kill costs at most, and the largest distance of two key frames.

    Raises:
        StreamError: the source is damaged or cut short, or the target cannot be written.
        FrameError: the range of frames lies behind the end.
        UsageError: the parts of an interrupted run belong to other settings, or another process works on them.
        EngineError: the runtime failed.
    """
    plan = _plan(job, upscaler, part_frames)
    with opened_segments(job.target, plan, job.settings.resume) as segments:
        resumed = len(segments.pts)
        ending = segments.ending or _encode_segments(job, upscaler, segments, part_frames, on_frame)
        job_to_mux = MuxJob(
            job.probe, job.encoding, job.copying.copied, job.settings.frames, tuple(segments.segments), ending
        )
        mux(job_to_mux, segments.folder, job.target)
        segments.remove()
    encoding, copied = job.encoding, tuple(map(str, job.copying.copied))
    return VideoResult(
        source=job.probe.path,
        target=job.target,
        encoder=encoding.encoder,
        width=encoding.width,
        height=encoding.height,
        format=encoding.format,
        frames=ending.frames,
        resumed=resumed,
        copied=copied,
        notes=tuple(_notes(job, ending)),
    )


def frames_kept(target: Path) -> int:
    """How many frames of an interrupted run are beside `target`; the same command goes on after them."""
    folder = segments_folder(target)
    return len(Segments(folder, target).pts) if folder.is_dir() else 0


def _encode_segments(
    job: VideoJob, upscaler: FrameUpscaler, segments: Segments, part_frames: int, on_frame: OnFrame | None
) -> Ending:
    wanted = job.settings.frames
    source = VideoFileSource(job.probe, wanted, segments.pts)
    loop = Loop(
        source, upscaler, LoopOptions(Policy(Dropping.BLOCK), max_consecutive_failures=1, stage_timeout_s=_ONE_FRAME_S)
    )
    frames = _counted(
        cast("Generator[VideoFrame, None, None]", loop.frames()),
        len(segments.pts),
        wanted.count_of(job.probe.frame_count),
        on_frame,
    )
    try:
        with closing(frames):
            for first in frames:
                segments.write(chain([first], islice(frames, part_frames - 1)), job.encoding, part_frames)
    except StreamError as error:
        if isinstance(error.__cause__, SrEdgeError):  # what failed in a frame: the loop wraps it
            raise error.__cause__ from None
        raise
    if source.ending is None:
        raise StreamError(
            f"decoding stopped before the end of {source.name}", found=source.name, remedy="run the same command again"
        )
    segments.finish(source.ending)
    if on_frame is not None:
        on_frame(source.ending.frames, source.ending.frames)
    return source.ending


def _counted(
    frames: Generator[VideoFrame, None, None], done: int, total: int, on_frame: OnFrame | None
) -> Generator[VideoFrame, None, None]:
    with closing(frames):
        for frame in frames:
            yield frame
            done += 1
            if on_frame is not None:
                on_frame(done, max(done, total))


def _plan(job: VideoJob, upscaler: FrameUpscaler, part_frames: int) -> Plan:
    """All that decides the frames and their bits, by the names that people know them under."""
    probe, encoding = job.probe, job.encoding
    status = probe.path.stat()
    return {
        "the video": f"{status.st_size} bytes of {status.st_mtime_ns}",
        "--frames": str(job.settings.frames),
        "the model's output": _answer(upscaler, probe.first_frame),
        "the encoder": f"{encoding.encoder} {dict(encoding.options)}",
        "the frame format": f"{encoding.width}x{encoding.height} {encoding.format} {encoding.colour}",
        "the encoder's threads": str(encoding.threads),
        "the part length": f"{part_frames} frames",
        "PyAV": av.__version__,
    }


def _answer(upscaler: FrameUpscaler, frame: VideoFrame) -> str:
    """A digest of what the model makes of a frame: of its weights, precision, runtime, overlap and controls."""
    with upscaler.lock.acquire(frame):
        large = upscaler.infer(upscaler.prepare(frame))
    digest = hashlib.sha256()
    for plane in large.planes:
        digest.update(np.ascontiguousarray(plane).tobytes())
    return digest.hexdigest()[:16]


def _notes(job: VideoJob, ending: Ending) -> Iterator[str]:
    probe = job.probe
    if job.copying.left_out:
        yield f"left out: {', '.join(map(str, job.copying.left_out))}"
    if probe.format.is_rgb:
        yield f"the RGB pixels became {job.encoding.format}, BT.709"
    if probe.has_opacity:
        yield "its opacity is left out"
    if probe.hdr and job.encoding.encoder != "libx265":
        yield "its HDR metadata is left out; --codec h265 keeps it"
    if probe.is_interlaced:
        yield "it is interlaced; deinterlace it first for frames without combs"
    if ending.unreadable_packets:
        yield f"{ending.unreadable_packets} damaged packets could not be decoded; their frames are missing"
    if ending.moved_s:
        yield f"times that did not rise moved the last frames by {ending.moved_s:g} s; sound may be out of step"
