"""Records: what is finished is found again, whatever ended the run that wrote it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sr_edge.cluster.storage.folders import list_files
from sr_edge.cluster.storage.locations import BATCH_FOLDER, Location, Stamp, read_bytes, write_bytes
from sr_edge.cluster.storage.records import (
    DONE,
    FAILED,
    FLUSH_INTERVAL_S,
    KEPT,
    SCHEMA,
    Record,
    TargetSizes,
    new_job_id,
    open_records,
)
from sr_edge.errors import StorageError
from tests.expected_errors import raises

STAMP = Stamp(100, "1-2-3")
RECORD = Record(
    item="a/größe\n.png",
    source="/photos/a/größe\n.png",
    target="/large/a/größe\n.png",
    source_stamp=STAMP,
    source_sha256="ab" * 32,
    target_bytes=400,
    bundle_sha256="bundle",
    options_sha256="options",
    machine="node-1",
    seconds=1.5,
    precision="int8",
    runtime="openvino",
    attempts=1,
    result=DONE,
)


@pytest.fixture(params=["local", "memory", "s3"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """An empty folder of each kind."""
    if request.param == "local":
        return Location(str(tmp_path / "results"))
    location: Location = request.getfixturevalue(request.param)
    return location


@pytest.fixture
def folder(tmp_path: Path) -> Location:
    return Location(str(tmp_path / "results"))


def add(target: Location, *records: Record, job: str = "job-1") -> None:
    with open_records(target, job) as opened:
        for record in records:
            opened.append(record)


def is_finished(target: Location, record: Record, **changes: object) -> bool:
    asked = replace(record, **changes)  # type: ignore[arg-type]
    with open_records(target, "job-9") as records:
        return records.is_finished(
            asked.item, asked.source_stamp, asked.bundle_sha256, asked.options_sha256, asked.target_bytes
        )


class TestFinishedFile:
    def test_is_found_by_the_next_run(self, target: Location) -> None:
        assert not is_finished(target, RECORD)
        add(target, RECORD)
        assert is_finished(target, RECORD)

    @pytest.mark.parametrize(
        "changes",
        [
            {"item": "a/other.png"},
            {"source_stamp": Stamp(101, "1-2-3")},
            {"source_stamp": Stamp(100, "1-2-4")},
            {"bundle_sha256": "other"},
            {"options_sha256": "other"},
            {"target_bytes": 401},
        ],
    )
    def test_is_done_again_after_a_change(self, folder: Location, changes: dict[str, object]) -> None:
        add(folder, RECORD)
        assert not is_finished(folder, RECORD, **changes)

    def test_is_done_again_without_its_result(self, folder: Location) -> None:
        add(folder, RECORD)
        with open_records(folder, "job-2") as records:
            assert not records.is_finished(RECORD.item, STAMP, "bundle", "options", None)
            assert records.finished_sha256(RECORD.item, "bundle", "options", None) is None

    def test_is_never_sure_without_a_version(self, folder: Location) -> None:
        record = replace(RECORD, source_stamp=Stamp(100, ""))
        add(folder, record)
        assert not is_finished(folder, record)
        with open_records(folder, "job-2") as records:
            assert records.finished_sha256(record.item, "bundle", "options", 400) == record.source_sha256

    def test_has_the_last_record(self, target: Location) -> None:
        add(target, RECORD, replace(RECORD, target_bytes=500), job="job-1")
        assert not is_finished(target, RECORD)
        add(target, replace(RECORD, result=FAILED, source_sha256="", target_bytes=0, error="damaged"), job="job-2")
        assert not is_finished(target, RECORD, target_bytes=500)
        add(target, replace(RECORD, result=KEPT), job="job-3")
        assert is_finished(target, RECORD)


class TestFile:
    def test_has_one_line_a_record_after_the_schema(self, folder: Location) -> None:
        add(folder, RECORD)
        lines = [json.loads(line) for line in folder.join(BATCH_FOLDER, "records.jsonl").path.read_bytes().splitlines()]
        assert lines[0] == {"schema": SCHEMA, "job": "job-1"}
        assert Record.parse(lines[1]) == RECORD
        assert len(lines) == 2

    def test_has_every_record_at_once(self, folder: Location) -> None:
        with open_records(folder, "job-1") as records:
            records.append(RECORD)
            assert is_finished(folder, RECORD)

    @pytest.mark.parametrize("kept", [1, 20, -1])
    def test_that_was_cut_by_a_kill_is_read(self, folder: Location, kept: int) -> None:
        place = folder.join(BATCH_FOLDER, "records.jsonl").path
        add(folder, RECORD)
        place.write_bytes(place.read_bytes() + replace(RECORD, item="b.png").line[:kept])
        with open_records(folder, "job-2") as records:
            assert records.ignored_lines == (0 if kept == -1 else 1)
            records.append(replace(RECORD, item="c.png"))
        assert is_finished(folder, RECORD)
        assert is_finished(folder, RECORD, item="c.png")

    @pytest.mark.parametrize(
        "line",
        [
            *(b"\xff\xfe\n", b"[]\n", b"{}\n", b"null\n", RECORD.line[:40] + b"\n"),
            *(RECORD.line.replace(b'"ab', b'"xy'), RECORD.line.replace(b"400", b'"many"')),
            *(RECORD.line.replace(b'"done"', b'"half"'), RECORD.line.replace(b'[100, "1-2-3"]', b"[100]")),
        ],
    )
    def test_with_damaged_lines_is_read(self, folder: Location, line: bytes) -> None:
        place = folder.join(BATCH_FOLDER, "records.jsonl").path
        add(folder, RECORD)
        place.write_bytes(line + place.read_bytes() + b"\n")
        with open_records(folder, "job-2") as records:
            assert records.ignored_lines == 1
            assert records.is_finished(RECORD.item, STAMP, "bundle", "options", 400)

    def test_of_another_schema_is_refused(self, folder: Location) -> None:
        write_bytes(folder.join(BATCH_FOLDER, "records.jsonl"), b'{"schema": "sr-edge-batch-records/99", "job": "x"}\n')
        with raises(StorageError, found="sr-edge-batch-records/99", wanted=SCHEMA), open_records(folder, "job-1"):
            pass

    def test_in_a_folder_that_is_a_file_is_refused(self, folder: Location) -> None:
        write_bytes(folder.join(BATCH_FOLDER), b"")
        with raises(StorageError), open_records(folder, "job-1") as records:
            records.append(RECORD)

    def test_is_not_written_without_records(self, folder: Location) -> None:
        add(folder)
        assert not folder.path.exists()


class TestObjects:
    def test_are_written_at_intervals(self, memory: Location) -> None:
        seconds = 0.0
        now: Callable[[], float] = lambda: seconds  # noqa: E731
        with open_records(memory, "job-1", now) as records:
            records.append(RECORD)
            assert list(list_files(memory)) == []
            seconds += FLUSH_INTERVAL_S
            records.flush_if_due()
            assert is_finished(memory, RECORD)
            seconds += FLUSH_INTERVAL_S / 2
            records.append(replace(RECORD, item="b.png"))
            records.append(replace(RECORD, item="c.png"))
            assert len(list(list_files(memory))) == 1
        names = [name for name, _ in list_files(memory.join(BATCH_FOLDER, "records"))]
        assert names == ["job-1-000000.jsonl", "job-1-000001.jsonl"]
        lines = (read_bytes(memory.join(BATCH_FOLDER, "records", names[1])) or b"").splitlines()
        assert len(lines) == 3

    def test_of_an_interrupted_run_are_written(self, s3: Location) -> None:
        with pytest.raises(KeyboardInterrupt), open_records(s3, "job-1") as records:
            records.append(RECORD)
            raise KeyboardInterrupt
        assert is_finished(s3, RECORD)

    def test_that_cannot_be_written_are_an_error(self, s3_settings: None) -> None:
        with raises(StorageError), open_records(Location("s3://no-such-bucket"), "job-1") as records:
            records.append(RECORD)


def test_jobs_are_in_the_order_of_their_names() -> None:
    first, second = new_job_id(), new_job_id()
    assert first != second
    assert first[:8] <= second[:8]


def test_sizes_of_the_target_are_known(target: Location) -> None:
    write_bytes(target.join("a/größe.png"), bytes(300))
    sizes = TargetSizes(target)
    assert (sizes.of("a/größe.png"), sizes.of("a/b.png"), sizes.of("a")) == (300, None, None)
