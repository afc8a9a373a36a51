"""Upscaling in one line: opens whatever runs, or exports what does not, and upscales any kind of picture with it."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy.typing as npt

import sr_edge.models
from sr_edge.bundle import Artifact, ArtifactKind, Bundle, Manifest, sha256_of
from sr_edge.bundle.manifest import MANIFEST_NAME
from sr_edge.controls import Controls
from sr_edge.errors import RuntimeUnavailable, UsageError
from sr_edge.export.graph.metadata import read_metadata
from sr_edge.export.graph.view import read_onnx
from sr_edge.files.unfinished import temporary_folder
from sr_edge.installation import how_to_install
from sr_edge.model_sources.engine_choice import EngineChoice
from sr_edge.model_sources.kinds import SourceKind, source_kind
from sr_edge.model_sources.open import open_model
from sr_edge.model_sources.sessions import open_frame_session
from sr_edge.quantities import whole_number
from sr_edge.spec import Precision
from sr_edge.upscaler import Upscaler
from sr_edge.upscaler.reuse_options import OFF, ReuseOptions
from sr_edge.upscaler.upscaler import Roi

DEFAULT_SCALE = 2
"""The magnification of a bundled network for which none is named."""

WEIGHTS_FOLDER = Path(sr_edge.models.__file__).parent / "weights"

KEPT_OPEN = 4
"""How many networks `upscale` keeps open."""

Kind = TypeVar("Kind")


def open_upscaler(
    model: Bundle | Path | str,
    scale: int | None = None,
    *,
    runtime: str | None = None,
    precision: Precision | str | None = None,
    device: str | None = None,
    float_precision: Precision | str | None = None,
    threads: int | None = None,
    slots: int | None = None,
    options: Mapping[str, str] | None = None,
    overlap_px: int | None = None,
    controls: Controls | None = None,
    reuse: ReuseOptions | str | float = OFF,
) -> Upscaler:
    """Opens an upscaler for pictures of any size and kind, which closes its session when it is closed.

        with sr_edge.open_upscaler("tiny-x2.sredge", precision="int8") as upscaler:
            large = upscaler("photo.png")

    Args:
        model: The path of a bundle or of an ONNX file, or an open bundle; or "convnet-tiny", the smallest bundled
            network. The other bundled networks (`sr-edge models`) and checkpoints are exported to a temporary fp32
            graph first, which needs torch and takes seconds; `sr-edge deploy` makes a bundle of them, which opens
            faster and also has INT8.
        scale: Magnification; None takes that of the file, and 2 for a bundled network.
        runtime: Name of the runtime; None takes the one that was measured to be the fastest, see `open_session`.
        precision: Precision of convolutions and matrix multiplications; None takes the one that was measured to be the
            fastest, see `open_session`.
        device: Device of the runtime; None takes the runtime's own.
        float_precision: Precision of the other operators of an INT8 network.
        threads: Number of threads on the CPU; None leaves it to the runtime.
        slots: Number of tiles that may be in flight; see `SessionRequest`.
        options: Settings of the runtime, by its own names.
        overlap_px: Minimum overlap of tiles in low-resolution pixels; None for the network's own.
        controls: Values of the network's controls; those not named take their defaults.
        reuse: "exact" for the frames of a camera or a video, see `Upscaler`.

    Returns:
        The upscaler. Any number of threads may use it; leaving its `with` block closes it.

    Raises:
        UsageError: The scale is not that of the file, or a bundled network has no weights for it; or an argument is
            wrong, as in `open_frame_session`.
        SrEdgeError: The errors of `open_frame_session`; for checkpoints and names also those of `load_network` and
            `export_onnx`.
    """
    reuse = ReuseOptions.parse(reuse)
    if scale is not None:
        scale = whole_number(scale, "scale", 1, "leave the scale out, or pass a whole number")
    EngineChoice.read(runtime, precision, float_precision, device, threads, slots)  # before a network is exported
    opened = ExitStack()
    with ExitStack() as resources:
        bundle = model if isinstance(model, Bundle) else _opened(model, scale, resources)
        _require_scale(bundle, scale)
        session = resources.enter_context(
            open_frame_session(
                bundle,
                runtime,
                precision,
                device,
                float_precision=float_precision,
                threads=threads,
                slots=slots,
                options=options,
            )
        )
        upscaler = Upscaler(session, overlap_px, controls, reuse=reuse, resources=opened)
        opened.enter_context(resources.pop_all())
    weakref.finalize(upscaler, _close_in, os.getpid(), opened)
    return upscaler


def _close_in(process: int, opened: ExitStack) -> None:
    """Closes what a forgotten upscaler had opened, but not in a forked process, whose parent still uses it."""
    if os.getpid() == process:
        opened.close()


@overload
def upscale(
    picture: str | Path,
    model: str | Path = "convnet-tiny",
    scale: int | None = None,
    *,
    order: str = "rgb",
    roi: Roi | None = None,
) -> npt.NDArray[Any]: ...


@overload
def upscale(
    picture: Kind,
    model: str | Path = "convnet-tiny",
    scale: int | None = None,
    *,
    order: str = "rgb",
    roi: Roi | None = None,
) -> Kind: ...


def upscale(
    picture: object,
    model: str | Path = "convnet-tiny",
    scale: int | None = None,
    *,
    order: str = "rgb",
    roi: Roi | None = None,
) -> object:
    """Upscales a picture, or several, in one call and gives back the kind that it got.

        large = sr_edge.upscale("photo.png", "tiny-x2.sredge")

    The network stays open in this process for the next call: the four that were used last, each with its engine in
    memory. A file that has changed is opened again. `open_upscaler` has more settings and closes when you say so. Any
    number of threads may call this at the same time.

    Args:
        picture: An array, a PIL image, a tensor, a path, or a list of these, as `Upscaler` takes them.
        model: The path of a bundle, an ONNX file or a checkpoint, or the name of a bundled network (`sr-edge models`).
            Checkpoints and names other than "convnet-tiny" are exported on their first use, which needs torch and
            takes seconds.
        scale: Magnification; None takes that of the file, and 2 for a bundled network.
        order: "bgr" for arrays and tensors whose first channel is blue, as OpenCV has them.
        roi: The part (x, y, width, height) to upscale, in pixels of the picture; None for all of it.

    Returns:
        The upscaled picture of the same kind; for a path, a numpy array.

    Raises:
        FrameError: It is not a picture, as in a call of `Upscaler`.
        UsageError: The order, the part or the scale is wrong.
        SrEdgeError: The model cannot be opened, as in `open_upscaler`; or the runtime failed.
    """
    return _kept_open(model, scale)(picture, order=order, roi=roi)


def _opened(model: Path | str, scale: int | None, resources: ExitStack) -> Bundle:
    """The bundle of a file, or a temporary one of a checkpoint or a bundled network; `resources` closes it."""
    if not isinstance(model, str | Path):
        raise UsageError(
            f"a {type(model).__name__} is neither a bundle nor a path",
            found=model,
            wanted=("Bundle", "Path", "str"),
            remedy="give the path of a bundle, an ONNX file or a checkpoint, or the name of a bundled network",
        )
    kind = source_kind(model)
    if kind not in (SourceKind.NAME, SourceKind.CHECKPOINT):
        return resources.enter_context(open_model(model))
    graph = _bundled_graph(str(model), DEFAULT_SCALE if scale is None else scale)
    if kind is not SourceKind.NAME or not graph.is_file():
        graph = _exported(model, scale, resources.enter_context(temporary_folder("export")))
    return _bundle_of_export(graph)


def _bundled_graph(name: str, scale: int) -> Path:
    """Where the exported graph of a bundled network would be: the smallest network has one, so that it needs no torch.

    `sr-edge export NAME --scale SCALE -o FILE` writes it.
    """
    return WEIGHTS_FOLDER / f"{name}-x{scale}.onnx"


def _bundle_of_export(graph: Path) -> Bundle:
    """A bundle of one graph that export has written, and compared with its network."""
    metadata = read_metadata(read_onnx(graph))
    tile = metadata.tile or metadata.card.default_tile
    shape = (1, metadata.card.channels, tile.height, tile.width)
    precision, digest = metadata.precision, sha256_of(graph)
    artifact = Artifact(graph.name, ArtifactKind.ONNX, precision, precision, None, metadata.io, shape, digest)
    return Bundle(graph, graph.parent, Manifest(metadata.card, tile, (artifact,)))


def _exported(model: Path | str, scale: int | None, folder: Path) -> Path:
    """The fp32 graph of a checkpoint or a bundled network, written to a folder."""
    try:
        from sr_edge.export import export_best_form
        from sr_edge.model_sources.network_choice import NetworkChoice
        from sr_edge.model_sources.networks import load_network
    except ModuleNotFoundError as error:
        raise RuntimeUnavailable(
            f"{model} is a PyTorch network, which cannot be exported here, because {error.name} is not installed",
            found=str(model),
            wanted="a bundle or an ONNX file",
            remedy=f"run: {how_to_install('export')}; or deploy it on a workstation and give the bundle",
        ) from error
    is_name = source_kind(model) is SourceKind.NAME
    network = load_network(NetworkChoice(str(model), DEFAULT_SCALE if is_name and scale is None else scale))
    graph = folder / f"{network.card.name}.onnx"
    export_best_form(network, network.tile or network.card.default_tile, graph)
    return graph


def _require_scale(bundle: Bundle, scale: int | None) -> None:
    own = bundle.manifest.card.scale
    if scale not in (None, own):
        raise UsageError(
            f"{bundle.path.name} enlarges pictures {own} times, not {scale} times",
            found=scale,
            wanted=own,
            remedy="leave the scale out, or name a network of that scale",
        )


_open: OrderedDict[tuple[object, ...], Upscaler] = OrderedDict()
_opening = threading.Lock()
_is_unusable = False


def _kept_open(model: str | Path, scale: int | None) -> Upscaler:
    """The open upscaler of a model; the one that was not used for longest is forgotten.

    An upscaler is closed once it is forgotten and the last thread that uses it is done, and when the program ends.
    """
    if _is_unusable:
        raise UsageError(
            "this process was forked from one that had upscaled already, and its engines do not survive that",
            found="fork",
            wanted="spawn",
            remedy='start processes with multiprocessing.get_context("spawn"), or upscale in threads',
        )
    key = (*_identity(model), scale)
    with _opening:
        upscaler = _open.pop(key, None) or open_upscaler(model, scale)
        _open[key] = upscaler
        while len(_open) > KEPT_OPEN:
            _open.popitem(last=False)
    return upscaler


def _identity(model: str | Path) -> tuple[object, ...]:
    """What is equal for the same name, and for the same file while it does not change."""
    try:
        path = Path(model).resolve()
        status = (path / MANIFEST_NAME if path.is_dir() else path).stat()
    except (OSError, TypeError):  # a bundled name, or what `open_upscaler` refuses
        return (str(model),)
    return (path, status.st_ino, status.st_mtime_ns, status.st_size)


def _note_fork() -> None:
    """In a forked process the threads of the engines do not exist, and OpenVINO would wait for them forever."""
    global _opening, _is_unusable
    _opening = threading.Lock()
    _is_unusable = _is_unusable or bool(_open)
    _open.clear()


os.register_at_fork(after_in_child=_note_fork)
