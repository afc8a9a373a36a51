"""The finished parts of a video, in a folder beside the file that they become: what a killed run leaves for the next.

out.mp4.parts/
  plan.json                   of which video, by which model and settings: parts are good for these only
  000000.mp4, 000000.json ... at most SEGMENT_FRAMES frames each, encoded by themselves; whole once the .json is there
  end.json                    there once all frames are done
  lock                        held while a run is at work
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

from sr_edge.camera.conversion import av_from_frame, reformatted
from sr_edge.camera.encoder_settings import scheduling_kept
from sr_edge.camera.frame import VideoFrame
from sr_edge.camera.vendor_errors import stream_errors
from sr_edge.camera.video_file_codec import VideoFileEncoding
from sr_edge.camera.video_file_source import Ending
from sr_edge.errors import StreamError, UsageError
from sr_edge.whole_file import whole_file

SEGMENT_FRAMES = 60
"""Two seconds of most videos: what a kill costs at most, and how far apart key frames are at most."""

Plan = Mapping[str, str]


@dataclass(frozen=True)
class Segment:
    """One finished part.

    Attributes:
        file: its own times start at 0.
        pts: of its frames, as shown.
        reordered: by how many places a frame is decoded later than it is shown, at most.
    """

    file: Path
    pts: tuple[int, ...]
    reordered: int


class Segments:
    """The parts of one file; one process at a time has them open."""

    def __init__(self, folder: Path, target: Path) -> None:
        self.folder = folder
        self.target = target
        self.segments = list(self._finished())

    @property
    def pts(self) -> tuple[int, ...]:
        """Of all finished frames."""
        return tuple(pts for segment in self.segments for pts in segment.pts)

    @property
    def ending(self) -> Ending | None:
        """What the end of the video told; None while frames are missing."""
        record = self.folder / "end.json"
        return Ending(**json.loads(record.read_text(encoding="utf-8"))) if record.exists() else None

    def write(self, frames: Iterator[VideoFrame], encoding: VideoFileEncoding, part_frames: int) -> None:
        """Encodes all of `frames`, at least one and at most `part_frames`, as the next part.

        Raises:
            StreamError: it cannot be written.
        """
        number = len(self.segments)
        file = self._file(number)
        with stream_errors(str(self.target)):
            with whole_file(file) as unfinished:
                pts, reordered = _encode(unfinished, frames, encoding, part_frames)
            _write_json(file.with_suffix(".json"), {"pts": pts, "reordered": reordered})
        self.segments.append(Segment(file, pts, reordered))

    def finish(self, ending: Ending) -> None:
        """Notes that all frames are there."""
        with stream_errors(str(self.target)):
            _write_json(self.folder / "end.json", asdict(ending))

    def remove(self) -> None:
        shutil.rmtree(self.folder)

    def _finished(self) -> Iterator[Segment]:
        number = 0
        while (record := self._file(number).with_suffix(".json")).exists():
            entry = json.loads(record.read_text(encoding="utf-8"))
            yield Segment(self._file(number), tuple(entry["pts"]), entry["reordered"])
            number += 1

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06}.mp4"


def segments_folder(target: Path) -> Path:
    return target.with_name(f"{target.name}.parts")


@contextmanager
def opened_segments(target: Path, plan: Plan, resume: bool = True) -> Iterator[Segments]:
    """The parts of `target`, those of an interrupted run among them. Without a finished part the folder goes again.

    Args:
        plan: what decides the frames and their bits.
        resume: False begins anew.

    Raises:
        UsageError: another process is making the file, the parts there were made by another plan, or the folder is
            not of this program.
        StreamError: the folder cannot be made.
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
                _settle(folder, target, plan)
            yield Segments(folder, target)
        finally:
            if folder.exists() and not (folder / "000000.json").exists():
                shutil.rmtree(folder)


def _settle(folder: Path, target: Path, plan: Plan) -> None:
    """Keeps the finished parts of the same plan, and makes the folder ready where there are none."""
    record = folder / "plan.json"
    if not (folder / "000000.json").exists():
        _clear(folder)
        _write_json(record, dict(plan))
        return
    before = json.loads(record.read_text(encoding="utf-8"))
    for name in {**before, **plan}:
        earlier, now = before.get(name, "unknown"), plan.get(name, "unknown")
        if earlier != now:
            raise UsageError(
                f"{target} was started with {name} {earlier}, and now it is {now}",
                found={name: now},
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
    path: Path, frames: Iterator[VideoFrame], encoding: VideoFileEncoding, part_frames: int
) -> tuple[tuple[int, ...], int]:
    """Writes the frames, times from 0, to a file; returns their true pts and by how many places they are reordered."""
    pts: list[int] = []
    coded: list[int] = []
    exact = str(encoding.time_base.denominator)
    options = {"fflags": "+bitexact", "video_track_timescale": exact, "movie_timescale": exact}
    with av.open(f"file:{path}", "w", format="mp4", options=options) as container:
        stream = _added_stream(container, encoding, part_frames)

        def send(picture: av.VideoFrame | None) -> None:
            for packet in stream.encode(picture):
                # x265 makes decoding times up for parts of one or two frames; rising and early is all that is needed.
                packet.dts = len(coded) - part_frames
                coded.append(packet.pts)
                container.mux(packet)

        for frame in frames:
            pts.append(_pts_of(frame))
            picture = av_from_frame(reformatted(frame, encoding.format))
            picture.pts, picture.time_base = pts[-1] - pts[0], encoding.time_base
            send(picture)
        send(None)
    shown = {time: place for place, time in enumerate(sorted(coded))}
    if sorted(coded) != [time - pts[0] for time in pts]:
        raise StreamError(
            f"{encoding.encoder} returned frames with other timestamps than it was given",
            found=tuple(time + pts[0] for time in sorted(coded)),
            wanted=tuple(pts),
            remedy="choose another --codec",
        )
    return tuple(pts), max(place - shown[time] for place, time in enumerate(coded))


def _pts_of(frame: VideoFrame) -> int:
    if frame.pts is None:
        raise StreamError(
            "a decoded frame has no timestamp", wanted="a timestamp", remedy="please report it as a bug of its source"
        )
    return frame.pts


def _added_stream(container: Any, encoding: VideoFileEncoding, part_frames: int) -> Any:
    stream = container.add_stream(encoding.encoder, rate=encoding.rate, options=dict(encoding.options))
    context = stream.codec_context
    stream.width, stream.height, stream.pix_fmt = encoding.width, encoding.height, encoding.format.value
    context.time_base = stream.time_base = encoding.time_base
    context.thread_count, context.gop_size = encoding.threads, part_frames
    context.color_range, context.colorspace = int(encoding.colour.range), encoding.colour.matrix
    context.color_primaries, context.color_trc = encoding.colour.primaries, encoding.colour.transfer
    if encoding.encoder == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # errors only: it writes to stderr by itself
    if encoding.aspect is not None:
        context.sample_aspect_ratio = encoding.aspect
    if encoding.matrix is not None:
        stream.set_display_matrix(encoding.matrix)
    with scheduling_kept():
        context.open()
    return stream
