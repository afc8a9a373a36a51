"""The program of worker processes: upscales pictures, and calls what is done for videos.

Nothing here knows Ray. The error of a file is part of the result, so that the job can try the file again elsewhere.
Only `NodeUnable` is raised, because then this machine cannot run the job at all.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from sr_edge.bundle import sha256_of
from sr_edge.cluster.node import LoadArchive, open_session, require_able
from sr_edge.cluster.storage.listing import SourceFile
from sr_edge.cluster.storage.transfer import fetch, output
from sr_edge.cluster.work import (
    FileResult,
    FilesDone,
    JobPlan,
    JoinWork,
    OnFrames,
    PartWork,
    PictureWork,
    Result,
    Work,
    error_text,
    size_of,
)
from sr_edge.runtimes.session import Session
from sr_edge.upscaler import Upscaler, upscale_file


@dataclass(frozen=True)
class Worker:
    """The program of worker processes. A test may derive from it to inject faults.

    Attributes:
        plan: What all tasks of the job need to know.
    """

    plan: JobPlan

    def check(self, load_archive: LoadArchive) -> None:
        """Raises NodeUnable if this machine cannot run the job."""
        require_able(self.plan.model, load_archive)

    def run(self, work: Work, load_archive: LoadArchive, on_frames: OnFrames) -> Result:
        """Does the work.

        Args:
            work: What is to be done.
            load_archive: Returns the packed bundle, if this machine does not have it yet.
            on_frames: Called with the number of frames of a video that are done.

        Raises:
            NodeUnable: This machine cannot run the job.
        """
        if isinstance(work, PictureWork):
            session = open_session(self.plan.model, load_archive)
            files = (_upscale_picture(self.plan, session, file, work.finished_sha256) for file in work.item.files)
            return FilesDone(tuple(files), str(session.spec.ran))
        from sr_edge.cluster import video_tasks  # needs PyAV, which jobs of pictures do not

        if isinstance(work, JoinWork):
            return video_tasks.join(self.plan, work)
        session = open_session(self.plan.model, load_archive)
        if isinstance(work, PartWork):
            return video_tasks.upscale_part(self.plan, session, work, on_frames)
        return video_tasks.divide_or_upscale(self.plan, session, work, on_frames)


def _upscale_picture(plan: JobPlan, session: Session, file: SourceFile, finished: Mapping[str, str]) -> FileResult:
    """Upscales one picture; the result of an earlier job is kept if the content of the source is the same."""
    started, target, sha256 = time.perf_counter(), plan.target.join(file.name), ""
    notes: tuple[str, ...] = ()
    try:
        with fetch(file.source) as source:
            sha256 = sha256_of(source)
            is_kept = finished.get(file.name) == sha256
            if not is_kept:
                with output(target) as path:
                    upscaler = Upscaler(session, plan.model.overlap_px, plan.model.controls)
                    notes = upscale_file(upscaler, source, path)
    except Exception as error:
        return FileResult(file, error_text(error), source_sha256=sha256, seconds=time.perf_counter() - started)
    return FileResult(
        file,
        is_kept=is_kept,
        source_sha256=sha256,
        target_bytes=size_of(target),
        seconds=time.perf_counter() - started,
        notes=notes,
    )
