"""Upscales a video file in parts, on one machine or on many, and joins them to the file that one run would write.

A part consists of whole segments of the job, which are encoded independently of each other. Therefore a part has the
segments that a run over the whole video would have, whichever machine computes it. Frames are counted from the start of
the job's range.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sr_edge.camera.file.frame_index import FrameIndex
from sr_edge.camera.file.job import (
    OnFrame,
    VideoJob,
    VideoResult,
    encode_segments,
    encoding_fingerprint,
    mux_segments,
    video_result,
)
from sr_edge.camera.file.part_reader import PartSource
from sr_edge.camera.file.reader import ReadSummary
from sr_edge.camera.file.segments import SEGMENT_FRAMES, Segments, open_part, read_json, write_json
from sr_edge.camera.file.settings import ALL_FRAMES, FrameRange
from sr_edge.camera.flow.events import ignore_event
from sr_edge.camera.media.ffmpeg_errors import stream_errors
from sr_edge.camera.pipeline.frame_upscaler import FrameUpscaler
from sr_edge.errors import FrameError, PartsMissing, UsageError
from sr_edge.files.unfinished import unfinished_folder
from sr_edge.upscaler.reuse import ReuseStatistics

PART_FRAMES = 10 * SEGMENT_FRAMES
"""Frames of a part. Before its first frame a machine may have to decode as many as there are between key frames."""


@dataclass(frozen=True)
class PartSummary:
    """A finished part.

    Attributes:
        part: Its frames, counted from the start of the job's range.
        read: The summary of its frames.
        resumed: How many of them had been finished before.
        reuse: Tiles that were needed and reused; None if none were needed, or reuse is off.
    """

    part: FrameRange
    read: ReadSummary
    resumed: int
    reuse: ReuseStatistics | None


def frames_in(index: FrameIndex, frame_range: FrameRange = ALL_FRAMES) -> int:
    """The number of frames that a range selects from a video.

    Raises:
        FrameError: The range begins after the end of the video.
    """
    count = len(index.pts)
    if frame_range.first >= count:
        raise FrameError(
            f"the video has {count} frames, and the range {frame_range} contains none of them",
            found=str(frame_range),
            wanted=range(count),
            remedy="give an earlier range",
        )
    return frame_range.count_in(count)


def split_range(
    index: FrameIndex,
    frame_range: FrameRange = ALL_FRAMES,
    part_frames: int = PART_FRAMES,
    segment_frames: int = SEGMENT_FRAMES,
) -> tuple[FrameRange, ...]:
    """Divides the frames of a job into parts of `part_frames`; a shorter remainder belongs to the last part.

    Args:
        index: The index of the video.
        frame_range: The frames of the job.
        part_frames: Frames of a part, a multiple of `segment_frames`.
        segment_frames: Frames per segment.

    Returns:
        The parts in order, counted from the start of `frame_range`.

    Raises:
        UsageError: A part would not consist of whole segments.
        FrameError: The range begins after the end of the video.
    """
    if part_frames < 1 or part_frames % segment_frames:
        raise UsageError(
            f"a part of {part_frames} frames does not consist of segments of {segment_frames} frames",
            found=part_frames,
            wanted=f"a multiple of {segment_frames}",
            remedy=f"give a multiple of {segment_frames}",
        )
    frames = frames_in(index, frame_range)
    starts = range(0, max(1, frames // part_frames) * part_frames, part_frames)
    return tuple(FrameRange(start, end) for start, end in zip(starts, (*starts[1:], frames), strict=True))


def upscale_video_part(
    job: VideoJob,
    upscaler: FrameUpscaler,
    index: FrameIndex,
    part: FrameRange,
    folder: Path,
    on_frame: OnFrame | None = None,
    segment_frames: int = SEGMENT_FRAMES,
    on_event: Callable[[str], None] = ignore_event,
) -> PartSummary:
    """Upscales a part of a video, and keeps its encoded segments in a folder.

    Segments that are intact in the folder are not computed again. The caller uses one folder for one source and one
    model: what else determines the frames is checked. `VideoSettings.resume` is ignored.

    Args:
        job: The checked plan of the whole video.
        upscaler: The model; the caller closes it.
        index: The index of the video.
        part: The frames, counted from the start of the job's range; it begins with a segment, and ends with one or at
            the end of the job.
        folder: The folder of the segments of all parts; created if needed. Other processes may write other parts there.
        on_frame: Called after each encoded frame with the numbers of finished frames and of all frames of the part.
        segment_frames: Frames per segment.
        on_event: Called with what an interrupted run left and cannot be used.

    Raises:
        InexactSeek: The frames are not those of the index, or one of them is damaged: the video must be upscaled whole.
        UsageError: The part does not consist of whole segments, the segments in the folder have other settings, or
            tiles are reused with a bound, so that frames would depend on where a part begins.
        StreamError: The source cannot be read, or a segment cannot be written.
        EngineError: Inference failed.
    """
    numbers = _require_part(job, upscaler, index, part, segment_frames)
    fingerprint = {
        **encoding_fingerprint(job, upscaler, segment_frames),
        "the video": f"{index.source_bytes} bytes",
    }
    segment_numbers = range(numbers.start // segment_frames, -(-numbers.stop // segment_frames))
    segments = open_part(folder, job.target, fingerprint, segment_frames, segment_numbers, on_event)
    resumed, record = segments.frames, folder / f"part-{numbers.start:06}-{numbers.stop:06}.json"
    if resumed == len(numbers) and (finished := _finished_summary(record)) is not None:
        return PartSummary(part, finished, resumed, None)
    source = PartSource(job.probe, job.settings.frames, index, numbers, segments.pts_of)
    summary, reuse = encode_segments(source, upscaler, segments, job.encoding, len(numbers), on_frame)
    with stream_errors(str(job.target)):
        write_json(record, asdict(summary))
    return PartSummary(part, summary, resumed, reuse)


def _require_part(
    job: VideoJob, upscaler: FrameUpscaler, index: FrameIndex, part: FrameRange, segment_frames: int
) -> range:
    """The numbers of the frames of a part that can be computed alone."""
    if upscaler.reuse.bound_db is not None:
        raise UsageError(
            "with a bound for reused tiles the frames would depend on where a part of the video begins",
            found=f"--reuse {upscaler.reuse}",
            wanted=("off", "exact"),
            remedy="choose --reuse off or exact",
        )
    if job.settings.is_deinterlaced:
        raise UsageError(
            f"{job.probe.path} is deinterlaced, which needs the frames before a part",
            found="--deinterlace",
            wanted="frames that are not deinterlaced",
            remedy="upscale the video in one piece",
        )
    frames = frames_in(index, job.settings.frames)
    end = frames if part.end is None else part.end
    if part.first % segment_frames or part.first >= end or end > frames or (end % segment_frames and end != frames):
        raise UsageError(
            f"the part {part} of {frames} frames does not consist of segments of {segment_frames} frames",
            found=str(part),
            wanted=f"multiples of {segment_frames} up to {frames}",
            remedy="choose the parts by split_range",
        )
    return range(part.first, end)


def _finished_summary(record: Path) -> ReadSummary | None:
    return ReadSummary.parse(read_json(record))


def join_parts(
    job: VideoJob,
    folder: Path,
    summaries: Sequence[PartSummary],
    segment_frames: int = SEGMENT_FRAMES,
    on_event: Callable[[str], None] = ignore_event,
) -> VideoResult:
    """Joins the parts of a video. The target is moved into place atomically when it is complete; `folder` is kept.

    Args:
        job: The checked plan of the whole video.
        folder: The folder of the segments of all parts.
        summaries: The results of all parts, in any order.
        segment_frames: Frames per segment.
        on_event: Called with each segment that is damaged.

    Raises:
        UsageError: The parts do not follow each other from the first frame on.
        PartsMissing: Segments are missing or damaged; `found` has the parts to upscale again.
        StreamError: The target cannot be written, or the source or a segment cannot be read.
    """
    ordered = sorted(summaries, key=lambda summary: summary.part.first)
    summary = _joined_summary(job, ordered)
    numbers = range(-(-summary.frames // segment_frames))
    segments = Segments(folder, job.target, segment_frames, on_event, numbers)
    _require_all_frames(job, segments, ordered)
    with stream_errors(str(job.target)), unfinished_folder(job.target) as working_folder:
        mux_segments(job, segments, summary, working_folder)
    return video_result(job, summary, sum(part.resumed for part in ordered), _joined_reuse(ordered))


def _joined_summary(job: VideoJob, ordered: Sequence[PartSummary]) -> ReadSummary:
    """The summary that a run over the whole range would have."""
    frames = 0
    for summary in ordered:
        if summary.part.first != frames:
            break
        frames += summary.read.frames
    if not ordered or frames != sum(summary.read.frames for summary in ordered):
        raise UsageError(
            f"the parts of {job.probe.path} do not follow each other from frame 0 on",
            found=tuple(str(summary.part) for summary in ordered),
            wanted=f"a part that begins with frame {frames}",
            remedy="give the summaries of all parts, each once",
        )
    return ReadSummary(
        frames=frames,
        first_pts=ordered[0].read.first_pts,
        last_duration=ordered[-1].read.last_duration,
        unreadable_packets=sum(summary.read.unreadable_packets for summary in ordered),
        timestamp_shift_s=0.0,
        declared=tuple(sorted({name for summary in ordered for name in summary.read.declared})),
    )


def _require_all_frames(job: VideoJob, segments: Segments, ordered: Sequence[PartSummary]) -> None:
    missing = tuple(
        summary.part
        for summary in ordered
        if None in map(segments.pts_of, range(summary.part.first, summary.part.first + summary.read.frames))
    )
    if missing:
        raise PartsMissing(
            f"parts of {job.target} are missing or damaged: {', '.join(map(str, missing))}",
            found=missing,
            wanted="all segments of all parts",
            remedy="upscale these parts again",
        )


def _joined_reuse(ordered: Sequence[PartSummary]) -> ReuseStatistics | None:
    """The sums of the tiles; memory is that of the part that needed the most."""
    reuses = [summary.reuse for summary in ordered if summary.reuse is not None]
    if not reuses:
        return None
    return ReuseStatistics(
        tiles=sum(reuse.tiles for reuse in reuses),
        reused=sum(reuse.reused for reuse in reuses),
        changed=sum(reuse.changed for reuse in reuses),
        memory_bytes=max(reuse.memory_bytes for reuse in reuses),
        most_bytes=max(reuse.most_bytes for reuse in reuses),
        needed_bytes=max(reuse.needed_bytes for reuse in reuses),
    )
