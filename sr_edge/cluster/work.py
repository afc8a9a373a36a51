"""What workers are given and what they return, as plain values, and the plan that all of them share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sr_edge.bundle.plain import to_plain
from sr_edge.camera.file.settings import VideoSettings
from sr_edge.cluster.items import JoinItem, PictureItem, VideoItem, VideoPart
from sr_edge.cluster.node import JobModel
from sr_edge.cluster.storage.listing import SourceFile
from sr_edge.cluster.storage.locations import BATCH_FOLDER, Location, stamp
from sr_edge.cluster.storage.media_kinds import Kind
from sr_edge.errors import SrEdgeError

if TYPE_CHECKING:  # PyAV reads videos, which jobs of pictures need not have
    from sr_edge.camera.file.encoding import VideoFileEncoding
    from sr_edge.camera.file.parts import PartSummary
    from sr_edge.camera.file.settings import FrameRange

OnFrames = Callable[[int], None]
"""Called with the number of frames of a video that are done."""


@dataclass(frozen=True)
class JobPlan:
    """What every task of a job needs to know; the same for all of them.

    Attributes:
        model: The model and its engine.
        target: The folder of the results.
        video: How videos are encoded.
        reuse: "off" or "exact".
    """

    model: JobModel
    target: Location
    video: VideoSettings = field(default_factory=VideoSettings)
    reuse: str = "exact"

    def options_sha256(self, kind: Kind) -> str:
        """Digest of all settings beside the bundle that determine the results for files of a kind."""
        model, engine = self.model, self.model.engine
        precisions = f"{engine.precision} {engine.float_precision}"
        content: list[object] = [engine.runtime, precisions, model.overlap_px, sorted(model.controls.items())]
        if kind is Kind.VIDEO:  # not with `reuse`: the output is the same
            content.append({**to_plain(self.video), "resume": None})
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def staging(self, file: SourceFile, source_sha256: str) -> Location:
        """The folder for the parts of a video, another one for each content, model and choice of options."""
        texts = (file.name, source_sha256, self.model.sha256, self.options_sha256(Kind.VIDEO))
        digest = hashlib.sha256("\n".join(texts).encode("utf-8", "surrogatepass")).hexdigest()
        return parts_folder(self.target).join(digest[:32])


def parts_folder(target: Location) -> Location:
    """The folder for the parts of all videos."""
    return target.join(BATCH_FOLDER, "parts")


@dataclass(frozen=True)
class PictureWork:
    """Pictures to upscale.

    Attributes:
        item: The pictures.
        finished_sha256: Digests of the sources for which results exist, by name. The result for a picture that still
            has this digest is kept.
    """

    item: PictureItem
    finished_sha256: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class VideoWork:
    """A video to divide, or to upscale in one piece if it cannot be divided.

    Attributes:
        item: The video.
        finished_sha256: As in `PictureWork`.
        whole_reason: Why it is not divided, if that is known already.
    """

    item: VideoItem
    finished_sha256: Mapping[str, str] = field(default_factory=dict)
    whole_reason: str = ""


@dataclass(frozen=True)
class PartWork:
    """A part of a video to upscale.

    Attributes:
        item: The part.
        encoding: How the frames are encoded, the same for all parts.
    """

    item: VideoPart
    encoding: VideoFileEncoding


@dataclass(frozen=True)
class JoinWork:
    """The parts of a video to join.

    Attributes:
        item: The join.
        encoding: As in `PartWork`.
        summaries: The results of all parts.
        source_sha256: Digest of the source.
    """

    item: JoinItem
    encoding: VideoFileEncoding
    summaries: tuple[PartSummary, ...]
    source_sha256: str


Work = PictureWork | VideoWork | PartWork | JoinWork


@dataclass(frozen=True)
class FileResult:
    """What became of one file.

    Attributes:
        file: The file.
        error: Why there is no result; empty if there is one.
        is_kept: Whether the result of an earlier job was kept, because the source has the same content.
        source_sha256: Digest of the source; empty if it could not be read.
        target_bytes: Size of the result.
        frames: Number of frames of a video; 0 for a picture.
        seconds: Duration of the work.
        notes: What was converted or left out.
    """

    file: SourceFile
    error: str = ""
    is_kept: bool = False
    source_sha256: str = ""
    target_bytes: int = 0
    frames: int = 0
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FilesDone:
    """The results of files that are complete or failed.

    Attributes:
        files: One result for each file of the item.
        precision: The precision that ran; empty if nothing was computed.
    """

    files: tuple[FileResult, ...]
    precision: str = ""


@dataclass(frozen=True)
class VideoDivided:
    """The parts of a video, and how all of them are encoded.

    Attributes:
        file: The video.
        parts: Its parts.
        encoding: How the frames are encoded.
        source_sha256: Digest of the source.
    """

    file: SourceFile
    parts: tuple[VideoPart, ...]
    encoding: VideoFileEncoding
    source_sha256: str


@dataclass(frozen=True)
class PartDone:
    """The result of a part.

    Attributes:
        part: The part.
        summary: Its frames; None if it failed.
        seconds: Duration of the work.
        precision: The precision that ran.
        error: Why it failed.
        is_inexact: Whether the video has to be upscaled in one piece instead.
    """

    part: VideoPart
    summary: PartSummary | None
    seconds: float
    precision: str = ""
    error: str = ""
    is_inexact: bool = False


@dataclass(frozen=True)
class PartsLost:
    """Parts that were damaged or lost after they had been finished.

    Attributes:
        file: The video.
        parts: Their frames.
    """

    file: SourceFile
    parts: tuple[FrameRange, ...]


Result = FilesDone | VideoDivided | PartDone | PartsLost


def error_text(error: Exception) -> str:
    """The reason of a failure in one sentence, for the record."""
    if isinstance(error, SrEdgeError):
        return str(error)
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"unexpected {type(error).__name__}: {error}"


def size_of(target: Location) -> int:
    """The size of a result; 0 if there is none."""
    found = stamp(target)
    return 0 if found is None else found.size
