"""The tasks of videos: divide one, upscale a part or the whole, join the parts; see `worker`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

from sr_edge.bundle import sha256_of
from sr_edge.camera.file.encoding import VideoFileEncoding
from sr_edge.camera.file.frame_index import FrameIndex, index_frames
from sr_edge.camera.file.job import VideoJob, plan_video, upscale_video
from sr_edge.camera.file.parts import join_parts, split_range, upscale_video_part
from sr_edge.camera.file.probe import probe_video
from sr_edge.camera.file.segments import SEGMENT_FRAMES
from sr_edge.camera.file.settings import FrameRange
from sr_edge.camera.pipeline.frame_upscaler import NetworkFrameUpscaler
from sr_edge.cluster.items import VideoPart
from sr_edge.cluster.storage.folders import list_files, remove_folder
from sr_edge.cluster.storage.listing import SourceFile
from sr_edge.cluster.storage.locations import Location, exists, read_bytes, write_bytes
from sr_edge.cluster.storage.transfer import fetch, output, publish
from sr_edge.cluster.work import (
    FileResult,
    FilesDone,
    JobPlan,
    JoinWork,
    OnFrames,
    PartDone,
    PartsLost,
    PartWork,
    VideoDivided,
    VideoWork,
    error_text,
    size_of,
)
from sr_edge.errors import InexactSeek, NotSeekable, PartsMissing, StreamError
from sr_edge.files.unfinished import temporary_folder
from sr_edge.runtimes.session import Session

_INDEX = "index.json"


def divide_or_upscale(
    plan: JobPlan, session: Session, work: VideoWork, on_frames: OnFrames
) -> FilesDone | VideoDivided:
    """Divides a video into parts for several machines; one that is short or cannot be divided is upscaled here."""
    file, started, sha256 = work.item.file, time.perf_counter(), ""
    try:
        source = _fetched(file)
        sha256 = sha256_of(source)
        if work.finished_sha256.get(file.name) == sha256:
            size = size_of(plan.target.join(file.name))
            return FilesDone((FileResult(file, is_kept=True, source_sha256=sha256, target_bytes=size),))
        reason = work.whole_reason
        if not reason:
            try:
                index = index_frames(probe_video(source), is_deinterlaced=plan.video.is_deinterlaced)
            except NotSeekable as error:
                reason = str(error.found)
            else:
                ranges = split_range(index)
                if len(ranges) > 1:
                    return _divided(plan, file, source, sha256, index, ranges)
        result = _upscale_whole(plan, session, file, source, reason, on_frames)
    except Exception as error:
        result = FileResult(file, error_text(error))
    result = replace(result, source_sha256=sha256, seconds=time.perf_counter() - started)
    return FilesDone((result,), str(session.spec.ran))


def _divided(
    plan: JobPlan,
    file: SourceFile,
    source: Path,
    sha256: str,
    index: FrameIndex,
    ranges: tuple[FrameRange, ...],
) -> VideoDivided:
    staging = plan.staging(file, sha256)
    if not plan.video.resume:
        remove_folder(staging)
    write_bytes(staging.join(_INDEX), index.to_json().encode())
    with _path_beside(plan.target.join(file.name)) as path:
        encoding = plan_video(source, path, plan.model.scale, plan.video).encoding
    parts = (
        VideoPart(file, number, each.first, each.end or len(index.pts), staging) for number, each in enumerate(ranges)
    )
    return VideoDivided(file, tuple(parts), encoding, sha256)


def _upscale_whole(
    plan: JobPlan, session: Session, file: SourceFile, source: Path, reason: str, on_frames: OnFrames
) -> FileResult:
    target = plan.target.join(file.name)
    with output(target) as path:
        job = plan_video(source, path, plan.model.scale, plan.video)
        result = upscale_video(job, _upscaler(plan, session), lambda done, _: on_frames(done))
    notes = (f"upscaled in one piece: {reason}", *result.notes) if reason else result.notes
    return FileResult(file, target_bytes=size_of(target), frames=result.frames, notes=notes)


def upscale_part(plan: JobPlan, session: Session, work: PartWork, on_frames: OnFrames) -> PartDone:
    """Upscales a part of a video, and keeps its segments in the staging folder."""
    part, started = work.item, time.perf_counter()
    frames = FrameRange(part.first, part.end)
    try:
        index = _read_index(part)
        with _job(plan, part.file, work.encoding) as job, _part_folder(part) as folder:
            upscaler = _upscaler(plan, session)
            summary = upscale_video_part(job, upscaler, index, frames, folder, lambda done, _: on_frames(done))
    except Exception as error:
        is_inexact, seconds = isinstance(error, InexactSeek), time.perf_counter() - started
        return PartDone(part, None, seconds, error=error_text(error), is_inexact=is_inexact)
    return PartDone(part, summary, time.perf_counter() - started, str(session.spec.ran))


def _read_index(part: VideoPart) -> FrameIndex:
    """Reads the index of a video, which the division has written. Raises StreamError if it is missing or damaged."""
    content = read_bytes(part.staging.join(_INDEX))
    if content is None:
        raise StreamError(
            f"the index of {part.file.name} is missing",
            found=None,
            wanted=_INDEX,
            remedy="run the same command again",
        )
    return FrameIndex.from_json(content.decode())


def join(plan: JobPlan, work: JoinWork) -> FilesDone | PartsLost:
    """Joins the parts of a video, and removes them."""
    file, staging, started = work.item.file, work.item.staging, time.perf_counter()
    target = plan.target.join(file.name)
    try:
        source = _fetched(file)
        with _all_segments(staging) as folder, output(target) as path:
            job = replace(plan_video(source, path, plan.model.scale, plan.video), encoding=work.encoding)
            result = join_parts(job, folder, work.summaries)
        remove_folder(staging)
    except PartsMissing as error:
        return PartsLost(file, cast(tuple[FrameRange, ...], error.found))
    except Exception as error:
        return FilesDone((FileResult(file, error_text(error), source_sha256=work.source_sha256),))
    seconds = time.perf_counter() - started
    done = FileResult(
        file,
        source_sha256=work.source_sha256,
        target_bytes=size_of(target),
        frames=result.frames,
        seconds=seconds,
        notes=result.notes,
    )
    return FilesDone((done,))


def _upscaler(plan: JobPlan, session: Session) -> NetworkFrameUpscaler:
    model = plan.model
    return NetworkFrameUpscaler(session, session.spec.slots + 1, model.overlap_px, model.controls, plan.reuse)


@contextmanager
def _job(plan: JobPlan, file: SourceFile, encoding: VideoFileEncoding) -> Iterator[VideoJob]:
    """The job of a whole video, for a part of it."""
    source = _fetched(file)
    with _path_beside(plan.target.join(file.name)) as path:
        yield replace(plan_video(source, path, plan.model.scale, plan.video), encoding=encoding)


@contextmanager
def _path_beside(target: Location) -> Iterator[Path]:
    """The path of a local target, whose folder is created; a temporary one with the same name for an object."""
    if target.is_local:
        target.path.parent.mkdir(parents=True, exist_ok=True)
        yield target.path
        return
    with temporary_folder("target") as folder:
        yield folder / target.name


@contextmanager
def _part_folder(part: VideoPart) -> Iterator[Path]:
    """The staging folder; for an object store a temporary folder with what it has of a part, which is then uploaded."""
    if part.staging.is_local:
        yield part.staging.path
        return
    with temporary_folder("part") as folder:
        record = f"part-{part.first:06}-{part.end:06}.json"
        if exists(part.staging.join(record)):  # it is uploaded last
            numbers = range(part.first // SEGMENT_FRAMES, -(-part.end // SEGMENT_FRAMES))
            names = [f"{number:06}{suffix}" for number in numbers for suffix in (".mp4", ".json")]
            _download(part.staging, (*names, "plan.json", record), folder)
        known = {path.name for path in folder.iterdir()}
        yield folder
        new = (path for path in folder.iterdir() if path.is_file() and path.name not in known)
        for path in sorted(new, key=lambda path: path.name == record):
            publish(path, part.staging.join(path.name))


@contextmanager
def _all_segments(staging: Location) -> Iterator[Path]:
    if staging.is_local:
        yield staging.path
        return
    with temporary_folder("parts") as folder:
        _download(staging, [name for name, _ in list_files(staging)], folder)
        yield folder


def _download(staging: Location, names: Sequence[str], folder: Path) -> None:
    for name in names:
        content = read_bytes(staging.join(name))
        if content is not None:
            (folder / name).write_bytes(content)


_source: tuple[SourceFile, Path, ExitStack] | None = None


def _fetched(file: SourceFile) -> Path:
    """A path of the source on this machine; the download of a video is kept until another one is needed."""
    global _source
    if _source is not None and _source[0] == file and _source[1].exists():
        return _source[1]
    if _source is not None:
        _source[2].close()
        _source = None
    with ExitStack() as stack:
        path = stack.enter_context(fetch(file.source))
        _source = (file, path, stack.pop_all())
    return path
