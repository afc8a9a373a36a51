"""The bookkeeping of a job: which tasks follow from which results, what is recorded, and how far the job is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sr_edge.cluster.items import JoinItem, PictureItem, VideoItem, items_of
from sr_edge.cluster.scheduler import MAX_ATTEMPTS, Node, Priority, Task
from sr_edge.cluster.storage.listing import FailedSource, SourceFile
from sr_edge.cluster.storage.locations import Stamp
from sr_edge.cluster.storage.media_kinds import Kind
from sr_edge.cluster.storage.records import DONE, FAILED, KEPT, Record, Records, TargetSizes
from sr_edge.cluster.work import (
    FileResult,
    FilesDone,
    JobPlan,
    JoinWork,
    PartDone,
    PartsLost,
    PartWork,
    PictureWork,
    Result,
    VideoDivided,
    VideoWork,
    Work,
)
from sr_edge.files.unfinished import remove_unfinished

if TYPE_CHECKING:
    from sr_edge.camera.file.parts import PartSummary

SHOWN_FAILURES = 20
"""How many failures a result lists; the records have all."""


@dataclass(frozen=True)
class FailedFile:
    """A file without a result.

    Attributes:
        source: Its path or URL, without secrets.
        error: Why it failed at last.
        machine: Where it failed at last; empty if it was never sent.
        attempts: How often it was tried.
    """

    source: str
    error: str
    machine: str = ""
    attempts: int = 0


@dataclass(frozen=True)
class BatchProgress:
    """How far a job is. A picture or video counts as one item, and each part of a video as one more.

    Attributes:
        items: Items that are complete, kept or failed.
        total: All items, as far as they are known.
        pictures: Pictures that were written.
        frames: Frames of videos that were upscaled, with those of unfinished parts.
        failed: Files that failed.
        workers: Tasks that are running.
    """

    items: int
    total: int
    pictures: int
    frames: int
    failed: int
    workers: int


@dataclass
class _Film:
    """A video that was divided."""

    divided: VideoDivided
    summaries: dict[int, PartSummary] = field(default_factory=dict)
    machines: set[str] = field(default_factory=set)
    seconds: float = 0.0
    attempts: int = 1
    joins: int = 0


class Batch:
    """The job that a scheduler runs, see `scheduler.Job`."""

    def __init__(
        self,
        plan: JobPlan,
        files: Sequence[SourceFile],
        records: Records,
        sizes: TargetSizes,
        on_progress: Callable[[BatchProgress], None],
        tick: Callable[[], None],
    ) -> None:
        """Finds the files that are not finished.

        Args:
            plan: What all tasks need to know.
            files: The files to upscale.
            records: Where the results are recorded, with those of earlier jobs.
            sizes: The sizes of the files in the target.
            on_progress: Called now and then.
            tick: Called now and then; raises if the job must not go on.
        """
        self._plan, self._records, self._sizes = plan, records, sizes
        self._on_progress, self._tick = on_progress, tick
        self._films: dict[str, _Film] = {}
        self._begun: set[str] = set()
        self._total = len(files)
        self._items = 0
        self.counts: Counter[str] = Counter()
        self.pictures = self.videos = self.frames = 0
        self.files_of_machine: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self.failures: list[FailedFile] = []
        self._options = {kind: plan.options_sha256(kind) for kind in Kind}
        self.unfinished = [file for file in files if not self._is_finished(file)]
        self.counts["skipped"] = self._items = len(files) - len(self.unfinished)
        self.workers = 1
        """The number of engines, for which small pictures are grouped; the cluster tells it."""

    def new_tasks(self) -> Iterator[Task[Work]]:
        """A task for each item that is not finished."""
        for item in items_of(self.unfinished, self.workers):
            files = item.files if isinstance(item, PictureItem) else (item.file,)
            self._begun.update(file.name for file in files)
            finished = {file.name: digest for file in files if (digest := self._finished_sha256(file))}
            if isinstance(item, PictureItem):
                yield Task(PictureWork(item, finished))
            else:
                yield Task(VideoWork(item, finished))

    def record_unlisted(self, failure: FailedSource) -> None:
        """Records an entry of the source that is not one of the files, such as a missing one of a list."""
        model = self._plan.model
        self._records.append(
            Record(
                item=failure.source,
                source=failure.source,
                target="",
                source_stamp=Stamp(0, ""),
                source_sha256="",
                target_bytes=0,
                bundle_sha256=model.sha256,
                options_sha256="",
                machine="",
                seconds=0.0,
                precision="",
                runtime=model.engine.runtime,
                attempts=0,
                result=FAILED,
                error=failure.reason,
            )
        )

    def remove_leftovers(self) -> None:
        """Removes the hidden files of processes that were ended while they wrote; called when all have ended."""
        for name in self._begun:
            self._remove_unfinished(name)

    def _remove_unfinished(self, name: str) -> None:
        target = self._plan.target.join(name)
        if target.is_local:
            remove_unfinished(target.path)

    def _is_finished(self, file: SourceFile) -> bool:
        if not self._plan.video.resume:
            return False
        size = self._sizes.of(file.name)
        return self._records.is_finished(file.name, file.stamp, self._plan.model.sha256, self._options[file.kind], size)

    def _finished_sha256(self, file: SourceFile) -> str | None:
        if not self._plan.video.resume:
            return None
        size = self._sizes.of(file.name)
        return self._records.finished_sha256(file.name, self._plan.model.sha256, self._options[file.kind], size)

    def on_progress(self, running: int, frames: int) -> None:
        """Reports the progress, and writes records that wait."""
        self._tick()
        self._records.flush_if_due()
        total, failed = self.frames + frames, self.counts[FAILED]
        self._on_progress(BatchProgress(self._items, self._total, self.pictures, total, failed, running))

    def on_result(self, task: Task[Work], result: Result, node: Node) -> Iterable[Task[Work]]:
        """Records what is complete, and returns the tasks that follow."""
        if isinstance(result, FilesDone):
            return [again for file in result.files for again in self._on_file(task, file, result.precision, node)]
        if isinstance(result, VideoDivided):
            film = self._films[result.file.name] = _Film(result, machines={node.name}, attempts=len(task.failures) + 1)
            self._total += len(result.parts)
            return [self._part_task(film, number) for number in range(len(result.parts))]
        if isinstance(result, PartsLost):
            return self._repeated_parts(task, result, node)
        return self._on_part(task, result, node)

    def is_wanted(self, task: Task[Work]) -> bool:
        """Whether a task still has to be run; not if it is of a video that failed, or is upscaled in one piece."""
        work = task.work
        if not isinstance(work, PartWork | JoinWork):
            return True
        film = self._films.get(work.item.file.name)
        return film is not None and film.divided.parts[0].staging == work.item.staging

    def on_break(self, task: Task[Work], reason: str, node: Node) -> Iterable[Task[Work]]:
        """Tries a task again that ended without a result; pictures of one item are separated, to find the cause."""
        return self._retried(task, reason, node)

    def _repeated_parts(self, task: Task[Work], lost: PartsLost, node: Node) -> Iterable[Task[Work]]:
        film, starts = self._films[lost.file.name], {part.first for part in lost.parts}
        numbers = [part.number for part in film.divided.parts if part.first in starts]
        film.joins += 1
        if not numbers or film.joins >= MAX_ATTEMPTS:
            return self._retried(task, "parts of the video are missing or damaged", node)
        for number in numbers:
            del film.summaries[number]
        self._items -= len(numbers)
        return [self._part_task(film, number) for number in numbers]

    def _part_task(self, film: _Film, number: int) -> Task[Work]:
        return Task(PartWork(film.divided.parts[number], film.divided.encoding), Priority.PART)

    def _on_part(self, task: Task[Work], done: PartDone, node: Node) -> list[Task[Work]]:
        if not self.is_wanted(task):
            return []
        film = self._films[done.part.file.name]
        film.seconds += done.seconds
        film.machines.add(node.name)
        film.attempts = max(film.attempts, len(task.failures) + 1)
        if done.is_inexact:
            return [self._in_one_piece(film, done.error)]
        if done.summary is None:
            return list(self._retried(task, done.error, node))
        film.summaries[done.part.number] = done.summary
        self._items += 1
        self.frames += done.part.end - done.part.first
        if len(film.summaries) < len(film.divided.parts):
            return []
        divided = film.divided
        item = JoinItem(divided.file, len(divided.parts), divided.parts[0].staging)
        summaries = tuple(film.summaries[number] for number in sorted(film.summaries))
        return [Task(JoinWork(item, divided.encoding, summaries, divided.source_sha256), Priority.JOIN)]

    def _in_one_piece(self, film: _Film, reason: str) -> Task[Work]:
        """The task of a video that could not be divided after all."""
        self._forget(film)
        return Task(VideoWork(VideoItem(film.divided.file), {}, reason), Priority.PART)

    def _forget(self, film: _Film) -> None:
        """Ends the division of a video: its parts no longer count, and their results are ignored."""
        del self._films[film.divided.file.name]
        self._total -= len(film.divided.parts)
        self._items -= len(film.summaries)
        self.frames -= sum(part.end - part.first for part in film.divided.parts if part.number in film.summaries)

    def _on_file(self, task: Task[Work], result: FileResult, precision: str, node: Node) -> Iterable[Task[Work]]:
        if result.error:
            return self._retried(task, result.error, node, result)
        film = self._films.pop(result.file.name, None)
        machine, attempts = node.name, len(task.failures) + 1
        if film is not None:
            attempts = max(film.attempts, attempts)
            self.files_of_machine.update(film.machines - {machine})
            machine = ", ".join(sorted({*film.machines, machine}))
            result = replace(result, seconds=result.seconds + film.seconds)
        elif result.file.kind is Kind.VIDEO:
            self.frames += result.frames
        self._items += 1
        self.counts[KEPT if result.is_kept else DONE] += 1
        if not result.is_kept:
            self.videos += result.file.kind is Kind.VIDEO
            self.pictures += result.file.kind is Kind.PICTURE
            self.files_of_machine[node.name] += 1
        self.notes.update(result.notes)
        self._record(result, KEPT if result.is_kept else DONE, machine, precision, attempts)
        return ()

    def _retried(
        self, task: Task[Work], reason: str, node: Node, only: FileResult | None = None
    ) -> Iterable[Task[Work]]:
        """The tasks by which a failed task, or one file of it, is tried again; none after the last attempt."""
        if not self.is_wanted(task):
            return ()
        failures, work = (*task.failures, node.id), task.work
        if isinstance(work, PictureWork):
            singles = [each for each in work.item.singles() if only is None or each.files[0] == only.file]
            if len(failures) < MAX_ATTEMPTS:
                return [replace(task, work=replace(work, item=each), failures=failures) for each in singles]
            for each in singles:
                self._fail(only or FileResult(each.files[0], reason), reason, node, len(failures))
            return ()
        if len(failures) < MAX_ATTEMPTS:
            return [replace(task, failures=failures)]
        if isinstance(work, PartWork | JoinWork):
            self._forget(self._films[work.item.file.name])
        self._fail(only or FileResult(work.item.file, reason), reason, node, len(failures))
        return ()

    def _fail(self, result: FileResult, reason: str, node: Node, attempts: int) -> None:
        self._items += 1
        self.counts[FAILED] += 1
        self._remove_unfinished(result.file.name)  # of a process that was killed while it wrote
        if len(self.failures) < SHOWN_FAILURES:
            self.failures.append(FailedFile(str(result.file.source), reason, node.name, attempts))
        self._record(replace(result, error=reason), FAILED, node.name, "", attempts)

    def _record(self, result: FileResult, outcome: str, machine: str, precision: str, attempts: int) -> None:
        file, plan = result.file, self._plan
        self._begun.discard(file.name)
        self._records.append(
            Record(
                item=file.name,
                source=str(file.source),
                target=str(plan.target.join(file.name)),
                source_stamp=file.stamp,
                source_sha256=result.source_sha256,
                target_bytes=result.target_bytes,
                bundle_sha256=plan.model.sha256,
                options_sha256=self._options[file.kind],
                machine=machine,
                seconds=round(result.seconds, 3),
                precision=precision or str(plan.model.engine.precision),
                runtime=plan.model.engine.runtime,
                attempts=attempts,
                result=outcome,
                error=result.error,
                notes=result.notes,
            )
        )
