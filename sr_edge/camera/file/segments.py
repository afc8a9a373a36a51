"""Encoded segments of an unfinished video, from which an interrupted run is resumed.

They are kept in a working folder beside the target:

out.mp4.segments/
  fingerprint.json            what determines the encoded frames; segments of another fingerprint are not used
  000000.mp4, 000000.json ... independently encoded segments, each complete once its .json file exists
  summary.json                written after the last segment
  lock                        locked while a process is working on the video
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av

from sr_edge.camera.file.encoding import VideoFileEncoding
from sr_edge.camera.file.reader import ReadSummary
from sr_edge.camera.media.conversion import av_from_frame, reformatted
from sr_edge.camera.media.encoder_settings import scheduling_kept
from sr_edge.camera.media.ffmpeg_errors import stream_errors
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.errors import StreamError, UsageError
from sr_edge.whole_file import whole_file

SEGMENT_FRAMES = 60
"""Two seconds of most videos: the most work that an interruption costs, and the largest distance between key frames."""

Fingerprint = Mapping[str, str]
"""Everything that determines the encoded frames, by the names under which users know it."""


@dataclass(frozen=True)
class Segment:
    """An encoded segment.

    Attributes:
        file: An MP4 file whose own timestamps start at 0.
        pts: Timestamps of its frames in display order.
        reorder_depth: By how many positions a frame is decoded later than it is displayed, at most.
    """

    file: Path
    pts: tuple[int, ...]
    reorder_depth: int


class Segments:
    """The encoded segments of one file. Only one process may write them at a time; see `open_segments`."""

    def __init__(self, folder: Path, target: Path) -> None:
        self.folder = folder
        self.target = target
        self.segments = list(self._complete_segments())

    @property
    def pts(self) -> tuple[int, ...]:
        """Timestamps of all finished frames."""
        return tuple(pts for segment in self.segments for pts in segment.pts)

    @property
    def summary(self) -> ReadSummary | None:
        """The summary of the range; None while frames are missing."""
        file = self.folder / "summary.json"
        return ReadSummary(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None

    def write(self, frames: Iterator[VideoFrame], encoding: VideoFileEncoding, segment_frames: int) -> None:
        """Encodes all of `frames`, at least one and at most `segment_frames`, as the next segment.

        Raises:
            StreamError: The segment cannot be written.
        """
        number = len(self.segments)
        file = self._file(number)
        with stream_errors(str(self.target)):
            with whole_file(file) as unfinished:
                pts, reorder_depth = _encode(unfinished, frames, encoding, segment_frames)
            # Written after the video: the segment counts as complete once this file exists.
            _write_json(file.with_suffix(".json"), {"pts": pts, "reorder_depth": reorder_depth})
        self.segments.append(Segment(file, pts, reorder_depth))

    def finish(self, summary: ReadSummary) -> None:
        """Records that the segments contain all frames.

        Raises:
            StreamError: The summary cannot be written.
        """
        with stream_errors(str(self.target)):
            _write_json(self.folder / "summary.json", asdict(summary))

    def remove(self) -> None:
        shutil.rmtree(self.folder)

    def _complete_segments(self) -> Iterator[Segment]:
        number = 0
        while (file := self._file(number).with_suffix(".json")).exists():
            entry = json.loads(file.read_text(encoding="utf-8"))
            yield Segment(self._file(number), tuple(entry["pts"]), entry["reorder_depth"])
            number += 1

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06}.mp4"


def segments_folder(target: Path) -> Path:
    return target.with_name(f"{target.name}.segments")


@contextmanager
def open_segments(target: Path, fingerprint: Fingerprint, resume: bool = True) -> Iterator[Segments]:
    """Locks the working folder of `target`, creating it if needed; without a complete segment it is removed at the end.

    Args:
        target: The file that the segments become.
        fingerprint: What determines the encoded frames.
        resume: Whether to keep the segments of an interrupted run; False discards them.

    Yields:
        The segments, including those of an interrupted run.

    Raises:
        UsageError: Another process is writing the file, the segments have another fingerprint, or the folder was not
            created by sr-edge.
        StreamError: The folder cannot be created.
    """
    folder = segments_folder(target)
    if folder.exists() and not (folder / "lock").exists():
        raise UsageError(
            f"{folder} exists, and is not the folder of an interrupted run",
            found=folder,
            remedy="move it, or give the output another name",
        )
    with stream_errors(str(target)):
        folder.mkdir(exist_ok=True)
        lock = (folder / "lock").open("w")
    with lock:
        # The kernel releases the lock when the process ends, however it ends: no stale lock can remain.
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another sr-edge process is writing {target}",
                found=target,
                remedy="wait until it has finished, or give the output another name",
            ) from None
        if not resume:
            _clear(folder)
        try:
            with stream_errors(str(target)):
                _prepare(folder, target, fingerprint)
            yield Segments(folder, target)
        finally:
            if folder.exists() and not (folder / "000000.json").exists():
                shutil.rmtree(folder)


def _prepare(folder: Path, target: Path, fingerprint: Fingerprint) -> None:
    """Checks the fingerprint of the segments in the folder, or writes it if there are none."""
    file = folder / "fingerprint.json"
    if not (folder / "000000.json").exists():
        _clear(folder)
        _write_json(file, dict(fingerprint))
        return
    earlier_fingerprint = json.loads(file.read_text(encoding="utf-8"))
    for name in {**earlier_fingerprint, **fingerprint}:
        earlier, current = earlier_fingerprint.get(name, "unknown"), fingerprint.get(name, "unknown")
        if earlier != current:
            raise UsageError(
                f"{target} was started with {name} {earlier}, and now it is {current}",
                found={name: current},
                wanted={name: earlier},
                remedy="run the same command as before to resume, or pass --no-resume to start again",
            )


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != "lock":
            path.unlink()


def _write_json(path: Path, content: object) -> None:
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(content), encoding="utf-8")


def _encode(
    path: Path, frames: Iterator[VideoFrame], encoding: VideoFileEncoding, segment_frames: int
) -> tuple[tuple[int, ...], int]:
    """Encodes the frames to a file whose timestamps start at 0.

    Returns:
        The original pts of the frames, and the reorder depth.
    """
    pts: list[int] = []
    encoded_pts: list[int] = []
    timescale = str(encoding.time_base.denominator)
    options = {"fflags": "+bitexact", "video_track_timescale": timescale, "movie_timescale": timescale}
    with av.open(f"file:{path}", "w", format="mp4", options=options) as container:
        stream = _add_video_stream(container, encoding, segment_frames)

        def encode(av_frame: av.VideoFrame | None) -> None:
            for packet in stream.encode(av_frame):
                # x265 sets invalid decoding times in segments of one or two frames. `mux` replaces all of them, so
                # here they need only increase and be no later than the pts.
                packet.dts = len(encoded_pts) - segment_frames
                encoded_pts.append(packet.pts)
                container.mux(packet)

        for frame in frames:
            pts.append(_pts_of(frame))
            av_frame = av_from_frame(reformatted(frame, encoding.format))
            av_frame.pts, av_frame.time_base = pts[-1] - pts[0], encoding.time_base
            encode(av_frame)
        encode(None)
    displayed_pts = sorted(encoded_pts)
    if displayed_pts != [time - pts[0] for time in pts]:
        raise StreamError(
            f"{encoding.encoder} returned frames with other timestamps than it was given",
            found=tuple(time + pts[0] for time in displayed_pts),
            wanted=tuple(pts),
            remedy="choose another --codec",
        )
    display_index = {time: index for index, time in enumerate(displayed_pts)}
    return tuple(pts), max(index - display_index[time] for index, time in enumerate(encoded_pts))


def _pts_of(frame: VideoFrame) -> int:
    if frame.pts is None:
        raise StreamError(
            "a decoded frame has no timestamp",
            wanted="a timestamp",
            remedy="please report this as a bug of sr_edge, with the video if possible",
        )
    return frame.pts


def _add_video_stream(container: Any, encoding: VideoFileEncoding, segment_frames: int) -> Any:
    stream = container.add_stream(encoding.encoder, rate=encoding.frame_rate, options=dict(encoding.options))
    context = stream.codec_context
    stream.width, stream.height, stream.pix_fmt = encoding.width, encoding.height, encoding.format.value
    context.time_base = stream.time_base = encoding.time_base
    context.thread_count, context.gop_size = encoding.threads, segment_frames
    context.color_range, context.colorspace = int(encoding.colour.range), encoding.colour.matrix
    context.color_primaries, context.color_trc = encoding.colour.primaries, encoding.colour.transfer
    if encoding.encoder == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # errors only: SVT-AV1 writes to stderr without asking FFmpeg
    if encoding.sample_aspect_ratio is not None:
        context.sample_aspect_ratio = encoding.sample_aspect_ratio
    if encoding.display_matrix is not None:
        stream.set_display_matrix(encoding.display_matrix)
    with scheduling_kept():
        context.open()
    return stream
