"""Programs of worker processes with faults. The processes import this module, so it must not need pytest."""

from __future__ import annotations

import os
import resource
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from sr_edge.cluster.node import LoadArchive, NodeUnable, open_session
from sr_edge.cluster.work import OnFrames, PartDone, PartWork, PictureWork, Result, Work
from sr_edge.cluster.worker import Worker

NODE_VARIABLE = "SR_EDGE_TEST_NODE"
"""The environment variable by which the simulated machines of a test differ."""


def names_in(work: Work) -> list[str]:
    files = work.item.files if isinstance(work, PictureWork) else (work.item.file,)
    return [file.name for file in files]


@dataclass(frozen=True)
class Slow(Worker):
    """Waits before each item, so that a test can do something in the middle of a job."""

    seconds: float = 0.2

    def run(self, work: Work, load_archive: LoadArchive, on_frames: OnFrames) -> Result:
        time.sleep(self.seconds)
        return super().run(work, load_archive, on_frames)


@dataclass(frozen=True)
class Killed(Worker):
    """Ends its own process at a file, as many times as it may."""

    name: str = ""
    folder: Path = Path()
    times: int = 1

    def run(self, work: Work, load_archive: LoadArchive, on_frames: OnFrames) -> Result:
        if self.name in names_in(work):
            for number in range(self.times):
                try:
                    (self.folder / f"kill-{number}").touch(exist_ok=False)
                except FileExistsError:
                    continue
                os.kill(os.getpid(), signal.SIGKILL)
        return super().run(work, load_archive, on_frames)


@dataclass(frozen=True)
class FullDisk(Worker):
    """Cannot write files of more than a few bytes on one machine."""

    node: str = ""

    def run(self, work: Work, load_archive: LoadArchive, on_frames: OnFrames) -> Result:
        if os.environ.get(NODE_VARIABLE) != self.node:
            return super().run(work, load_archive, on_frames)
        open_session(self.plan.model, load_archive)  # before the disk is full
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        try:
            return super().run(work, load_archive, on_frames)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@dataclass(frozen=True)
class FailingPart(Worker):
    """Fails a part of a video on each of its first tries."""

    number: int = 1
    folder: Path = Path()
    times: int = 2

    def run(self, work: Work, load_archive: LoadArchive, on_frames: OnFrames) -> Result:
        if isinstance(work, PartWork) and work.item.number == self.number:
            tries = len(list(self.folder.glob("try-*")))
            if tries < self.times:
                (self.folder / f"try-{tries}").touch()
                return PartDone(work.item, None, 0.0, error="injected fault")
        return super().run(work, load_archive, on_frames)


@dataclass(frozen=True)
class UnableOn(Worker):
    """Refuses the job on some machines."""

    nodes: tuple[str, ...] = field(default_factory=tuple)

    def check(self, load_archive: LoadArchive) -> None:
        if os.environ.get(NODE_VARIABLE) in self.nodes:
            raise NodeUnable("a simulated obstacle", remedy="choose another machine")
        super().check(load_archive)
