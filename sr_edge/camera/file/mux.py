"""Muxes the encoded segments and the copied streams into one file.

Each segment is encoded independently, so its first decoding times (dts) lie before its own start and would overlap
with the previous segment. New dts are assigned over all segments: frame i in decoding order gets the pts of the frame
that is displayed `reorder_depth` positions earlier. These dts increase and are never later than the pts of their frame.
"""

from __future__ import annotations

import heapq
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av

from sr_edge.camera.file.encoding import VideoFileEncoding
from sr_edge.camera.file.probe import OtherStream, VideoProbe, open_video
from sr_edge.camera.file.reader import ReadSummary
from sr_edge.camera.file.segments import Segment
from sr_edge.camera.file.settings import FrameRange, StreamSelection
from sr_edge.camera.media.ffmpeg_errors import stream_errors
from sr_edge.errors import UsageError
from sr_edge.whole_file import whole_file

_SUGGESTED_CONTAINERS = {".mkv": "matroska", ".mp4": "mp4", ".mov": "mov"}
_MAX_TIMESCALE = 2**31 - 1
_EMPTY_SUBTITLE = b"\0\0"
_TIMED_KINDS = ("audio", "subtitle")
_REWRITTEN_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder", "duration")
_STATISTICS_TAG_PREFIXES = ("bps", "number_of_", "_statistics_")
"""Tags of Matroska with the numbers of bytes and frames of the old stream."""


@dataclass(frozen=True)
class StreamCopies:
    """The streams that are copied to the new file, and those that are left out."""

    copied: tuple[OtherStream, ...]
    left_out: tuple[OtherStream, ...]


def choose_copies(probe: VideoProbe, target: Path, container: str, selection: StreamSelection) -> StreamCopies:
    """Chooses the streams to copy.

    Args:
        probe: The source video.
        target: The file to write.
        container: FFmpeg's name of its container format.
        selection: Which kinds of streams the user wants.

    Raises:
        UsageError: The container cannot store one of them.
    """
    copied = tuple(
        stream
        for stream in probe.other_streams
        if selection.includes(stream.kind) and _may_contain_kind(container, stream)
    )
    with open_video(probe.path) as (source, _):
        for stream in copied:
            if not _can_contain(container, source.streams[stream.index]):
                raise _cannot_store(target, probe, stream, _suffix_for(source, copied))
    return StreamCopies(copied, tuple(stream for stream in probe.other_streams if stream not in copied))


def _may_contain_kind(container: str, stream: OtherStream) -> bool:
    return stream.kind != "attachment" or container == "matroska"


def _cannot_store(target: Path, probe: VideoProbe, refused: OtherStream, suffix: str | None) -> UsageError:
    omit = f"omit the stream with {'--copy audio' if refused.kind == 'subtitle' else '--copy none'}"
    return UsageError(
        f"{target.suffix} files cannot store {refused} of {probe.path}",
        found=refused.codec or refused.kind,
        wanted=suffix,
        remedy=omit if suffix is None else f"write a {suffix} file, or {omit}",
    )


def _suffix_for(source: Any, copied: Sequence[OtherStream]) -> str | None:
    """The suffix of a container that can store all of the streams."""
    for suffix, container in _SUGGESTED_CONTAINERS.items():
        streams = [stream for stream in copied if _may_contain_kind(container, stream)]
        if all(_can_contain(container, source.streams[stream.index]) for stream in streams):
            return suffix
    return None


def _can_contain(container: str, template: Any) -> bool:
    """Writes a header to find out: it may be refused although FFmpeg's table of codecs allows the stream."""
    trial = av.open(io.BytesIO(), "w", format=container)
    try:
        with trial:
            trial.add_stream_from_template(template)
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


@dataclass(frozen=True)
class MuxJob:
    """What is muxed: all frames of `frame_range`, encoded in `segments`, and the copied streams of the source."""

    probe: VideoProbe
    encoding: VideoFileEncoding
    copied: tuple[OtherStream, ...]
    frame_range: FrameRange
    segments: tuple[Segment, ...]
    summary: ReadSummary


def mux(job: MuxJob, folder: Path, target: Path) -> None:
    """Writes the file in the folder of its segments, and then moves it to `target`.

    Raises:
        StreamError: The file cannot be written.
    """
    muxed = folder / f"muxed{target.suffix}"
    with stream_errors(str(target)):
        with whole_file(muxed) as unfinished, open_video(job.probe.path) as source:
            options = _options(job.encoding, [source[0].streams[stream.index] for stream in job.copied])
            with av.open(f"file:{unfinished}", "w", format=job.encoding.container, options=options) as out:
                _write(out, source, job, _time_range(job))
        muxed.replace(target)


@dataclass(frozen=True)
class _TimeRange:
    """The time range of the copied streams that belongs to the frames, and the shift of all timestamps."""

    start_s: Fraction
    end_s: Fraction
    shift_s: Fraction
    is_all: bool


def _time_range(job: MuxJob) -> _TimeRange:
    """The range is shifted to the start of the source: its frames keep their distances, and the audio stays in sync."""
    first, end = job.segments[0].pts[0], job.segments[-1].pts[-1] + job.summary.last_duration
    time_base = job.probe.time_base
    shift = job.summary.first_pts - first
    return _TimeRange(first * time_base, end * time_base, shift * time_base, job.frame_range.is_all)


def _options(encoding: VideoFileEncoding, copied: Sequence[Any]) -> dict[str, str]:
    """Options of the muxer: reproducible bits, no timestamp shifted, and in MP4 a timescale that fits all streams."""
    options = {"fflags": "+bitexact", "avoid_negative_ts": "disabled"}
    if encoding.container in ("mp4", "mov"):
        video = encoding.time_base.denominator
        common = math.lcm(video, *(stream.time_base.denominator for stream in copied if stream.time_base))
        movie = common if common <= _MAX_TIMESCALE else video
        options |= {"video_track_timescale": str(video), "movie_timescale": str(movie)}
    return options


def _write(out: Any, opened: tuple[Any, Any], job: MuxJob, time_range: _TimeRange) -> None:
    source, video = opened
    targets = {}
    for index in sorted([video.index, *(stream.index for stream in job.copied)]):
        template = source.streams[index]
        targets[index] = _add_encoded(out, job, video) if template is video else _add_copied(out, template)
    out.metadata.update(_kept_metadata(source.metadata))
    if time_range.is_all:
        out.set_chapters(source.chapters())
    video_packets = _video_packets(job, targets.pop(video.index), time_range)
    copied_packets = _copied_packets(source, targets, job.probe, time_range)
    for packet in heapq.merge(video_packets, copied_packets, key=_decoding_time_s):
        out.mux(packet)


def _add_encoded(out: Any, job: MuxJob, source_video: Any) -> Any:
    with av.open(f"file:{job.segments[0].file}") as first:
        stream = out.add_stream_from_template(first.streams.video[0], opaque=True)
    stream.time_base = job.encoding.time_base
    if job.encoding.codec_tag is not None:
        stream.codec_context.codec_tag = job.encoding.codec_tag
    _copy_description(source_video, stream)
    return stream


def _add_copied(out: Any, template: Any) -> Any:
    stream = out.add_stream_from_template(template)
    if template.time_base:
        stream.time_base = template.time_base
    _copy_description(template, stream)
    return stream


def _copy_description(source: Any, target: Any) -> None:
    target.metadata.update(_kept_metadata(source.metadata))
    target.disposition = source.disposition


def _kept_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """The tags that are still true of the new file."""
    names = {name: name.lower() for name in metadata}
    return {
        name: metadata[name]
        for name, lower in names.items()
        if lower not in _REWRITTEN_TAGS and not lower.startswith(_STATISTICS_TAG_PREFIXES)
    }


def _decoding_time_s(packet: Any) -> float:
    timestamp = packet.pts if packet.dts is None else packet.dts
    return float(timestamp * packet.time_base)


def _video_packets(job: MuxJob, stream: Any, time_range: _TimeRange) -> Iterator[Any]:
    time_base = job.encoding.time_base
    shift, end = round(time_range.shift_s / time_base), round(time_range.end_s / time_base)
    dts = _decoding_times(job.segments, shift)
    next_starts = [*(segment.pts[0] for segment in job.segments[1:]), end]
    for segment, next_start in zip(job.segments, next_starts, strict=True):
        ends = dict(zip(segment.pts, (*segment.pts[1:], next_start), strict=True))
        with av.open(f"file:{segment.file}") as container:
            for packet in container.demux(video=0):
                if packet.size == 0:
                    continue
                # The time base of an MP4 segment is 1/N. A source with another one, such as 1001/30000, was stored
                # in finer units.
                pts = round((packet.pts or 0) * packet.time_base / time_base) + segment.pts[0]
                packet.pts, packet.dts, packet.duration = pts + shift, next(dts), ends[pts] - pts
                packet.time_base, packet.stream = time_base, stream
                yield packet


def _decoding_times(segments: Sequence[Segment], shift: int) -> Iterator[int]:
    """The dts of all packets, as the docstring of the module describes them."""
    reorder_depth = max(segment.reorder_depth for segment in segments)
    pts = segments[0].pts
    step = pts[1] - pts[0] if len(pts) > 1 else 1
    before_first = (pts[0] - index * step for index in range(reorder_depth, 0, -1))
    return (time + shift for time in chain(before_first, _all_pts(segments)))


def _all_pts(segments: Iterable[Segment]) -> Iterator[int]:
    return chain.from_iterable(segment.pts for segment in segments)


def _copied_packets(
    source: Any, targets: Mapping[int, Any], probe: VideoProbe, time_range: _TimeRange
) -> Iterator[Any]:
    streams = [source.streams[index] for index in targets if source.streams[index].type in _TIMED_KINDS]
    for packet in source.demux(*streams) if streams else ():
        if packet.size == 0 or (packet.pts is None and packet.dts is None) or _is_empty_subtitle(packet):
            continue
        _shift(packet, -probe.start_offset_s)
        if not time_range.is_all:
            _trim_start(packet, time_range)
        if time_range.is_all or _starts_within(packet, time_range):
            _shift(packet, time_range.shift_s)
            packet.stream = targets[packet.stream.index]
            yield packet


def _is_empty_subtitle(packet: Any) -> bool:
    """MP4 fills the time between two subtitles with empty ones; its muxer adds them again."""
    return packet.stream.type == "subtitle" and bytes(packet) == _EMPTY_SUBTITLE


def _trim_start(packet: Any, time_range: _TimeRange) -> None:
    """Lets a subtitle that is displayed when the range begins start with the range."""
    if packet.stream.type == "subtitle" and packet.pts is not None and packet.duration:
        missed = math.ceil(time_range.start_s / packet.time_base) - packet.pts
        if 0 < missed < packet.duration:
            packet.pts, packet.dts = packet.pts + missed, packet.pts + missed
            packet.duration -= missed


def _starts_within(packet: Any, time_range: _TimeRange) -> bool:
    time_s = (packet.dts if packet.pts is None else packet.pts) * packet.time_base
    return bool(time_range.start_s <= time_s < time_range.end_s)


def _shift(packet: Any, offset_s: Fraction) -> None:
    offset = round(offset_s / packet.time_base)
    if offset and packet.pts is not None:
        packet.pts += offset
    if offset and packet.dts is not None:
        packet.dts += offset
