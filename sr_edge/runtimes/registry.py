"""Lists the runtimes and opens sessions on them; a runtime's library is imported when it is first needed.

To add a runtime, write its module (see `Runtime` in session.py) and add one entry to RUNTIMES.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from sr_edge.bundle import Bundle
from sr_edge.errors import PrecisionUnavailable, RuntimeUnavailable, UnknownNameError
from sr_edge.installation import how_to_install
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
        layer_times: the module that implements `ReportsLayerTimes`; empty if the layers cannot be timed.
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
    layer_times: str = ""

    @property
    def how_to_install(self) -> str:
        """The command that installs the extra."""
        return how_to_install(self.extra)


RUNTIMES = (
    RuntimeEntry("torch", "sr_edge.runtimes.torch", "torch", "export", "PyTorch in eager mode, the float reference"),
    RuntimeEntry(
        "onnxruntime",
        "sr_edge.runtimes.onnxruntime.runtime",
        "onnxruntime",
        "onnxruntime",
        "CPUs, NVIDIA GPUs",
        layer_times="sr_edge.runtimes.onnxruntime.layer_times",
    ),
    RuntimeEntry(
        "openvino",
        "sr_edge.runtimes.openvino.runtime",
        "openvino",
        "openvino",
        "CPUs, Intel GPUs",
        layer_times="sr_edge.runtimes.openvino.layer_times",
    ),
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

PREFERRED_RUNTIMES = ("tensorrt", "tensorrt-rtx", "openvino", "onnxruntime", "torch")
"""In the order of preference: a GPU before the CPU, and on CPUs the fastest first, as measured."""


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


def preferred_runtime(device: str | None = None) -> str:
    """The first of PREFERRED_RUNTIMES that works on this machine, on `device` if one is named.

    Raises:
        RuntimeUnavailable: None works, or none has the device; the error names those that work.
    """
    return next(working_runtimes(device))


def working_runtimes(device: str | None = None) -> Iterator[str]:
    """Those of PREFERRED_RUNTIMES that work on this machine, on `device` if one is named; there is at least one.

    A runtime's library is imported only when the iteration reaches it.

    Raises:
        RuntimeUnavailable: None works, or none has the device; the error names those that work.
    """
    working: list[str] = []
    has_any = False
    for name in PREFERRED_RUNTIMES:
        available = availability(name)
        if not available.works:
            continue
        working += [f"{name} on {each.name}" for each in available.devices]
        if device is None or _has_device(name, device):
            has_any = True
            yield name
    if has_any:
        return
    if not working:
        raise RuntimeUnavailable(
            f"none of the runtimes {', '.join(PREFERRED_RUNTIMES)} works here",
            wanted=PREFERRED_RUNTIMES,
            remedy="run `sr-edge doctor` to see why and what to install",
        )
    raise RuntimeUnavailable(
        f"no runtime has the device {device!r} here; what works: {', '.join(working)}",
        found=device,
        wanted=tuple(working),
        remedy="choose one of these, or run `sr-edge doctor` to see what else can be installed",
    )


def _has_device(name: str, device: str) -> bool:
    try:
        load_runtime(name).obstacle(Precision.FP32, device)
    except RuntimeUnavailable:
        return False
    return True


def supports(name: str, precision: Precision | str, device: str = "cpu") -> bool:
    """Whether a runtime works on this machine and its library can compute `precision` on `device`.

    The precision that a graph runs in is known only once it has been compiled, see `SessionSpec.ran`.

    Args:
        name: name of the runtime.
        precision: the precision.
        device: the device.
    """
    precision = member_of(Precision, precision, "precision")
    try:
        return load_runtime(name).obstacle(precision, device) is None
    except RuntimeUnavailable:
        return False


def open_request(name: str, request: SessionRequest) -> Session:
    """Opens one artifact file; raises as `load_runtime` and `Runtime.open_request` do.

    Args:
        name: name of the runtime.
        request: the artifact, its precision and its resources.
    """
    return load_runtime(name).open_request(request)


def request_from_bundle(
    bundle: Bundle,
    runtime: str,
    precision: Precision | str,
    device: str = "cpu",
    *,
    float_precision: Precision | str = Precision.FP32,
    io: FrameFormat | str | None = None,
    threads: int | None = None,
    slots: int | None = None,
    allow_other_precision: bool = False,
    options: Mapping[str, str] | None = None,
) -> SessionRequest:
    """The request for the artifact of a bundle that a runtime opens; valid while `bundle` is open.

    Args:
        bundle: an open bundle.
        runtime: name of the runtime.
        precision: precision of convolutions and matrix multiplications; bf16 runs the fp32 artifact in bf16.
        device: device of the runtime, for example "cpu" or "cuda:1".
        float_precision: precision of the other operators of an INT8 network.
        io: frame format of the graph; None prefers float frames. `run` accepts both formats in any case.
        threads: number of threads on the CPU; None leaves it to the runtime.
        slots: number of tiles that may be in flight; see `SessionRequest`.
        allow_other_precision: open the session even if the graph runs in another precision; `spec.ran` has it.
        options: settings of the runtime, by its own names.

    Raises:
        UnknownNameError: there is no runtime of that name.
        RuntimeUnavailable: its library is not available.
        PrecisionUnavailable: the bundle has no artifact of that precision.
        BundleError: the bundle is damaged.
    """
    precision = member_of(Precision, precision, "precision")
    float_precision = member_of(Precision, float_precision, "float precision")
    io = None if io is None else member_of(FrameFormat, io, "frame format")
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
        nv12_colour=artifact.nv12_colour,
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
    if runtime == "torch" and precision is not Precision.INT8 and not bundle.manifest.architecture:
        return PrecisionUnavailable(
            f"{bundle.path.name} has no PyTorch network: it was made from an ONNX file or a TorchScript program",
            found=runtime,
            wanted="a bundle that was made from a checkpoint, a name or a factory",
            remedy="choose another runtime",
        )
    frames = f" with {io} frames" if io else ""
    present = _precisions_present(bundle, runtime, io)
    return PrecisionUnavailable(
        f"{bundle.path.name} has no file that {runtime} can run in {_label(precision, float_precision)}{frames}",
        found=(precision, float_precision, io),
        wanted=present,
        remedy=f"choose one of: {', '.join(present)}" if present else "choose another runtime",
    )


def _precisions_present(bundle: Bundle, runtime: str, io: FrameFormat | None) -> tuple[str, ...]:
    """The precisions for which a bundle has a file for a runtime, as tables show them."""
    choose = load_runtime(runtime).choose_artifact
    floats = [precision for precision in Precision if precision is not Precision.INT8]
    pairs: list[tuple[Precision, Precision]] = [(precision, Precision.FP32) for precision in floats]
    pairs += [(Precision.INT8, precision) for precision in floats]
    return tuple(_label(*pair) for pair in pairs if choose(bundle.manifest.artifacts, *pair, io) is not None)


def _label(precision: Precision, float_precision: Precision) -> str:
    is_mixed = precision is Precision.INT8 and float_precision is not Precision.FP32
    return f"{precision}+{float_precision}" if is_mixed else str(precision)
