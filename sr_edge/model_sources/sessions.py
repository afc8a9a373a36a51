"""Opens sessions on whatever can run: a bundle or an ONNX file, open or named by its path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from sr_edge.bundle import Bundle
from sr_edge.errors import UsageError
from sr_edge.model_sources.open import open_model
from sr_edge.runtimes.engine.frame_session import session_over_graphs
from sr_edge.runtimes.registry import find_entry, open_request, request_from_bundle
from sr_edge.runtimes.session import Session
from sr_edge.spec import FrameFormat, Precision, member_of


def open_session(
    model: Bundle | Path | str,
    runtime: str = "openvino",
    precision: Precision | str | None = None,
    device: str = "cpu",
    *,
    float_precision: Precision | str = Precision.FP32,
    io: FrameFormat | str | None = None,
    threads: int | None = None,
    slots: int | None = None,
    allow_other_precision: bool = False,
    options: Mapping[str, str] | None = None,
) -> Session:
    """Opens a session on a bundle or an ONNX file.

    Args:
        model: an open bundle, or the path of a bundle or of an ONNX file. Open an ONNX file with `open_model` to state
            its range of values, order of channels or tile.
        runtime: name of the runtime.
        precision: precision of convolutions and matrix multiplications; bf16 runs the fp32 artifact in bf16. None takes
            fp32, or the precision of an ONNX file that has no fp32 graph. This, `float_precision` and `io` may be given
            by their names, for example "int8".
        device: device of the runtime, for example "cpu" or "cuda:1".
        float_precision: precision of the other operators of an INT8 network.
        io: frame format of the graph; None prefers float frames. `run` accepts both formats in any case.
        threads: number of threads on the CPU; None leaves it to the runtime.
        slots: number of tiles that may be in flight; see `SessionRequest`.
        allow_other_precision: open the session even if the graph runs in another precision; `spec.ran` has it.
        options: settings of the runtime, by its own names.

    Raises:
        UsageError: `model` is neither a bundle nor a path.
        UnknownNameError: there is no runtime, precision or frame format of that name.
        RuntimeUnavailable: its library or the device is not available.
        PrecisionUnavailable: the bundle has no artifact of that precision, or it cannot run here.
        BundleError: the bundle is damaged.
        ExportError: the ONNX file cannot be used.
        UsageError: a float precision other than fp32 was given for a network without INT8 layers.
        EngineError: the library cannot compile the artifact.
    """
    find_entry(runtime)
    precision = None if precision is None else member_of(Precision, precision, "precision")
    float_precision = member_of(Precision, float_precision, "float precision")
    io = None if io is None else member_of(FrameFormat, io, "frame format")
    with _opened(model) as bundle:
        chosen = default_precision(bundle) if precision is None else precision
        _require_effect(chosen, float_precision)
        request = request_from_bundle(
            bundle,
            runtime,
            chosen,
            device,
            float_precision=float_precision,
            io=io,
            threads=threads,
            slots=slots,
            allow_other_precision=allow_other_precision,
            options=options,
        )
        return open_request(runtime, request)


def open_frame_session(
    model: Bundle | Path | str,
    runtime: str = "openvino",
    precision: Precision | str | None = None,
    device: str = "cpu",
    *,
    float_precision: Precision | str = Precision.FP32,
    threads: int | None = None,
    slots: int | None = None,
    options: Mapping[str, str] | None = None,
) -> Session:
    """Opens a session on the uint8 graph of a bundle, and on its float graph once float frames arrive.

    Where the model has no uint8 graph that can run here, and in a runtime whose engines `sr-edge compile` builds
    beforehand, for the float graph, this is `open_session`. Arguments and errors are those of `open_session`. A bundle
    that is passed open has to stay open as long as the session.
    """
    precision = None if precision is None else member_of(Precision, precision, "precision")
    float_precision = member_of(Precision, float_precision, "float precision")
    with ExitStack() as resources:
        bundle = resources.enter_context(_opened(model))
        open_graph = partial(
            open_session,
            bundle,
            runtime,
            precision,
            device,
            float_precision=float_precision,
            threads=threads,
            slots=slots,
            options=options,
        )
        if find_entry(runtime).compiled_ahead:
            return open_graph()
        return session_over_graphs(open_graph, resources)


def _require_effect(precision: Precision, float_precision: Precision) -> None:
    """Raises UsageError for a float precision of a network without INT8 layers, on which it would have no effect."""
    if precision is Precision.INT8 or float_precision in (Precision.FP32, precision):
        return
    raise UsageError(
        f"the float precision {float_precision} is for the float layers of INT8 graphs, but {precision} was chosen",
        found=precision,
        wanted=Precision.INT8,
        remedy=f"choose the precision int8, or {float_precision} alone",
    )


def default_precision(bundle: Bundle) -> Precision:
    """The precision that is run where none is named: fp32, or that of the first artifact of a file without fp32."""
    precisions = [artifact.precision for artifact in bundle.manifest.artifacts]
    return Precision.FP32 if Precision.FP32 in precisions else precisions[0]


@contextmanager
def _opened(model: Bundle | Path | str) -> Iterator[Bundle]:
    """The bundle of a model; one that is opened here is closed at the end of the block."""
    if isinstance(model, Bundle):
        yield model
        return
    if not isinstance(model, str | Path):
        raise UsageError(
            f"a {type(model).__name__} is neither a bundle nor a path",
            found=model,
            wanted=("Bundle", "Path", "str"),
            remedy="give the path of a bundle or an ONNX file, or an open bundle",
        )
    with open_model(model) as bundle:
        yield bundle
