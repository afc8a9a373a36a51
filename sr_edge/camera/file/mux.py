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
from sr_edge.camera.file.probe import VideoProbe, open_video
from sr_edge.camera.file.reader import ReadSummary
from sr_edge.camera.file.segments import Segment
from sr_edge.camera.file.settings import FrameRange, StreamSelection
from sr_edge.camera.media.declared import ALPHA_TAG, STEREO_TAG, TIMECODE_TAG
from sr_edge.camera.media.decoding import packets_of
from sr_edge.camera.media.ffmpeg_errors import stream_errors
from sr_edge.camera.media.passthrough import OtherStream, is_cover
from sr_edge.files.whole_file import sync_to_disk, whole_file

_SUGGESTED_CONTAINERS = {".mkv": "matroska", ".mp4": "mp4", ".mov": "mov"}
_MAX_TIMESCALE = 2**31 - 1
_EMPTY_SUBTITLE = b"\0\0"
_COPIED_KINDS = ("video", "audio", "subtitle")
_WRITTEN_BY_MUXER = "timecode"
_REWRITTEN_TAGS = ("major_brand", "minor_version", "compatible_brands", "encoder", "duration")
_STATISTICS_TAG_PREFIXES = ("bps", "number_of_", "_statistics_")
"""Tags of Matroska with the numbers of bytes and frames of the old stream."""


@dataclass(frozen=True)
class StreamCopies:
    """The streams that are copied to the new file, and those that are left out.

    Attributes:
        copied: The streams that are copied.
        left_out: All other streams but the video.
        suffix: A container that could store those that were left out although the user wants them; None if there is
            none, or if nothing was.
    """

    copied: tuple[OtherStream, ...]
    left_out: tuple[OtherStream, ...]
    suffix: str | None

    @property
    def notes(self) -> tuple[str, ...]:
        """What is left out, for the user."""
        if not self.left_out:
            return ()
        alternative = f" (a {self.suffix} file can store what this one cannot)" if self.suffix else ""
        return (f"left out: {', '.join(map(str, self.left_out))}{alternative}",)


def choose_copies(probe: VideoProbe, container: str, selection: StreamSelection) -> StreamCopies:
    """Chooses the streams to copy: those that the user wants and the container can store.

    Args:
        probe: The source video.
        container: FFmpeg's name of the container format of the new file.
        selection: Which kinds of streams the user wants.
    """
    with open_video(probe.path) as (source, _):
        wanted = [stream for stream in probe.other_streams if selection.includes(stream.kind)]
        copied = tuple(stream for stream in wanted if _can_contain(container, source.streams[stream.index]))
        suffix = _suffix_for(source, wanted, copied)
    left_out = (stream for stream in probe.other_streams if stream not in copied and stream.kind != _WRITTEN_BY_MUXER)
    return StreamCopies(copied, tuple(left_out), suffix)


def _suffix_for(source: Any, wanted: Sequence[OtherStream], copied: Sequence[OtherStream]) -> str | None:
    """The suffix of the container that can store the most of the wanted streams; None if that is no more than now."""
    storable = {
        suffix: sum(_can_contain(container, source.streams[stream.index]) for stream in wanted)
        for suffix, container in _SUGGESTED_CONTAINERS.items()
    }
    best = max(storable, key=lambda suffix: storable[suffix])
    return best if storable[best] > len(copied) else None


def _can_contain(container: str, template: Any) -> bool:
    """Writes a header to find out: it may be refused although FFmpeg's table of codecs allows the stream."""
    if template.type == "attachment":
        return container == "matroska"
    if template.type == "video" and container != "mp4":  # elsewhere a cover picture would become a second video
        return False
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
        StreamError: The file cannot be written, or the source or a segment cannot be read; the message names which.
    """
    muxed = folder / f"muxed{target.suffix}"
    with stream_errors(str(target)):
        with whole_file(muxed) as unfinished, open_video(job.probe.path) as source:
            options = _options(job.encoding, [source[0].streams[stream.index] for stream in job.copied])
            with av.open(f"file:{unfinished}", "w", format=job.encoding.container, options=options) as out:
                _write(out, source, job, _time_range(job))
        muxed.replace(target)
        sync_to_disk(target.parent)


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
        is_video = template is video
        targets[index] = _add_encoded(out, job) if is_video else _add_copied(out, template)
        _copy_description(template, targets[index], time_range)
    out.metadata.update(_kept_metadata(source.metadata, time_range))
    out.set_chapters(list(_chapters(source, time_range)))
    video_packets = _video_packets(job, targets.pop(video.index), time_range)
    copied_packets = _copied_packets(source, targets, job.probe, time_range)
    for packet in heapq.merge(video_packets, copied_packets, key=_decoding_time_s):
        out.mux(packet)


def _add_encoded(out: Any, job: MuxJob) -> Any:
    first_file = job.segments[0].file
    with stream_errors(str(first_file)), av.open(f"file:{first_file}") as first:
        stream = out.add_stream_from_template(first.streams.video[0], opaque=True)
    stream.time_base = job.encoding.time_base
    if job.encoding.codec_tag is not None:
        stream.codec_context.codec_tag = job.encoding.codec_tag
    # FFmpeg's muxer of MP4 refuses a tag with a timecode in a stream that has no frame rate.
    stream.codec_context.framerate = job.encoding.frame_rate
    if job.probe.stereo is not None:
        stream.metadata[STEREO_TAG] = job.probe.stereo
    return stream


def _add_copied(out: Any, template: Any) -> Any:
    stream = out.add_stream_from_template(template)
    if template.time_base:
        stream.time_base = template.time_base
    return stream


def _copy_description(source: Any, target: Any, time_range: _TimeRange) -> None:
    target.metadata.update(_kept_metadata(source.metadata, time_range))
    target.disposition = source.disposition


def _kept_metadata(metadata: Mapping[str, str], time_range: _TimeRange) -> dict[str, str]:
    """The tags that are still true of the new file: it has no alpha channel, and an excerpt has other timecodes.

    Whether the arrangement of two views is kept decides the probe.
    """
    untrue = (*_REWRITTEN_TAGS, ALPHA_TAG, STEREO_TAG, *(() if time_range.is_all else (TIMECODE_TAG,)))
    names = {name: name.lower() for name in metadata}
    return {
        name: metadata[name]
        for name, lower in names.items()
        if lower not in untrue and not lower.startswith(_STATISTICS_TAG_PREFIXES)
    }


def _chapters(source: Any, time_range: _TimeRange) -> Iterator[Any]:
    """The chapters of the source, those of an excerpt cut to its time range."""
    for chapter in source.chapters():
        if time_range.is_all:
            yield chapter
            continue
        time_base = chapter["time_base"]
        start, end = (round(time_s / time_base) for time_s in (time_range.start_s, time_range.end_s))
        shift = round(time_range.shift_s / time_base)
        first, last = max(chapter["start"], start), min(chapter["end"], end)
        if first < last:
            yield {**chapter, "start": first + shift, "end": last + shift}


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
        with stream_errors(str(segment.file)), av.open(f"file:{segment.file}") as container:
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
    streams = [source.streams[index] for index in targets if source.streams[index].type in _COPIED_KINDS]
    packets = packets_of(source, *streams) if streams else iter(())
    while True:
        with stream_errors(str(probe.path)):
            packet = next(packets, None)
        if packet is None:
            return
        if packet.size and is_cover(packet.stream):
            packet.pts = packet.dts = 0  # whatever the range
            packet.stream = targets[packet.stream.index]
            yield packet
            continue
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
