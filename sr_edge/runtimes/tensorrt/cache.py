"""Caches compiled engines on disk. Each is built once, even by several processes, and verified before it is loaded.

An engine is native code. A record beside it has everything that the engine depends on, its SHA-256, and an HMAC tag
made with the secret of the cache. So an engine that was changed or built elsewhere is detected before it is
deserialized.
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
from sr_edge.files.unfinished import remove_unfinished
from sr_edge.files.whole_file import whole_file
from sr_edge.runtimes.tensorrt.options import BuildOptions
from sr_edge.spec import OnEvent, Precision

FOLDER_VARIABLE = "SR_EDGE_CACHE"
_SECRET_FILE = "maker.key"
_SECRET_BYTES = 32
_SIGNATURE_BYTES = 32
_OTHER_VERSION = "its record is unreadable or was written by another version of sr-edge"


@dataclass(frozen=True)
class EngineKey:
    """Everything that an engine depends on: it serves no other model, device, build options or version of TensorRT."""

    model_sha256: str
    options: BuildOptions
    flavour: str
    version: str
    device: str
    compute_capability: str

    def __post_init__(self) -> None:
        # The path of the timing cache has no influence on what the engine computes.
        object.__setattr__(self, "options", replace(self.options, timing_cache=None))

    @property
    def name(self) -> str:
        """The file name without suffix. It leaves out the version, so a newer version replaces the engine."""
        key = to_plain(replace(self, version=""))
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return f"{self.model_sha256[:12]}-{self.options.precision}-{digest[:16]}"


@dataclass(frozen=True)
class EngineNotes:
    """Properties of an engine that only its build reveals: the precision that runs, remarks, and memory in bytes."""

    ran: Precision
    float_precision: Precision
    note: str = ""
    activation_bytes: int = 0
    weights_bytes: int = 0
    workspace_bytes: int = 0
    gpu_fallback_layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class EngineRecord:
    """The record beside an engine. `tag` is an HMAC of the other fields, made with the secret of the cache."""

    key: EngineKey
    notes: EngineNotes
    sha256: str
    size_bytes: int
    tag: str = ""


@dataclass(frozen=True)
class StoredEngine:
    """An engine whose bytes match its record; `was_built` is True if this call built it."""

    path: Path
    plan: bytes
    record: EngineRecord
    was_built: bool


class EngineCache:
    """A folder of engines, which any number of processes may use at the same time."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_folder()

    def fetch(self, key: EngineKey, build: Callable[[], tuple[bytes, EngineNotes]], on_event: OnEvent) -> StoredEngine:
        """The stored engine of `key`, or a new one if there is none or it is stale.

        If two processes request the same engine, the second waits and loads what the first has built. No incomplete
        file remains if `build` fails or the process is killed.

        Args:
            key: what the engine must be built from and for.
            build: builds the engine; called at most once.
            on_event: called with a message when this waits, or when a stored engine is stale.

        Raises:
            EngineError: the stored engine was not built by this cache.
        """
        waiting = f"waiting for another process, which builds the engine {key.name}"
        with self._exclusive(key.name, _files_of(key), lambda: on_event(waiting)):
            path, record = self._path(key), self._record(key.name)
            reason = self._mismatch(key, record, path)
            if reason is None and record is not None:
                plan = path.read_bytes()
                reason = _corruption(plan, record)
                if reason is None:
                    return StoredEngine(path, plan, record, was_built=False)
            if path.exists():
                on_event(f"the engine {path.name} is stale, {reason}: building it again")
            elif outdated := self._outdated(key):
                on_event(f"the engine {outdated[0].name} is stale, {_OTHER_VERSION}: building it again")
            plan, notes = build()
            return StoredEngine(path, plan, self._store(key, plan, notes), was_built=True)

    def adopt(self, key: EngineKey, plan: bytes, notes: EngineNotes) -> StoredEngine:
        """Stores an engine that was built elsewhere and that the user trusts, instead of any stored one."""
        with self._exclusive(key.name, _files_of(key)):
            return StoredEngine(self._path(key), plan, self._store(key, plan, notes), was_built=False)

    def write_signed(self, name: str, content: bytes) -> None:
        """Stores a file beside the engines, signed with the secret of the cache."""
        with self._exclusive(name, (name,)), whole_file(self.folder / name) as unfinished:
            unfinished.write_bytes(self._signature(content) + content)

    def read_signed(self, name: str) -> bytes:
        """The content that `write_signed` stored under that name; empty if there is none or the signature is wrong."""
        path = self.folder / name
        signed = path.read_bytes() if path.is_file() else b""
        content = signed[_SIGNATURE_BYTES:]
        return content if hmac.compare_digest(signed[:_SIGNATURE_BYTES], self._signature(content)) else b""

    def newest(self, key: EngineKey) -> EngineRecord | None:
        """The engine that was stored last for `key`'s model, precision, size and device, with any build options."""
        files = sorted(self.folder.glob("*.json"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
        for file in files:
            record = self._record(file.stem)
            if record is not None and _differs_in_build_options_only(record.key, key):
                return record
        return None

    def _path(self, key: EngineKey) -> Path:
        return self.folder / f"{key.name}.engine"

    def _record(self, name: str) -> EngineRecord | None:
        """The record of that name; None if it does not exist or is not one of this version of sr-edge."""
        try:
            return from_plain(EngineRecord, json.loads((self.folder / f"{name}.json").read_text("utf-8")), "record")
        except (OSError, ValueError, BundleError):
            return None

    def _outdated(self, key: EngineKey) -> list[Path]:
        """Engines of `key`'s model and precision whose records another version of sr-edge wrote."""
        engines = sorted(self.folder.glob(f"{key.name.rpartition('-')[0]}-*.engine"))
        return [engine for engine in engines if engine.with_suffix(".json").exists() and not self._record(engine.stem)]

    def _mismatch(self, key: EngineKey, record: EngineRecord | None, path: Path) -> str | None:
        """Why the engine at `path` is stale, None if it is not; raises EngineError if this cache did not build it."""
        if record is None:
            return _OTHER_VERSION
        if not path.is_file():
            return "its file does not exist"
        if not hmac.compare_digest(record.tag, self._tag(record)):
            raise EngineError(
                f"{path} was not built by this cache, or its record was changed, and loading an engine runs its code",
                found=path,
                wanted="an engine built by this cache",
                remedy=f"if you trust its origin, pass --trust-engine {path}, else delete it",
            )
        for item in fields(EngineKey):
            stored, requested = getattr(record.key, item.name), getattr(key, item.name)
            if stored != requested:
                return f"it was built for {item.name} {stored}, and {requested} is needed"
        return None

    def _store(self, key: EngineKey, plan: bytes, notes: EngineNotes) -> EngineRecord:
        """Writes the engine, then its record: if the process ends in between, the engine is built again."""
        record = EngineRecord(key, notes, hashlib.sha256(plan).hexdigest(), len(plan))
        record = replace(record, tag=self._tag(record))
        for path, content in (
            (self._path(key), plan),
            (self.folder / f"{key.name}.json", json_text(record).encode("utf-8")),
        ):
            with whole_file(path) as unfinished:
                unfinished.write_bytes(content)
        return record

    def _signature(self, content: bytes) -> bytes:
        return hmac.new(self._secret(), content, "sha256").digest()

    def _tag(self, record: EngineRecord) -> str:
        text = json.dumps(to_plain(replace(record, tag="")), sort_keys=True)
        return hmac.new(self._secret(), text.encode("utf-8"), "sha256").hexdigest()

    def _secret(self) -> bytes:
        """The secret of this cache, created on first use; without read access to it nobody can make a valid record."""
        path = self.folder / _SECRET_FILE
        with self._locked(path.with_suffix(".lock")):
            if not path.exists():
                with whole_file(path, 0o600) as unfinished:
                    unfinished.write_bytes(secrets.token_bytes(_SECRET_BYTES))
            return path.read_bytes()

    @contextmanager
    def _exclusive(
        self, name: str, files: tuple[str, ...], on_wait: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        """Takes the lock `name`, which protects `files`, and deletes temporary files that a killed process left."""
        with self._locked(self.folder / f"{name}.lock", on_wait):
            for file in files:
                remove_unfinished(self.folder / file)
            yield

    @contextmanager
    def _locked(self, path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Takes an advisory lock, which the operating system releases when the process ends, however it ends."""
        with self._opened(path) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _opened(self, path: Path) -> TextIO:
        """Opens a lock file; raises UsageError if the folder cannot be created or written."""
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


def user_cache() -> Path:
    """The folder in SR_EDGE_CACHE, or else that of sr-edge in the user's cache folder."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return Path(folder) if folder else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sr-edge"


def default_folder() -> Path:
    """The folder for engines in the user's cache."""
    return user_cache() / "engines"


def _files_of(key: EngineKey) -> tuple[str, str]:
    return f"{key.name}.engine", f"{key.name}.json"


def _corruption(plan: bytes, record: EngineRecord) -> str | None:
    """How `plan` differs from the engine that was stored; None if it does not."""
    if len(plan) != record.size_bytes:
        return f"truncated: the file has {len(plan)} of {record.size_bytes} bytes"
    if hashlib.sha256(plan).hexdigest() != record.sha256:
        return "changed since it was built (its SHA-256 differs)"
    return None


def _differs_in_build_options_only(stored: EngineKey, requested: EngineKey) -> bool:
    """Whether an engine of `stored` serves a session that requests `requested`'s model, precision and size."""
    same_device = replace(stored, options=requested.options, version=requested.version) == requested
    options = requested.options
    return same_device and stored.options == replace(
        stored.options,
        precision=options.precision,
        float_precision=options.float_precision,
        io=options.io,
        tile=options.tile,
    )
