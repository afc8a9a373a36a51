"""Opens sessions on whatever can run: a bundle or an ONNX file, open or named by its path."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sr_edge.bundle import Bundle
from sr_edge.errors import UsageError
from sr_edge.model_sources.engine_choice import ChosenEngine, EngineChoice, choose_engine
from sr_edge.model_sources.open import open_model
from sr_edge.runtimes.engine.frame_session import session_over_graphs
from sr_edge.runtimes.registry import find_entry, open_request, request_from_bundle
from sr_edge.runtimes.session import Session
from sr_edge.spec import FrameFormat, Precision, member_of

_LOG = logging.getLogger(__name__)


def open_session(
    model: Bundle | Path | str,
    runtime: str | None = None,
    precision: Precision | str | None = None,
    device: str | None = None,
    *,
    float_precision: Precision | str | None = None,
    io: FrameFormat | str | None = None,
    threads: int | None = None,
    slots: int | None = None,
    allow_other_precision: bool = False,
    options: Mapping[str, str] | None = None,
) -> Session:
    """Opens a session on a bundle or an ONNX file.

    Where `precision` is left out, the session runs what was measured to be the fastest within the budget on this
    machine (`sr_edge.model_sources.engine_choice`), or else fp32 on a CPU and fp16 on a GPU. The choice is logged, and
    `session.spec` has it.

    Args:
        model: an open bundle, or the path of a bundle or of an ONNX file. Open an ONNX file with `open_model` to state
            its range of values, order of channels or tile.
        runtime: name of the runtime; None or "auto" takes the recommended one, or else the first that works here.
        precision: precision of convolutions and matrix multiplications; bf16 runs the fp32 artifact in bf16. None or
            "auto" chooses. This, `float_precision` and `io` may be given by their names, for example "int8".
        device: device of the runtime, for example "cpu" or "cuda:1"; None takes the default of the runtime.
        float_precision: precision of the other operators of an INT8 network; None is fp32.
        io: frame format of the graph; None prefers float frames. `run` accepts float and uint8 frames in any case,
            except for "nv12": that graph accepts packed NV12 tiles only.
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
        UsageError: a float precision was given for a network without INT8 layers.
        EngineError: the library cannot compile the artifact.
    """
    choice = EngineChoice.read(runtime, precision, float_precision, device, threads, slots)
    frame_format = None if io is None else member_of(FrameFormat, io, "frame format")
    with _opened(model) as bundle:
        return _open_graph(bundle, _logged(bundle, choice), frame_format, allow_other_precision, options)


def open_frame_session(
    model: Bundle | Path | str,
    runtime: str | None = None,
    precision: Precision | str | None = None,
    device: str | None = None,
    *,
    float_precision: Precision | str | None = None,
    threads: int | None = None,
    slots: int | None = None,
    options: Mapping[str, str] | None = None,
) -> Session:
    """Opens a session on the uint8 graph of a bundle, and on its float graph once float frames arrive.

    Where the model has no uint8 graph that can run here, and in a runtime whose engines `sr-edge compile` builds
    beforehand, for the float graph, this is `open_session`. Arguments and errors are those of `open_session`. A bundle
    that is passed open has to stay open as long as the session.
    """
    choice = EngineChoice.read(runtime, precision, float_precision, device, threads, slots)
    with ExitStack() as resources:
        bundle = resources.enter_context(_opened(model))
        return _open_frames(bundle, _logged(bundle, choice), options, resources)


def open_engine(
    bundle: Bundle, engine: ChosenEngine, options: Mapping[str, str] | None = None, io: FrameFormat | str | None = None
) -> Session:
    """Opens an engine of `choose_engine` for frames, as `open_frame_session` does, whose errors it raises.

    Args:
        bundle: an open bundle, which has to stay open as long as the session.
        engine: what `choose_engine` chose for it.
        options: settings of the runtime, by its own names.
        io: frame format of the only graph to open; None opens those for frames of 8 bits and of more.
    """
    if io is not None:
        return _open_graph(bundle, engine, member_of(FrameFormat, io, "frame format"), False, options)
    with ExitStack() as resources:
        return _open_frames(bundle, engine, options, resources)


def _logged(bundle: Bundle, choice: EngineChoice) -> ChosenEngine:
    engine = choose_engine(bundle, choice)
    _LOG.info("%s runs in %s", bundle.path.name, engine)
    return engine


def _open_frames(
    bundle: Bundle, engine: ChosenEngine, options: Mapping[str, str] | None, resources: ExitStack
) -> Session:
    def open_graph(io: FrameFormat | None = None) -> Session:
        return _open_graph(bundle, engine, io, False, options)

    if find_entry(engine.runtime).compiled_ahead:
        return open_graph()
    return session_over_graphs(open_graph, resources)


def _open_graph(
    bundle: Bundle,
    engine: ChosenEngine,
    io: FrameFormat | None,
    allow_other_precision: bool,
    options: Mapping[str, str] | None,
) -> Session:
    request = request_from_bundle(
        bundle,
        engine.runtime,
        engine.precision,
        engine.device,
        float_precision=engine.float_precision,
        io=io,
        threads=engine.threads,
        slots=engine.slots,
        allow_other_precision=allow_other_precision,
        options=options,
    )
    return open_request(engine.runtime, request)


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
