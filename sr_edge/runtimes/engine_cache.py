"""Compiled engines on disk: found by what they were made from, checked before anyone loads them, built once.

An engine is native code. Each lies beside a record that names everything it depends on, its SHA-256, and a tag that
only this cache's own secret can make; so an engine that was changed, or that came from elsewhere, is noticed before it
is deserialised.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TextIO

from sr_edge.bundle.plain import from_plain, json_text, to_plain
from sr_edge.errors import BundleError, EngineError, UsageError
from sr_edge.runtimes.tensorrt_options import BuildOptions
from sr_edge.spec import Precision
from sr_edge.whole_file import whole_file

FOLDER_VARIABLE = "SR_EDGE_CACHE"
_SECRET_FILE = "maker.key"
_SECRET_BYTES = 32
_SEAL_BYTES = 32

OnEvent = Callable[[str], None]


@dataclass(frozen=True)
class EngineKey:
    """Everything that decides what an engine is: none fits another model, device, or version of TensorRT."""

    model_sha256: str
    options: BuildOptions
    flavour: str
    version: str
    device: str
    compute_capability: str

    def __post_init__(self) -> None:
        # Where measured times are kept changes nothing about the engine's meaning.
        object.__setattr__(self, "options", replace(self.options, timing_cache=None))

    @property
    def name(self) -> str:
        """The file's name without suffix. The version is no part of it: the next one's engine replaces this one's."""
        place = to_plain(replace(self, version=""))
        digest = hashlib.sha256(json.dumps(place, sort_keys=True).encode()).hexdigest()
        return f"{self.model_sha256[:12]}-{self.options.precision}-{digest[:16]}"


@dataclass(frozen=True)
class EngineNotes:
    """What the builder knew of an engine: the precision that runs, what it could not tell, and its memory in bytes."""

    ran: Precision
    float_precision: Precision
    note: str = ""
    activation_bytes: int = 0
    weights_bytes: int = 0
    workspace_bytes: int = 0
    fell_back: tuple[str, ...] = ()


@dataclass(frozen=True)
class EngineRecord:
    """What lies beside an engine. `tag` is an HMAC of all the rest with the cache's secret."""

    key: EngineKey
    notes: EngineNotes
    sha256: str
    size_bytes: int
    tag: str = ""


@dataclass(frozen=True)
class StoredEngine:
    """An engine whose bytes are those of its record; `was_built` says that this call built it."""

    path: Path
    plan: bytes
    record: EngineRecord
    was_built: bool


class EngineCache:
    """A folder of engines that any number of processes share."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()

    def fetch(self, key: EngineKey, build: Callable[[], tuple[bytes, EngineNotes]], on_event: OnEvent) -> StoredEngine:
        """The engine of `key`: the stored one where it still fits, else a new one; `on_event` hears why it is new.

        Two processes that want the same engine take turns: the second finds what the first built. Nothing is left
        behind where `build` fails or the process is killed.

        Raises:
            EngineError: the engine that lies there was not built by this cache.
        """
        with self._alone(key.name, _files_of(key), lambda: on_event(f"waiting: another process builds {key.name}")):
            path, record = self._path(key), self._record(key.name)
            reason = self._objection(key, record, path)
            if reason is None and record is not None:
                plan = path.read_bytes()
                reason = _damage(plan, record)
                if reason is None:
                    return StoredEngine(path, plan, record, was_built=False)
            if path.exists():
                on_event(f"engine {path.name} is stale, {reason}: building it again")
            plan, notes = build()
            return StoredEngine(path, plan, self._store(key, plan, notes), was_built=True)

    def adopt(self, key: EngineKey, plan: bytes, notes: EngineNotes) -> StoredEngine:
        """Takes an engine from elsewhere that the user vouches for, in the place of whatever is there."""
        with self._alone(key.name, _files_of(key)):
            return StoredEngine(self._path(key), plan, self._store(key, plan, notes), was_built=False)

    def write_sealed(self, name: str, content: bytes) -> None:
        """Keeps kernels that belong to an engine, behind a tag of this cache."""
        with self._alone(name, (name,)), whole_file(self.folder / name) as unfinished:
            unfinished.write_bytes(self._seal(content) + content)

    def read_sealed(self, name: str) -> bytes:
        """What `write_sealed` kept under that name; empty where there is nothing, or nothing of this cache's own."""
        path = self.folder / name
        sealed = path.read_bytes() if path.is_file() else b""
        content = sealed[_SEAL_BYTES:]
        return content if hmac.compare_digest(sealed[:_SEAL_BYTES], self._seal(content)) else b""

    def newest(self, key: EngineKey) -> EngineRecord | None:
        """The last engine stored for `key`'s model, precision, size and device, whatever its other options were."""
        files = sorted(self.folder.glob("*.json"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
        for file in files:
            record = self._record(file.stem)
            if record is not None and _differs_in_choices_only(record.key, key):
                return record
        return None

    def _path(self, key: EngineKey) -> Path:
        return self.folder / f"{key.name}.engine"

    def _record(self, name: str) -> EngineRecord | None:
        """The record of that name; None where there is none that can be read."""
        try:
            return from_plain(EngineRecord, json.loads((self.folder / f"{name}.json").read_text("utf-8")), "record")
        except (OSError, ValueError, BundleError):
            return None

    def _objection(self, key: EngineKey, record: EngineRecord | None, path: Path) -> str | None:
        """Why the engine at `path` may not be used; raises EngineError where it is not this cache's own."""
        if not path.is_file():
            return "the file is gone"
        if record is None:
            return "it has no readable record"
        if not hmac.compare_digest(record.tag, self._tag(record)):
            raise EngineError(
                f"{path} was not built by this cache, or its record was changed, and loading an engine runs its code",
                found=path,
                wanted="an engine built by this cache",
                remedy=f"if you trust its origin, pass --trust-engine {path}, else delete it",
            )
        found, wanted = record.key, key
        for item in fields(EngineKey):
            if getattr(found, item.name) != getattr(wanted, item.name):
                return f"made for {item.name} {getattr(found, item.name)}, here is {getattr(wanted, item.name)}"
        return None

    def _store(self, key: EngineKey, plan: bytes, notes: EngineNotes) -> EngineRecord:
        """The record goes last: an engine without its own record is built again."""
        record = EngineRecord(key, notes, hashlib.sha256(plan).hexdigest(), len(plan))
        record = replace(record, tag=self._tag(record))
        for path, content in (
            (self._path(key), plan),
            (self.folder / f"{key.name}.json", json_text(record).encode("utf-8")),
        ):
            with whole_file(path) as unfinished:
                unfinished.write_bytes(content)
        return record

    def _seal(self, content: bytes) -> bytes:
        return hmac.new(self._secret(), content, "sha256").digest()

    def _tag(self, record: EngineRecord) -> str:
        text = json.dumps(to_plain(replace(record, tag="")), sort_keys=True)
        return hmac.new(self._secret(), text.encode("utf-8"), "sha256").hexdigest()

    def _secret(self) -> bytes:
        """This cache's own, made on first use; whoever cannot read it cannot make records that pass."""
        path = self.folder / _SECRET_FILE
        with self._locked(path.with_suffix(".lock")):
            if not path.exists():
                with whole_file(path) as unfinished:
                    os.close(os.open(unfinished, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600))
                    unfinished.write_bytes(secrets.token_bytes(_SECRET_BYTES))
            return path.read_bytes()

    @contextmanager
    def _alone(self, name: str, files: tuple[str, ...], on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Holds the lock `name`, under which alone `files` are written; clears away what a killed process left."""
        with self._locked(self.folder / f"{name}.lock", on_wait):
            for file in files:
                for leftover in self.folder.glob(f".{file}.*.part"):
                    leftover.unlink(missing_ok=True)
            yield

    @contextmanager
    def _locked(self, path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """An advisory lock that the system drops when its holder dies."""
        with self._opened(path) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _opened(self, path: Path) -> TextIO:
        """Raises UsageError where the folder cannot be made or written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return path.open("w")
        except OSError as error:
            raise UsageError(
                f"engines cannot be stored in {self.folder}: {error.strerror}",
                found=self.folder,
                wanted="a writable folder",
                remedy=f"set {FOLDER_VARIABLE} to another folder",
            ) from error


def default_folder() -> Path:
    """SR_EDGE_CACHE, else the system's folder for caches."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    base = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sr-edge"
    return base / "engines"


def _files_of(key: EngineKey) -> tuple[str, str]:
    return f"{key.name}.engine", f"{key.name}.json"


def _damage(plan: bytes, record: EngineRecord) -> str | None:
    """How `plan` differs from what was stored."""
    if len(plan) != record.size_bytes:
        return f"truncated: {len(plan)} of {record.size_bytes} bytes are there"
    if hashlib.sha256(plan).hexdigest() != record.sha256:
        return "changed since it was built (its SHA-256 differs)"
    return None


def _differs_in_choices_only(found: EngineKey, wanted: EngineKey) -> bool:
    """Whether an engine of `found` serves a session that asks for `wanted`'s model and size on its device."""
    same = replace(found, options=wanted.options, version=wanted.version) == wanted
    mine, theirs = found.options, wanted.options
    return same and (mine.precision, mine.float_precision, mine.io, mine.tile) == (
        theirs.precision,
        theirs.float_precision,
        theirs.io,
        theirs.tile,
    )
