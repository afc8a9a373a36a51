"""Lists the runtimes and opens sessions on them; a runtime's library is imported when it is first needed.

To add a runtime, write its module (see `Runtime` in session.py) and add one entry to RUNTIMES.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from sr_edge.bundle import Artifact, Bundle, open_bundle
from sr_edge.errors import PrecisionUnavailable, RuntimeUnavailable, UnknownNameError, UsageError
from sr_edge.runtimes.engine.frame_session import session_over_graphs
from sr_edge.runtimes.session import Availability, Runtime, Session, SessionRequest
from sr_edge.spec import FrameFormat, Precision, member_of


@dataclass(frozen=True)
class RuntimeEntry:
    """One runtime of the registry.

    Attributes:
        name: the name that users choose it by.
        module: the module of this package that imports the library; it implements `Runtime` itself unless `factory` is
            set.
        library: the Python package that the module imports.
        extra: the extra of sr-edge that installs the library.
        description: the hardware that it runs on, in a few words.
        comes_with: what installs the library where the package index does not have it.
        device: the default device.
        factory: the function of `module` that makes the `Runtime` from the entry's name; empty if the module is one.
        compiled_ahead: whether engines take minutes to build; if so, `sr-edge compile` builds them beforehand.
    """

    name: str
    module: str
    library: str
    extra: str
    description: str
    comes_with: str = ""
    device: str = "cpu"
    factory: str = ""
    compiled_ahead: bool = False

    @property
    def how_to_install(self) -> str:
        return f'pip install "sr-edge[{self.extra}]"'


RUNTIMES = (
    RuntimeEntry("torch", "sr_edge.runtimes.torch", "torch", "export", "PyTorch in eager mode, the float reference"),
    RuntimeEntry("onnxruntime", "sr_edge.runtimes.onnxruntime", "onnxruntime", "onnxruntime", "CPUs, NVIDIA GPUs"),
    RuntimeEntry("openvino", "sr_edge.runtimes.openvino.runtime", "openvino", "openvino", "CPUs, Intel GPUs"),
    RuntimeEntry(
        "tensorrt",
        "sr_edge.runtimes.tensorrt.runtime",
        "tensorrt",
        "tensorrt",
        "Jetson, NVIDIA GPUs",
        comes_with="JetPack or CUDA",
        device="cuda",
        factory="load_tensorrt",
        compiled_ahead=True,
    ),
    RuntimeEntry(
        "tensorrt-rtx",
        "sr_edge.runtimes.tensorrt.runtime",
        "tensorrt_rtx",
        "rtx",
        "NVIDIA RTX GPUs",
        device="cuda",
        factory="load_tensorrt",
        compiled_ahead=True,
    ),
)

PREFERRED_RUNTIMES = ("openvino", "onnxruntime", "torch")
"""In the order of preference: the fastest first, as measured on CPUs."""


def runtime_names() -> list[str]:
    """Names of all runtimes of the registry."""
    return [entry.name for entry in RUNTIMES]


def find_entry(name: str) -> RuntimeEntry:
    """The entry of that name; raises UnknownNameError."""
    for entry in RUNTIMES:
        if entry.name == name:
            return entry
    raise UnknownNameError("runtime", name, runtime_names())


def load_runtime(name: str) -> Runtime:
    """Imports a runtime's module and its library.

    Raises:
        UnknownNameError: there is no runtime of that name.
        RuntimeUnavailable: its library is not installed or cannot be loaded.
    """
    entry = find_entry(name)
    try:
        module = importlib.import_module(entry.module)
        return cast(Runtime, getattr(module, entry.factory)(entry.name) if entry.factory else module)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == entry.library
        state = "is not installed" if absent else f"is installed but cannot be loaded ({error})"
        source = f" ({entry.library} itself comes with {entry.comes_with})" if entry.comes_with else ""
        raise RuntimeUnavailable(
            f"the library of runtime {name} {state}",
            found=None if absent else str(error),
            wanted=entry.library,
            remedy=f"run: {entry.how_to_install}{source}",
        ) from error


def availability(name: str) -> Availability:
    """Whether a runtime works on this machine, and with which devices; raises UnknownNameError only."""
    try:
        return load_runtime(name).availability()
    except RuntimeUnavailable as error:
        return Availability(works=False, reason=str(error), how_to_install=find_entry(name).how_to_install)


def preferred_runtime() -> str:
    """The first of PREFERRED_RUNTIMES that works on this machine; raises RuntimeUnavailable."""
    for name in PREFERRED_RUNTIMES:
        if availability(name).works:
            return name
    raise RuntimeUnavailable(
        f"none of the runtimes {', '.join(PREFERRED_RUNTIMES)} works here",
        wanted=PREFERRED_RUNTIMES,
        remedy="run `sr-edge doctor` to see why and what to install",
    )


def supports(name: str, precision: Precision, device: str = "cpu") -> bool:
    """Whether a runtime works on this machine and its library can compute `precision` on `device`.

    The precision that a graph runs in is known only once it has been compiled, see `SessionSpec.ran`.
    """
    try:
        return load_runtime(name).obstacle(precision, device) is None
    except RuntimeUnavailable:
        return False


def open_request(name: str, request: SessionRequest) -> Session:
    """Opens one artifact file; raises as `load_runtime` and `Runtime.open_request` do."""
    return load_runtime(name).open_request(request)


def open_session(
    bundle: Bundle | Path | str,
    runtime: str = "openvino",
    precision: Precision = Precision.FP32,
    device: str = "cpu",
    *,
    float_precision: Precision = Precision.FP32,
    io: FrameFormat | None = None,
    threads: int | None = None,
    slots: int | None = None,
    allow_other_precision: bool = False,
    options: Mapping[str, str] | None = None,
) -> Session:
    """Opens a session on a bundle.

    Args:
        bundle: an opened bundle or its path.
        runtime: name of the runtime.
        precision: precision of convolutions and matrix multiplications; bf16 runs the fp32 artifact in bf16. This,
            `float_precision` and `io` may be given by their names, for example "int8".
        device: device of the runtime, for example "cpu" or "cuda:1".
        float_precision: precision of the other operators of an INT8 network.
        io: frame format of the graph; None prefers float frames. `run` accepts both formats in any case.
        threads: number of threads on the CPU; None leaves it to the runtime.
        slots: number of tiles that may be in flight; see `SessionRequest`.
        allow_other_precision: open the session even if the graph runs in another precision; `spec.ran` has it.
        options: settings of the runtime, by its own names.

    Raises:
        UsageError: `bundle` is no bundle.
        UnknownNameError: there is no runtime or precision of that name.
        RuntimeUnavailable: its library or the device is not available.
        PrecisionUnavailable: the bundle has no artifact of that precision, or it cannot run here.
        BundleError: the bundle is damaged.
        EngineError: the library cannot compile the artifact.
    """
    find_entry(runtime)
    with _opened(bundle) as opened:
        request = request_from_bundle(
            opened,
            runtime,
            member_of(Precision, precision, "precision"),
            device,
            float_precision=member_of(Precision, float_precision, "float precision"),
            io=None if io is None else member_of(FrameFormat, io, "frame format"),
            threads=threads,
            slots=slots,
            allow_other_precision=allow_other_precision,
            options=options,
        )
        return open_request(runtime, request)


def _opened(bundle: Bundle | Path | str) -> AbstractContextManager[Bundle]:
    """The open bundle, which is closed at the end of the block if it was opened here."""
    if isinstance(bundle, Bundle):
        return nullcontext(bundle)
    if isinstance(bundle, (str, Path)):
        return open_bundle(bundle)
    raise UsageError(
        f"a {type(bundle).__name__} is not a bundle",
        found=bundle,
        wanted=("Bundle", "Path", "str"),
        remedy="give the path of a bundle, or an open bundle",
    )


def open_frame_session(
    bundle: Bundle | Path | str,
    runtime: str = "openvino",
    precision: Precision = Precision.FP32,
    device: str = "cpu",
    *,
    float_precision: Precision = Precision.FP32,
    threads: int | None = None,
    slots: int | None = None,
    options: Mapping[str, str] | None = None,
) -> Session:
    """Opens a session on the uint8 graph of a bundle, and on its float graph once float frames arrive.

    Where the bundle has no uint8 graph that can run here, and in a runtime whose engines `sr-edge compile` builds
    beforehand, for the float graph, this is `open_session`. Arguments and errors are those of `open_session`. The
    bundle's file must exist as long as the session is open.
    """
    path = bundle.path if isinstance(bundle, Bundle) else bundle
    open_graph = partial(
        open_session,
        path,
        runtime,
        precision,
        device,
        float_precision=float_precision,
        threads=threads,
        slots=slots,
        options=options,
    )
    return open_graph() if find_entry(runtime).compiled_ahead else session_over_graphs(open_graph)


def request_from_bundle(
    bundle: Bundle,
    runtime: str,
    precision: Precision,
    device: str = "cpu",
    *,
    float_precision: Precision = Precision.FP32,
    io: FrameFormat | None = None,
    threads: int | None = None,
    slots: int | None = None,
    allow_other_precision: bool = False,
    options: Mapping[str, str] | None = None,
) -> SessionRequest:
    """The request that `open_session` would open, for example in another process; valid while `bundle` is open.

    Raises:
        UnknownNameError, RuntimeUnavailable, PrecisionUnavailable, BundleError: as `open_session` does.
    """
    manifest = bundle.manifest
    artifact = load_runtime(runtime).choose_artifact(manifest.artifacts, precision, float_precision, io)
    if artifact is None:
        raise _no_artifact(bundle, runtime, precision, float_precision, io)
    return SessionRequest(
        artifact=bundle.file(artifact),
        card=manifest.card,
        tile=manifest.tile,
        precision=precision,
        float_precision=float_precision,
        activation_type=artifact.activation_type,
        io=artifact.io,
        device=device,
        threads=threads,
        slots=slots,
        allow_other_precision=allow_other_precision,
        architecture=manifest.architecture,
        options=options,
    )


def _no_artifact(
    bundle: Bundle, runtime: str, precision: Precision, float_precision: Precision, io: FrameFormat | None
) -> PrecisionUnavailable:
    left_out = bundle.manifest.left_out.get(str(precision))
    if left_out is not None:
        return PrecisionUnavailable(
            f"{bundle.path.name} was deployed without {precision}: {left_out}",
            found=precision,
            wanted=tuple(dict.fromkeys(artifact.precision for artifact in bundle.manifest.artifacts)),
            remedy="choose another precision",
        )
    requested = (
        f"{precision} with the other layers in {float_precision}" if precision is Precision.INT8 else str(precision)
    )
    frames = f" for {io} frames" if io else ""
    present = tuple(dict.fromkeys(_described(artifact) for artifact in bundle.manifest.artifacts))
    return PrecisionUnavailable(
        f"{bundle.path.name} has no artifact that {runtime} can run in {requested}{frames}, only {', '.join(present)}",
        found=(precision, float_precision, io),
        wanted=present,
        remedy="choose another runtime or precision, or deploy again with that one",
    )


def _described(artifact: Artifact) -> str:
    float_precision = (
        f"+{artifact.float_precision}"
        if artifact.float_precision is not artifact.precision and artifact.activation_type
        else ""
    )
    activation_type = f" ({artifact.activation_type} activations)" if artifact.activation_type else ""
    frames = f" ({artifact.io} frames)" if artifact.io is FrameFormat.UINT8_NHWC else ""
    return f"{artifact.kind} {artifact.precision}{float_precision}{activation_type}{frames}"
