"""The finished parts and the streams that are copied, as one file.

Parts are encoded by themselves, so each of them dates the decoding of its first frames before its own start. Over all
of them frame i in the order of decoding gets the time at which the frame shown `reordered` places earlier is shown:
rising, and never after its own.
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

from sr_edge.camera.vendor_errors import stream_errors
from sr_edge.camera.video_file_codec import VideoFileEncoding
from sr_edge.camera.video_file_facts import OtherStream, VideoProbe, opened_video
from sr_edge.camera.video_file_parts import Segment
from sr_edge.camera.video_file_settings import Copied, FrameRange
from sr_edge.camera.video_file_source import Ending
from sr_edge.errors import UsageError
from sr_edge.whole_file import whole_file

_SUGGESTED = {".mkv": "matroska", ".mp4": "mp4", ".mov": "mov"}
_LARGEST_TIMESCALE = 2**31 - 1
_EMPTY_SUBTITLE = b"\0\0"
_TIMED = ("audio", "subtitle")
_WRITTEN_ANEW = ("major_brand", "minor_version", "compatible_brands", "encoder", "duration")
_COUNTED_ANEW = ("bps", "number_of_", "_statistics_")
"""How names of metadata begin that tell of the old stream's bytes and frames."""


@dataclass(frozen=True)
class StreamCopies:
    """The streams that are copied, and those that are left out."""

    copied: tuple[OtherStream, ...]
    left_out: tuple[OtherStream, ...]


def choose_copies(probe: VideoProbe, target: Path, container: str, wanted: Copied) -> StreamCopies:
    """Which streams go into the file.

    Raises:
        UsageError: its container cannot hold one of them.
    """
    copied = tuple(stream for stream in probe.others if wanted.takes(stream.kind) and _may_contain(container, stream))
    with opened_video(probe.path) as (source, _):
        for stream in copied:
            if not _can_contain(container, source.streams[stream.index]):
                raise _cannot_store(target, probe, stream, _suffix_for(source, copied))
    return StreamCopies(copied, tuple(stream for stream in probe.others if stream not in copied))


def _may_contain(container: str, stream: OtherStream) -> bool:
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
    for suffix, container in _SUGGESTED.items():
        others = [stream for stream in copied if _may_contain(container, stream)]
        if all(_can_contain(container, source.streams[stream.index]) for stream in others):
            return suffix
    return None


def _can_contain(container: str, template: Any) -> bool:
    """Tries it: what a container's table of codecs allows, its header may still refuse."""
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
    """What is joined: all frames of `wanted` in `segments`, and the streams of the source that are copied."""

    probe: VideoProbe
    encoding: VideoFileEncoding
    copied: tuple[OtherStream, ...]
    wanted: FrameRange
    segments: tuple[Segment, ...]
    ending: Ending


def mux(job: MuxJob, folder: Path, target: Path) -> None:
    """Writes the whole file in the folder of its parts and moves it into place.

    Raises:
        StreamError: it cannot be written.
    """
    muxed = folder / f"joined{target.suffix}"
    with stream_errors(str(target)):
        with whole_file(muxed) as unfinished, opened_video(job.probe.path) as opened:
            options = _options(job.encoding, [opened[0].streams[stream.index] for stream in job.copied])
            with av.open(f"file:{unfinished}", "w", format=job.encoding.container, options=options) as out:
                _write(out, opened, job, _cut(job))
        muxed.replace(target)


@dataclass(frozen=True)
class _Cut:
    """What of the copied streams belongs to the frames, and by how much all times are moved, in seconds."""

    start_s: Fraction
    end_s: Fraction
    shift_s: Fraction
    is_all: bool


def _cut(job: MuxJob) -> _Cut:
    """A range begins where the whole began: its frames keep their distances, and the audio stays with them."""
    first, end = job.segments[0].pts[0], job.segments[-1].pts[-1] + job.ending.last_duration
    base = job.probe.time_base
    return _Cut(first * base, end * base, (job.ending.first_pts - first) * base, job.wanted.is_all)


def _options(encoding: VideoFileEncoding, copied: Sequence[Any]) -> dict[str, str]:
    """The same bits from the same parts, no time moved, and in MP4 times as fine as the streams' own."""
    options = {"fflags": "+bitexact", "avoid_negative_ts": "disabled"}
    if encoding.container in ("mp4", "mov"):
        video = encoding.time_base.denominator
        finest = math.lcm(video, *(stream.time_base.denominator for stream in copied if stream.time_base))
        movie = finest if finest <= _LARGEST_TIMESCALE else video
        options |= {"video_track_timescale": str(video), "movie_timescale": str(movie)}
    return options


def _write(out: Any, opened: tuple[Any, Any], job: MuxJob, cut: _Cut) -> None:
    source, video = opened
    targets = {}
    for index in sorted([video.index, *(stream.index for stream in job.copied)]):
        template = source.streams[index]
        targets[index] = _encoded_stream(out, job, video) if template is video else _copied_stream(out, template)
    out.metadata.update(_lasting(source.metadata))
    if cut.is_all:
        out.set_chapters(source.chapters())
    frames = _video_packets(job, targets.pop(video.index), cut)
    for packet in heapq.merge(frames, _copied_packets(source, targets, job.probe, cut), key=_time_s):
        out.mux(packet)


def _encoded_stream(out: Any, job: MuxJob, like: Any) -> Any:
    with av.open(f"file:{job.segments[0].file}") as first:
        stream = out.add_stream_from_template(first.streams.video[0], opaque=True)
    stream.time_base = job.encoding.time_base
    if job.encoding.tag is not None:
        stream.codec_context.codec_tag = job.encoding.tag
    _describe(stream, like)
    return stream


def _copied_stream(out: Any, template: Any) -> Any:
    stream = out.add_stream_from_template(template)
    if template.time_base:
        stream.time_base = template.time_base
    _describe(stream, template)
    return stream


def _describe(stream: Any, like: Any) -> None:
    stream.metadata.update(_lasting(like.metadata))
    stream.disposition = like.disposition


def _lasting(metadata: Mapping[str, str]) -> dict[str, str]:
    names = {name: name.lower() for name in metadata}
    return {
        name: metadata[name]
        for name, lower in names.items()
        if lower not in _WRITTEN_ANEW and not lower.startswith(_COUNTED_ANEW)
    }


def _time_s(packet: Any) -> float:
    time = packet.pts if packet.dts is None else packet.dts
    return float(time * packet.time_base)


def _video_packets(job: MuxJob, stream: Any, cut: _Cut) -> Iterator[Any]:
    base = job.encoding.time_base
    shift, end = round(cut.shift_s / base), round(cut.end_s / base)
    decoded = _decoding_times(job.segments, shift)
    starts = [*(segment.pts[0] for segment in job.segments[1:]), end]
    for segment, following in zip(job.segments, starts, strict=True):
        ends = dict(zip(segment.pts, (*segment.pts[1:], following), strict=True))
        with av.open(f"file:{segment.file}") as container:
            for packet in container.demux(video=0):
                if packet.size == 0:
                    continue
                # MP4's unit is one over a number: where the source's is not, the part counts in smaller ones.
                shown = round((packet.pts or 0) * packet.time_base / base) + segment.pts[0]
                packet.pts, packet.dts, packet.duration = shown + shift, next(decoded), ends[shown] - shown
                packet.time_base, packet.stream = base, stream
                yield packet


def _decoding_times(segments: Sequence[Segment], shift: int) -> Iterator[int]:
    reordered = max(segment.reordered for segment in segments)
    pts = segments[0].pts
    step = pts[1] - pts[0] if len(pts) > 1 else 1
    before = (pts[0] - place * step for place in range(reordered, 0, -1))
    return (time + shift for time in chain(before, _all_pts(segments)))


def _all_pts(segments: Iterable[Segment]) -> Iterator[int]:
    return chain.from_iterable(segment.pts for segment in segments)


def _copied_packets(source: Any, targets: Mapping[int, Any], probe: VideoProbe, cut: _Cut) -> Iterator[Any]:
    timed = [source.streams[index] for index in targets if source.streams[index].type in _TIMED]
    for packet in source.demux(*timed) if timed else ():
        if packet.size == 0 or (packet.pts is None and packet.dts is None) or _is_gap(packet):
            continue
        _move(packet, -probe.origin_s)
        if cut.is_all or _belongs(packet, cut):
            _move(packet, cut.shift_s)
            packet.stream = targets[packet.stream.index]
            yield packet


def _is_gap(packet: Any) -> bool:
    """MP4 fills the time between two subtitles with empty ones, and would do so once more."""
    return packet.stream.type == "subtitle" and bytes(packet) == _EMPTY_SUBTITLE


def _belongs(packet: Any, cut: _Cut) -> bool:
    """Whether it starts while the frames are shown; a subtitle that began before starts with the first one."""
    if packet.stream.type == "subtitle" and packet.pts is not None and packet.duration:
        late = math.ceil(cut.start_s / packet.time_base) - packet.pts
        if 0 < late < packet.duration:
            packet.pts, packet.dts, packet.duration = packet.pts + late, packet.pts + late, packet.duration - late
    time_s = (packet.dts if packet.pts is None else packet.pts) * packet.time_base
    return bool(cut.start_s <= time_s < cut.end_s)


def _move(packet: Any, by_s: Fraction) -> None:
    by = round(by_s / packet.time_base)
    if by and packet.pts is not None:
        packet.pts += by
    if by and packet.dts is not None:
        packet.dts += by
