"""Encoded segments of an unfinished video, from which an interrupted run is resumed.

They are kept in a working folder beside the target:

out.mp4.segments/
  plan.json                   what determines the encoded frames; segments of another plan are not used
  000000.mp4, 000000.json ... independently encoded segments, each complete once its .json file exists
  summary.json                written after the last segment
  lock                        locked while a process is working on the video

A power failure, a full disk or another program can damage any of these files. Each .json file contains a digest of its
content, and that of a segment the digest of its video. Only a segment that does not match is written again: segment n
always contains the same frames.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sr_edge.bundle import sha256_of
from sr_edge.camera.file.encoding import VideoFileEncoding
from sr_edge.camera.file.reader import ReadSummary
from sr_edge.camera.file.segment_encoder import encode_segment
from sr_edge.camera.flow.events import ignore_event
from sr_edge.camera.media.ffmpeg_errors import stream_errors
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.errors import UsageError
from sr_edge.files.whole_file import whole_file

SEGMENT_FRAMES = 60
"""Two seconds of most videos: the most work that an interruption costs, and the largest distance between key frames."""

_LAYOUT = 2
"""The version of the files in the folder."""
_PLAN, _SUMMARY, _LOCK = "plan.json", "summary.json", "lock"
_PLAN_OF_LAYOUT_1 = "fingerprint.json"
_RECORDS = "[0-9]" * 6 + ".json"

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

    def __init__(
        self,
        folder: Path,
        target: Path,
        segment_frames: int,
        on_event: Callable[[str], None] = ignore_event,
        numbers: range | None = None,
    ) -> None:
        """Finds the segments that are intact.

        Args:
            folder: The working folder.
            target: The file that the segments become.
            segment_frames: Frames of each segment but the last.
            on_event: Called with each file that is damaged or missing.
            numbers: The segments of a part of the file; the others in the folder are not read. None means all.
        """
        self.folder = folder
        self.target = target
        self._segment_frames = segment_frames
        self._on_event = on_event
        self._numbers = numbers
        self._segments = dict(self._intact_segments())

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The intact segments in the order of their frames."""
        return tuple(self._segments[number] for number in sorted(self._segments))

    @property
    def frames(self) -> int:
        """The number of finished frames."""
        return sum(len(segment.pts) for segment in self._segments.values())

    def pts_of(self, number: int) -> int | None:
        """The timestamp of the frame of this number, counted in the range; None if it is not finished."""
        segment = self._segments.get(number // self._segment_frames)
        index = number % self._segment_frames
        return segment.pts[index] if segment is not None and index < len(segment.pts) else None

    def segment_of(self, frame: VideoFrame) -> int:
        """The number of the segment to which a frame belongs."""
        return frame.sequence // self._segment_frames

    @property
    def summary(self) -> ReadSummary | None:
        """The summary of the range; None while frames are missing."""
        file = self.folder / _SUMMARY
        if not file.exists():
            return None
        summary = ReadSummary.parse(read_json(file))
        if summary is None:
            self._on_event(f"{file} is damaged, and is written again")
        return summary if summary is not None and summary.frames == self.frames else None

    def write(self, number: int, frames: Iterator[VideoFrame], encoding: VideoFileEncoding) -> None:
        """Encodes all of `frames`, at least one, as a segment.

        Raises:
            StreamError: The segment cannot be written.
        """
        file = self._file(number)
        with stream_errors(str(self.target)):
            with whole_file(file) as unfinished:
                pts, reorder_depth = encode_segment(unfinished, frames, encoding, self._segment_frames)
            # Written after the video: the segment counts as complete once this file exists.
            record = {"pts": pts, "reorder_depth": reorder_depth, "sha256": sha256_of(file)}
            write_json(file.with_suffix(".json"), record)
        self._segments[number] = Segment(file, pts, reorder_depth)

    def finish(self, summary: ReadSummary) -> None:
        """Records that the segments contain all frames.

        Raises:
            StreamError: The summary cannot be written.
        """
        with stream_errors(str(self.target)):
            write_json(self.folder / _SUMMARY, asdict(summary))

    def remove(self) -> None:
        shutil.rmtree(self.folder)

    def _intact_segments(self) -> Iterator[tuple[int, Segment]]:
        for record_file in sorted(self.folder.glob(_RECORDS)):
            number, file = int(record_file.stem), record_file.with_suffix(".mp4")
            if self._numbers is not None and number not in self._numbers:
                continue
            record = read_json(record_file)
            if not _is_segment_record(record):
                self._on_event(f"{record_file} is damaged; its frames are upscaled again")
            elif not file.is_file():
                self._on_event(f"{file} is missing; its frames are upscaled again")
            elif sha256_of(file) != record["sha256"]:
                self._on_event(f"{file} is damaged; its frames are upscaled again")
            else:
                yield number, Segment(file, tuple(record["pts"]), record["reorder_depth"])

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06}.mp4"


def frames_kept(target: Path) -> int:
    """The number of frames that an interrupted run has kept beside `target`.

    The content of the segments is not verified, which would take long: this is called after Ctrl-C.
    """
    records = (read_json(file) for file in segments_folder(target).glob(_RECORDS) if file.with_suffix(".mp4").is_file())
    return sum(len(record["pts"]) for record in records if _is_segment_record(record))


def segments_folder(target: Path) -> Path:
    return target.with_name(f"{target.name}.segments")


@contextmanager
def open_segments(
    target: Path,
    fingerprint: Fingerprint,
    segment_frames: int,
    *,
    resume: bool = True,
    on_event: Callable[[str], None] = ignore_event,
) -> Iterator[Segments]:
    """Locks the working folder of `target`, creating it if needed; without a complete segment it is removed at the end.

    Args:
        target: The file that the segments become.
        fingerprint: What determines the encoded frames.
        segment_frames: Frames of each segment but the last.
        resume: Whether to keep the segments of an interrupted run; False discards them.
        on_event: Called with what is discarded because it is damaged, or was left by another version of sr-edge.

    Yields:
        The segments, including those of an interrupted run.

    Raises:
        UsageError: Another process is writing the file, the segments have another fingerprint, or the folder was not
            created by sr-edge.
        StreamError: The folder cannot be created.
    """
    folder = segments_folder(target)
    _require_own_folder(folder)
    with stream_errors(str(target)):
        folder.mkdir(exist_ok=True)
        lock = (folder / _LOCK).open("w")
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
                _prepare(folder, target, fingerprint, on_event)
            yield Segments(folder, target, segment_frames, on_event)
        finally:
            if folder.exists() and not any(folder.glob(_RECORDS)):
                shutil.rmtree(folder)


def open_part(
    folder: Path,
    target: Path,
    fingerprint: Fingerprint,
    segment_frames: int,
    numbers: range,
    on_event: Callable[[str], None] = ignore_event,
) -> Segments:
    """Opens the segments of one part in a folder that several machines may write at the same time.

    The folder is not locked. Two processes that write the same segment write the same frames, and each file is moved
    into place atomically.

    Args:
        folder: The folder of the segments of all parts; it is created if needed.
        target: The file that the segments become.
        fingerprint: What determines the encoded frames.
        segment_frames: Frames of each segment but the last.
        numbers: The segments of the part.
        on_event: Called with each file that is damaged or missing.

    Raises:
        UsageError: The segments in the folder have another fingerprint.
        StreamError: The folder cannot be created.
    """
    with stream_errors(str(target)):
        folder.mkdir(parents=True, exist_ok=True)
        planned = _fingerprint_in(read_json(folder / _PLAN))
        if planned is None:
            write_json(folder / _PLAN, {"layout": _LAYOUT, "fingerprint": dict(fingerprint)})
        else:
            _require_same_plan(planned, fingerprint, target)
    return Segments(folder, target, segment_frames, on_event, numbers)


def _require_own_folder(folder: Path) -> None:
    """Raises UsageError if the folder contains something, and none of the files by which sr-edge marks its folders."""
    if folder.is_dir():
        names = {path.name for path in folder.iterdir()}
        if not names or names & {_LOCK, _PLAN, _PLAN_OF_LAYOUT_1}:
            return
    if folder.exists():
        raise UsageError(
            f"{folder} exists, and is not the folder of an interrupted run",
            found=folder,
            remedy="move it, or give the output another name",
        )


def _prepare(folder: Path, target: Path, fingerprint: Fingerprint, on_event: Callable[[str], None]) -> None:
    """Checks the plan of the segments in the folder, or writes it if there are none that can be used."""
    file = folder / _PLAN
    plan = read_json(file)
    usable = _fingerprint_in(plan)
    has_segments = any(folder.glob(_RECORDS))
    if has_segments and usable is None:
        is_old = (folder / _PLAN_OF_LAYOUT_1).exists() or (isinstance(plan, dict) and plan.get("layout") != _LAYOUT)
        reason = "it was left by another version of sr-edge" if is_old else f"{file} is missing or damaged"
        on_event(f"the unfinished work in {folder} is not used, because {reason}; all frames are upscaled again")
    if not has_segments or usable is None:
        _clear(folder)
        write_json(file, {"layout": _LAYOUT, "fingerprint": dict(fingerprint)})
        return
    _require_same_plan(usable, fingerprint, target)


def _require_same_plan(planned: Fingerprint, fingerprint: Fingerprint, target: Path) -> None:
    """Raises UsageError if segments that were encoded by one plan cannot be joined with those of the other."""
    for name in {**planned, **fingerprint}:
        earlier, current = planned.get(name, "unknown"), fingerprint.get(name, "unknown")
        if earlier != current:
            raise UsageError(
                f"{target} was started with {name} {earlier}, and now it is {current}",
                found={name: current},
                wanted={name: earlier},
                remedy="run the same command as before to resume, or pass --no-resume to start again",
            )


def _fingerprint_in(plan: Any) -> dict[str, str] | None:
    """The fingerprint in the content of a plan; None if it is damaged or of another layout."""
    if not isinstance(plan, dict) or plan.get("layout") != _LAYOUT:
        return None
    fingerprint = plan.get("fingerprint")
    is_valid = isinstance(fingerprint, dict) and all(isinstance(value, str) for value in fingerprint.values())
    return fingerprint if is_valid else None


def _is_segment_record(record: Any) -> bool:
    if not isinstance(record, dict):
        return False
    pts = record.get("pts")
    return (
        isinstance(pts, list)
        and bool(pts)
        and all(isinstance(time, int) for time in pts)
        and isinstance(record.get("reorder_depth"), int)
        and isinstance(record.get("sha256"), str)
    )


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != _LOCK and path.is_file():
            path.unlink()


def read_json(path: Path) -> Any:
    """The content of a file that `write_json` wrote; None if there is none, or it is damaged."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or set(document) != {"content", "sha256"}:
        return None
    return document["content"] if document["sha256"] == _digest(document["content"]) else None


def write_json(path: Path, content: object) -> None:
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps({"content": content, "sha256": _digest(content)}), encoding="utf-8")


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
