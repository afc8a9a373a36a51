"""What a worker process keeps while it works on a job: the unpacked model, and its one open engine."""

from __future__ import annotations

import fcntl
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sr_edge.bundle import Bundle, open_bundle, write_bundle
from sr_edge.bundle.manifest import MANIFEST_NAME
from sr_edge.errors import ClusterError, SrEdgeError
from sr_edge.files.cache_folder import cache_folder
from sr_edge.files.unfinished import temporary_folder, unfinished_folder
from sr_edge.installation import VERSION
from sr_edge.model_sources import ChosenEngine, EngineChoice, choose_engine, open_engine
from sr_edge.runtimes.registry import load_runtime, request_from_bundle
from sr_edge.runtimes.session import Session

LoadArchive = Callable[[], bytes]
"""Returns the packed bundle of the job, which is needed where a node does not have it yet."""


class NodeUnable(ClusterError):
    """This node cannot run the job; other nodes may be able to."""


@dataclass(frozen=True)
class JobModel:
    """The model of a job and the engine that runs it, the same for all tasks and nodes.

    Attributes:
        name: Name of the model's file, for messages.
        scale: Magnification of the network.
        sha256: Digest of all that decides what the bundle computes, `Manifest.digest`.
        engine: Runtime, precisions, device and threads; resolved once, so that all parts of a film look the same.
        overlap_px: Minimum overlap of tiles in low-resolution pixels; None for the network's own.
        controls: Values of the network's controls.
        version: Version of sr-edge, which all nodes must have.
    """

    name: str
    scale: int
    sha256: str
    engine: ChosenEngine
    overlap_px: int | None = None
    controls: Mapping[str, float] = field(default_factory=dict)
    version: str = VERSION


def pack_bundle(bundle: Bundle) -> bytes:
    """Packs the files that the manifest of a bundle lists, after their digests were verified, as a .zip archive.

    Raises:
        BundleError: A file is missing or damaged.
    """
    bundle.verify()
    with temporary_folder("batch") as folder:
        for file in bundle.manifest.digests():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.folder / file, folder / file)
        return write_bundle(folder / "packed.zip", bundle.manifest, folder).read_bytes()


def require_able(model: JobModel, load_archive: LoadArchive) -> None:
    """Checks that this node can run a job, without opening the engine.

    Raises:
        NodeUnable: It has another version of sr-edge, no such runtime or device, cannot compute the precision, or
            cannot store the bundle.
    """
    _require_version(model)
    with _unable_on_error():
        _require_runs(open_bundle(unpacked_bundle(model.sha256, load_archive)), model.engine)


def choose_here(choice: EngineChoice, sha256: str, load_archive: LoadArchive) -> ChosenEngine:
    """The engine that `choose_engine` chooses on this node.

    Args:
        choice: What the user chose.
        sha256: Digest of the bundle, `Manifest.digest`.
        load_archive: Called only if the cache does not have the bundle.

    Raises:
        NodeUnable: No runtime works here, or the one that was chosen cannot run the bundle.
    """
    with _unable_on_error():
        return require_choice(open_bundle(unpacked_bundle(sha256, load_archive)), choice)


def require_choice(bundle: Bundle, choice: EngineChoice) -> ChosenEngine:
    """Completes a choice by `choose_engine`; raises RuntimeUnavailable where the result cannot run here."""
    engine = choose_engine(bundle, choice)
    _require_runs(bundle, engine)
    return engine


def _require_runs(bundle: Bundle, engine: ChosenEngine) -> None:
    runtime = load_runtime(engine.runtime)
    for precision in (engine.precision, engine.float_precision):
        obstacle = runtime.obstacle(precision, engine.device)
        if obstacle is not None:
            raise obstacle
    request_from_bundle(bundle, engine.runtime, engine.precision, engine.device, float_precision=engine.float_precision)


def unpacked_bundle(sha256: str, load_archive: LoadArchive) -> Path:
    """The folder of a bundle in the cache of this node; it is unpacked there once, by one process.

    Args:
        sha256: Digest of the bundle, `Manifest.digest`.
        load_archive: Called only if the cache does not have the bundle.

    Raises:
        BundleError: The archive is another bundle, or damaged.
        OSError: The cache cannot be written.
    """
    folder = cache_folder("bundles")
    folder.mkdir(parents=True, exist_ok=True)
    bundle = folder / f"{sha256}.sredge"
    with (folder / f"{sha256}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel releases it when the process ends
        if not (bundle / MANIFEST_NAME).is_file():
            _unpack(load_archive(), sha256, bundle)
    return bundle


def _unpack(archive: bytes, sha256: str, bundle: Path) -> None:
    with unfinished_folder(bundle) as unfinished:
        file = unfinished / "packed.zip"
        file.write_bytes(archive)
        with open_bundle(file) as packed:
            packed.verify()
            if packed.manifest.digest() != sha256:
                raise NodeUnable(
                    "the bundle that arrived here is another one than that of the job",
                    found=packed.manifest.digest(),
                    wanted=sha256,
                    remedy="run the command again",
                )
            shutil.copytree(packed.folder, unfinished / "content")
        (unfinished / "content").replace(bundle)


@dataclass(frozen=True)
class _OpenEngine:
    key: tuple[str, ChosenEngine]
    session: Session
    resources: ExitStack


_open: _OpenEngine | None = None
_opening = threading.Lock()


def open_session(model: JobModel, load_archive: LoadArchive) -> Session:
    """The engine of this process, which is opened by its first task, and kept until a task of another job arrives.

    Args:
        model: The model of the job.
        load_archive: Called only if the cache of the node does not have the bundle.

    Raises:
        NodeUnable: The engine cannot be opened here, or it would run in another precision.
    """
    global _open
    key = (model.sha256, model.engine)
    with _opening:
        if _open is not None and _open.key == key:
            return _open.session
        close_session()
        _require_version(model)
        with _unable_on_error(), ExitStack() as resources:
            bundle = resources.enter_context(open_bundle(unpacked_bundle(model.sha256, load_archive)))
            session = resources.enter_context(open_engine(bundle, model.engine))
            _open = _OpenEngine(key, session, resources.pop_all())
        return session


def close_session() -> None:
    """Closes the engine of this process, if one is open."""
    global _open
    if _open is not None:
        _open.resources.close()
        _open = None


@contextmanager
def _unable_on_error() -> Iterator[None]:
    """Turns every error within the block into a NodeUnable that has the reason."""
    try:
        yield
    except NodeUnable:
        raise
    except SrEdgeError as error:
        raise NodeUnable(error.problem, found=error.found, wanted=error.wanted, remedy=error.remedy) from error
    except Exception as error:  # a library may raise anything where it does not work
        raise NodeUnable(f"{type(error).__name__}: {error}", remedy="run `sr-edge doctor` there") from error


def _require_version(model: JobModel) -> None:
    if model.version != VERSION:
        raise NodeUnable(
            f"it has sr-edge {VERSION}, and the job was started with {model.version}",
            found=VERSION,
            wanted=model.version,
            remedy="install the same version of sr-edge on all machines",
        )
