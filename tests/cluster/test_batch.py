"""The bookkeeping of a job: which tasks follow from results, what is recorded, and what is counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from sr_edge.cluster.batch import Batch, BatchProgress
from sr_edge.cluster.items import VideoItem, VideoPart
from sr_edge.cluster.node import JobModel
from sr_edge.cluster.scheduler import Node, Priority, Task
from sr_edge.cluster.storage.listing import SourceFile
from sr_edge.cluster.storage.locations import Location, Stamp
from sr_edge.cluster.storage.media_kinds import Kind
from sr_edge.cluster.storage.records import Record, Records, TargetSizes, open_records
from sr_edge.cluster.work import (
    FileResult,
    FilesDone,
    JobPlan,
    JoinWork,
    PartDone,
    PartsLost,
    PartWork,
    PictureWork,
    VideoDivided,
    VideoWork,
    Work,
)
from sr_edge.model_sources import ChosenEngine
from sr_edge.spec import Precision

pytest.importorskip("av")
from sr_edge.camera.file.parts import PartSummary
from sr_edge.camera.file.reader import ReadSummary
from sr_edge.camera.file.settings import FrameRange

HERE, THERE = Node("1", "here", 1), Node("2", "there", 1)
ENCODING = cast(Any, "the encoding")  # which is only passed on
ENGINE = ChosenEngine("onnxruntime", Precision.FP32, Precision.FP32, "cpu", threads=1)


def file(name: str, size: int = 10) -> SourceFile:
    kind = Kind.VIDEO if name.endswith(".mp4") else Kind.PICTURE
    return SourceFile(Location("/source"), name, name, kind, Stamp(size, "version"))


class Notebook(Records):
    """Records that remember what was appended."""

    appended: list[Record]

    def append(self, record: Record) -> None:
        self.appended.append(record)
        super().append(record)


@pytest.fixture
def plan(tmp_path: Path) -> JobPlan:
    return JobPlan(JobModel("tiny", 2, "f" * 64, ENGINE), Location(str(tmp_path)))


@pytest.fixture
def records(plan: JobPlan) -> Iterator[Records]:
    with open_records(plan.target, "job") as opened:
        opened.__class__ = Notebook
        cast(Notebook, opened).appended = []
        yield opened


def batch_of(plan: JobPlan, records: Records, *files: SourceFile, reports: list[BatchProgress] | None = None) -> Batch:
    reports = [] if reports is None else reports
    return Batch(plan, files, records, TargetSizes(plan.target), reports.append, lambda: None)


def outcomes(records: Records) -> list[tuple[str, str, int]]:
    return [(each.item, each.result, each.attempts) for each in cast(Notebook, records).appended]


def failed(name: str, reason: str = "damaged") -> FilesDone:
    return FilesDone((FileResult(file(name), reason, source_sha256="0" * 64),))


def done(name: str, **fields: Any) -> FilesDone:
    return FilesDone((FileResult(file(name), source_sha256="a" * 64, target_bytes=5, **fields),), "fp32")


def test_what_ended_processes_left_beside_results_is_removed(plan: JobPlan, records: Records) -> None:
    batch = batch_of(plan, records, file("a.png"), file("b.png"))
    folder = plan.target.path
    begun, foreign = folder / ".a.png.sr-edge.part", folder / ".c.png.sr-edge.part"
    for path in (begun, foreign):
        path.touch()
    tasks = list(batch.new_tasks())
    batch.remove_leftovers()
    assert tasks and not begun.exists()
    assert foreign.exists()  # not of this job


def test_small_pictures_that_crashed_together_are_tried_alone(plan: JobPlan, records: Records) -> None:
    files = [file(f"{number:02}.png") for number in range(32)]
    batch = batch_of(plan, records, *files)
    task = next(batch.new_tasks())
    assert isinstance(task.work, PictureWork)
    assert len(task.work.item.files) == 4
    again = list(batch.on_break(task, "its process crashed", HERE))
    assert [each.work.item.files for each in again if isinstance(each.work, PictureWork)] == [
        (single,) for single in task.work.item.files
    ]
    assert {each.failures for each in again} == {("1",)}


def test_of_several_pictures_only_the_failed_one_is_tried_again(plan: JobPlan, records: Records) -> None:
    batch = batch_of(plan, records, *(file(f"{number:02}.png") for number in range(32)))
    task = next(batch.new_tasks())
    results = FilesDone((*done("00.png").files, *failed("01.png").files, *done("02.png").files), "fp32")
    (again,) = batch.on_result(task, results, HERE)
    assert isinstance(again.work, PictureWork)
    assert again.work.item.files == (file("01.png"),)
    assert outcomes(records) == [("00.png", "done", 1), ("02.png", "done", 1)]


def test_a_file_fails_at_the_third_attempt(plan: JobPlan, records: Records) -> None:
    batch = batch_of(plan, records, file("a.png"))
    (task,) = batch.new_tasks()
    (task,) = batch.on_result(task, failed("a.png", "first"), HERE)
    (task,) = batch.on_break(task, "crashed", THERE)
    assert task.failures == ("1", "2")
    assert not list(batch.on_result(task, failed("a.png", "third"), HERE))
    assert outcomes(records) == [("a.png", "failed", 3)]
    (failure,) = batch.failures
    assert (failure.source, failure.error, failure.machine, failure.attempts) == ("/source/a.png", "third", "here", 3)


def test_what_is_finished_is_not_sent_again_unless_everything_is(plan: JobPlan, records: Records) -> None:
    (plan.target.path / "a.png").write_bytes(b"12345")
    batch = batch_of(plan, records, file("a.png"))
    (task,) = batch.new_tasks()
    batch.on_result(task, done("a.png"), HERE)
    with open_records(plan.target, "later") as later:
        assert batch_of(plan, later, file("a.png")).unfinished == []
        touched = replace(file("a.png"), stamp=Stamp(10, "another version"))
        (task,) = batch_of(plan, later, touched).new_tasks()
        assert cast(PictureWork, task.work).finished_sha256 == {"a.png": "a" * 64}
        others = replace(plan, model=replace(plan.model, overlap_px=4))
        (task,) = batch_of(others, later, file("a.png")).new_tasks()
        assert cast(PictureWork, task.work).finished_sha256 == {}
        anew = replace(plan, video=replace(plan.video, resume=False))
        (task,) = batch_of(anew, later, file("a.png")).new_tasks()
        assert cast(PictureWork, task.work).finished_sha256 == {}


def test_settings_of_videos_do_not_concern_pictures(plan: JobPlan) -> None:
    other = replace(plan, video=replace(plan.video, crf=30))
    assert other.options_sha256(Kind.PICTURE) == plan.options_sha256(Kind.PICTURE)
    assert other.options_sha256(Kind.VIDEO) != plan.options_sha256(Kind.VIDEO)
    assert replace(plan, reuse="off").options_sha256(Kind.VIDEO) == plan.options_sha256(Kind.VIDEO)


def parts_of(name: str, count: int = 3) -> tuple[VideoPart, ...]:
    return tuple(
        VideoPart(file(name), number, 600 * number, 600 * (number + 1), Location("/staging")) for number in range(count)
    )


def part_done(part: VideoPart) -> PartDone:
    summary = PartSummary(FrameRange(part.first, part.end), ReadSummary(600, 0, 1, 0, 0.0, ()), 0, None)
    return PartDone(part, summary, 1.5, "fp32")


def divided(batch: Batch) -> list[Task[Work]]:
    (task,) = batch.new_tasks()
    result = VideoDivided(file("film.mp4"), parts_of("film.mp4"), ENCODING, "b" * 64)
    return list(batch.on_result(task, result, HERE))


def test_a_video_is_joined_after_its_last_part_in_order(plan: JobPlan, records: Records) -> None:
    reports: list[BatchProgress] = []
    batch = batch_of(plan, records, file("film.mp4"), reports=reports)
    parts = divided(batch)
    assert [task.priority for task in parts] == [Priority.PART] * 3
    follow_ups = [
        list(batch.on_result(parts[number], part_done(cast(PartWork, parts[number].work).item), node))
        for number, node in ((2, HERE), (0, THERE), (1, HERE))
    ]
    assert follow_ups[:2] == [[], []]
    (join,) = follow_ups[2]
    assert join.priority is Priority.JOIN
    assert isinstance(join.work, JoinWork)
    assert [summary.part.first for summary in join.work.summaries] == [0, 600, 1200]
    assert not batch.on_result(join, done("film.mp4", frames=1800, seconds=0.5), HERE)
    (record,) = cast(Notebook, records).appended
    assert (record.machine, record.seconds, record.result, record.attempts) == ("here, there", 5.0, "done", 1)
    batch.on_progress(0, 0)
    assert (reports[0].items, reports[0].total, reports[0].frames) == (4, 4, 1800)
    assert (batch.videos, batch.frames) == (1, 1800)


def test_a_video_with_inexact_parts_is_upscaled_in_one_piece(plan: JobPlan, records: Records) -> None:
    reports: list[BatchProgress] = []
    batch = batch_of(plan, records, file("film.mp4"), reports=reports)
    first, second, third = divided(batch)
    assert not list(batch.on_result(first, part_done(cast(PartWork, first.work).item), HERE))
    inexact = PartDone(cast(PartWork, second.work).item, None, 1.0, error="frame 700 is damaged", is_inexact=True)
    (whole,) = batch.on_result(second, inexact, HERE)
    assert whole.work == VideoWork(VideoItem(file("film.mp4")), {}, "frame 700 is damaged")
    assert not list(batch.on_result(third, part_done(cast(PartWork, third.work).item), HERE))
    assert not list(batch.on_result(whole, done("film.mp4", frames=1799), HERE))
    batch.on_progress(0, 0)
    assert (reports[0].items, reports[0].total, reports[0].frames) == (1, 1, 1799)


def test_a_part_that_fails_three_times_fails_the_video_once(plan: JobPlan, records: Records) -> None:
    batch = batch_of(plan, records, file("film.mp4"))
    first, second, third = divided(batch)
    task = second
    for node in (HERE, THERE):
        (task,) = batch.on_result(task, PartDone(cast(PartWork, task.work).item, None, 1.0, error="full disk"), node)
    assert not list(batch.on_break(task, "its process crashed", HERE))
    assert outcomes(records) == [("film.mp4", "failed", 3)]
    assert not list(batch.on_result(first, part_done(cast(PartWork, first.work).item), HERE))
    assert not list(batch.on_break(third, "its process crashed", HERE))
    assert outcomes(records) == [("film.mp4", "failed", 3)]


def test_parts_that_were_damaged_before_the_join_are_upscaled_again_but_not_forever(
    plan: JobPlan, records: Records
) -> None:
    batch = batch_of(plan, records, file("film.mp4"))
    tasks: list[Task[Work]] = divided(batch)
    lost = PartsLost(file("film.mp4"), (FrameRange(600, 1200),))
    repeated = 0
    while tasks:
        task = tasks.pop(0)
        if isinstance(task.work, PartWork):
            tasks += batch.on_result(task, part_done(task.work.item), HERE)
            repeated += task.work.item.first == 600
        else:
            tasks += batch.on_result(task, lost, HERE)
    assert repeated == 3
    ((item, outcome, _),) = outcomes(records)
    assert (item, outcome) == ("film.mp4", "failed")
