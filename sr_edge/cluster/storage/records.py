"""The records of a target: what was made of each file, so that a later run skips what is finished.

Records are JSON lines. Each run begins with a line that names the schema and the job; then there is one line a file. A
line that is damaged, because a run was killed while it wrote it, is ignored. The last record of a file counts.

In a local target all runs append to `records.jsonl`. Objects cannot be appended to, so in an object store each run
writes objects of its own to `records/`, one at each `FLUSH_INTERVAL_S` with the records since the last one: what is
written grows with the records, and the driver keeps only the newest in memory.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from sr_edge.cluster.storage.folders import list_files
from sr_edge.cluster.storage.locations import (
    BATCH_FOLDER,
    Location,
    Stamp,
    read_bytes,
    stamp,
    storage_errors,
    write_bytes,
)
from sr_edge.errors import StorageError

SCHEMA = "sr-edge-batch-records/1"
DONE, KEPT, FAILED = "done", "kept", "failed"
"""Results of a record: written, found to be finished although the source was touched, or failed."""

FLUSH_INTERVAL_S = 10.0
_SYNC_INTERVAL_S = 1.0
"""A kill loses no record, since each is handed to the operating system; a power failure those of this time."""
_VALUE = struct.Struct("<16s16s32sq")
"""Digests of stamp and work, SHA-256 of the source, and bytes of the target."""


@dataclass(frozen=True)
class Record:
    """What was made of one file.

    Attributes:
        item: The path of the result below the target, which identifies the file.
        source: Path or URL of the source, without secrets.
        target: Path or URL of the result, without secrets.
        source_stamp: The stamp of the source before the work.
        source_sha256: Hexadecimal SHA-256 of the source; empty if it could not be read.
        target_bytes: Size of the result; 0 if it failed.
        bundle_sha256: Digest of the bundle.
        options_sha256: Digest of all options that change results, with runtime and precision.
        machine: The name of the machine.
        seconds: Duration of the work.
        precision: The precision that ran.
        runtime: The runtime.
        attempts: How often the work was started.
        result: `DONE`, `KEPT` or `FAILED`.
        error: Why it failed.
        notes: What was converted or left out, one sentence each.
    """

    item: str
    source: str
    target: str
    source_stamp: Stamp
    source_sha256: str
    target_bytes: int
    bundle_sha256: str
    options_sha256: str
    machine: str
    seconds: float
    precision: str
    runtime: str
    attempts: int
    result: str
    error: str = ""
    notes: tuple[str, ...] = ()

    @classmethod
    def parse(cls, content: Any) -> Record | None:
        """Reads a record that was stored as JSON; None if it is damaged."""
        if not isinstance(content, dict) or set(content) != {field.name for field in fields(cls)}:
            return None
        size_and_version, notes = content["source_stamp"], content["notes"]
        if not isinstance(size_and_version, list) or len(size_and_version) != 2 or not isinstance(notes, list):
            return None
        record = cls(**{**content, "source_stamp": Stamp(*size_and_version), "notes": tuple(notes)})
        texts = (record.item, record.source_sha256, record.bundle_sha256, record.options_sha256, record.result)
        is_valid = all(isinstance(text, str) for text in texts) and isinstance(record.target_bytes, int)
        return record if is_valid and record.result in (DONE, KEPT, FAILED) else None

    @property
    def line(self) -> bytes:
        return _json_line(asdict(self))


def new_job_id() -> str:
    """A name for a job, by which jobs are in the order of their starts, for example 20261201T134500Z-8c1f."""
    return f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


class Records:
    """The records of earlier runs, and the file to which this run adds its own. Made by `open_records`."""

    def __init__(self, place: Location, sink: _Sink, lines: Iterable[bytes]) -> None:
        self.place = place
        self.ignored_lines = 0
        self._sink = sink
        self._finished: dict[bytes, bytes] = {}
        for line in lines:
            self._read(line)

    def is_finished(
        self, item: str, source: Stamp, bundle_sha256: str, options_sha256: str, target_bytes: int | None
    ) -> bool:
        """Whether the result of a file exists and was made of the same source in the same way.

        Args:
            item: The path of the result below the target.
            source: The stamp of the source now. One without a version is never enough.
            bundle_sha256: Digest of the bundle of this job.
            options_sha256: Digest of the options of this job.
            target_bytes: Size of the result now; None if there is none.
        """
        known = self._same_work(item, bundle_sha256, options_sha256, target_bytes)
        return known is not None and bool(source.version) and known[0] == _digest(*map(str, source))

    def finished_sha256(
        self, item: str, bundle_sha256: str, options_sha256: str, target_bytes: int | None
    ) -> str | None:
        """The SHA-256 of the source that an existing result was made of in the same way; None if there is none.

        A worker compares it with a source whose stamp differs, for example because it was copied.
        """
        known = self._same_work(item, bundle_sha256, options_sha256, target_bytes)
        return known[2].hex() if known else None

    def append(self, record: Record) -> None:
        """Adds a record. Raises StorageError if it cannot be written."""
        with storage_errors(self.place, "write"):
            self._sink.write(record.line)

    def flush_if_due(self) -> None:
        """Writes records that wait for it; call it regularly. Raises StorageError if they cannot be written."""
        with storage_errors(self.place, "write"):
            self._sink.flush_if_due()

    def close(self) -> None:
        """Writes all records. Raises StorageError if they cannot be written."""
        with storage_errors(self.place, "write"):
            self._sink.close()

    def _same_work(
        self, item: str, bundle_sha256: str, options_sha256: str, target_bytes: int | None
    ) -> tuple[bytes, bytes, bytes, int] | None:
        value = self._finished.get(_digest(item))
        if value is None or target_bytes is None:
            return None
        stamp_digest, work_digest, sha256, size = _VALUE.unpack(value)
        if work_digest != _digest(bundle_sha256, options_sha256) or size != target_bytes:
            return None
        return stamp_digest, work_digest, sha256, size

    def _read(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            content = json.loads(line)
        except ValueError:  # also for bytes that are not UTF-8
            content = None
        if isinstance(content, dict) and "schema" in content:
            self._require_schema(content["schema"])
            return
        record = Record.parse(content)
        sha256 = _sha256_bytes(record.source_sha256) if record else None
        if record is None or (sha256 is None and record.result != FAILED):
            self.ignored_lines += 1
        elif sha256 is None or record.result == FAILED:
            self._finished.pop(_digest(record.item), None)
        else:
            work = _digest(record.bundle_sha256, record.options_sha256)
            stamp_digest = _digest(*map(str, record.source_stamp))
            self._finished[_digest(record.item)] = _VALUE.pack(stamp_digest, work, sha256, record.target_bytes)

    def _require_schema(self, schema: object) -> None:
        if schema != SCHEMA:
            raise StorageError(
                f"the records in {self.place} have the schema {schema}",
                found=schema,
                wanted=SCHEMA,
                remedy="use the version of sr-edge that wrote them, or another folder for the results",
            )


@contextmanager
def open_records(target: Location, job: str, now: Callable[[], float] = time.monotonic) -> Iterator[Records]:
    """Reads the records of a target and opens those of this run. Only one process may do that: see `target_lock`.

    Args:
        target: The folder of the results.
        job: The name of this run, from `new_job_id`.
        now: Seconds that only increase.

    Raises:
        StorageError: The records cannot be read or written, or have another schema.
    """
    folder = target.join(BATCH_FOLDER)
    header = _json_line({"schema": SCHEMA, "job": job})
    if target.is_local:
        place = folder.join("records.jsonl")
        records = Records(place, _AppendedFile(place, header, now), _lines_of_file(place))
    else:
        place = folder.join("records")
        records = Records(place, _Objects(place, job, header, now), _lines_of_objects(place))
    try:
        yield records
    finally:
        records.close()


class TargetSizes:
    """The sizes of the files that are in a target; those of an object store are listed once, when this is made."""

    def __init__(self, target: Location) -> None:
        """Lists an object store.

        Raises:
            StorageError: The target cannot be read.
        """
        self._target = target
        self._sizes: dict[bytes, int] = {}
        if not target.is_local:
            self._sizes = {_digest(path): file.size for path, file in list_files(target)}

    def of(self, name: str) -> int | None:
        """The size of the file at a path below the target; None if there is none."""
        if not self._target.is_local:
            return self._sizes.get(_digest(name))
        present = stamp(self._target.join(name))
        return present.size if present else None


class _Sink(Protocol):
    """Where the lines of this run go."""

    def write(self, line: bytes) -> None: ...

    def flush_if_due(self) -> None: ...

    def close(self) -> None: ...


class _AppendedFile:
    """A local file, opened with its first line."""

    def __init__(self, place: Location, header: bytes, now: Callable[[], float]) -> None:
        self._path, self._header, self._now = place.path, header, now
        self._file: BinaryIO | None = None
        self._synced_at = now()

    def write(self, line: bytes) -> None:
        if self._file is None:
            self._file = self._opened()
            self._file.write(self._header)
        self._file.write(line)
        self._file.flush()
        self.flush_if_due()

    def flush_if_due(self) -> None:
        if self._file is not None and self._now() >= self._synced_at + _SYNC_INTERVAL_S:
            os.fsync(self._file.fileno())
            self._synced_at = self._now()

    def close(self) -> None:
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def _opened(self) -> BinaryIO:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("ab")
        if _ends_within_a_line(self._path):  # what a killed run began must not damage the next line
            file.write(b"\n")
        return file


class _Objects:
    """Objects of this run, written at intervals."""

    def __init__(self, place: Location, job: str, header: bytes, now: Callable[[], float]) -> None:
        self._place, self._job, self._header, self._now = place, job, header, now
        self._waiting: list[bytes] = []
        self._written = 0
        self._flushed_at = now()

    def write(self, line: bytes) -> None:
        self._waiting.append(line)
        self.flush_if_due()

    def flush_if_due(self) -> None:
        if self._now() >= self._flushed_at + FLUSH_INTERVAL_S:
            self.close()

    def close(self) -> None:
        if self._waiting:
            name = f"{self._job}-{self._written:06}.jsonl"
            write_bytes(self._place.join(name), b"".join((self._header, *self._waiting)))
            self._waiting.clear()
            self._written += 1
        self._flushed_at = self._now()


def _lines_of_file(place: Location) -> Iterator[bytes]:
    with storage_errors(place, "read"):
        if place.path.exists():
            with place.path.open("rb") as file:
                yield from file


def _lines_of_objects(place: Location) -> Iterator[bytes]:
    for name in sorted(name for name, _ in list_files(place)):
        yield from io.BytesIO(read_bytes(place.join(name)) or b"")


def _ends_within_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _json_line(content: object) -> bytes:
    """One line of ASCII, in which names of any bytes can be stored."""
    return json.dumps(content).encode("ascii") + b"\n"


def _digest(*texts: str) -> bytes:
    """16 bytes for texts of any length, so that the records of a million files fit into memory."""
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.digest()


def _sha256_bytes(text: str) -> bytes | None:
    """The bytes of a hexadecimal SHA-256; None if it is none."""
    try:
        content = bytes.fromhex(text)
    except ValueError:
        return None
    return content if len(content) == 32 else None
