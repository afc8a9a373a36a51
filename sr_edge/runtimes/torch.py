"""PyTorch in eager mode, on the CPU and on CUDA: the float reference for all other runtimes.

The controls of a network are those that its class declares (`sr_edge.models.controlled`).
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sr_edge.bundle import Artifact, ArtifactKind
from sr_edge.errors import PrecisionUnavailable, RuntimeUnavailable, UsageError
from sr_edge.models import LoadedModel
from sr_edge.models.controlled import control_tensors, controls_of
from sr_edge.models.loading.load import bake, reopen_model
from sr_edge.runtimes.artifact_choice import first_fitting
from sr_edge.runtimes.engine.executed import executed_precision, require_possible, unsupported
from sr_edge.runtimes.engine.host_format import Tile, graph_shape, require_graph
from sr_edge.runtimes.engine.session import DEFAULT_SLOTS, ControlArrays, EngineProperties, session_over
from sr_edge.runtimes.engine.vendor_errors import vendor_errors
from sr_edge.runtimes.session import Availability, Device, Session, SessionRequest
from sr_edge.spec import FrameFormat, Precision

NAME = "torch"
TRUST_OPTION = "architecture"

_DTYPES = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}
_PRECISIONS = {dtype: precision for precision, dtype in _DTYPES.items()}
_LAYERS = {"convolution", "mm", "bmm", "addmm", "baddbmm"}
_ATTENTION = "_scaled_dot_product"


def availability() -> Availability:
    devices = [Device("cpu", torch.backends.cpu.get_cpu_capability(), _precisions(torch.device("cpu")))]
    for index in range(torch.cuda.device_count()):
        name = f"cuda:{index}"
        devices.append(Device(name, torch.cuda.get_device_name(index), _precisions(torch.device(name))))
    return Availability(works=True, version=_version(), devices=tuple(devices))


def obstacle(precision: Precision, device: str) -> PrecisionUnavailable | None:
    torch_device = _require_device(device)
    possible = _precisions(torch_device)
    if precision in possible:
        return None
    problem = f"the torch runtime, which is the float reference, does not support {precision} on {torch_device}"
    return unsupported(problem, precision, possible)


def choose_artifact(
    artifacts: Sequence[Artifact], precision: Precision, float_precision: Precision, io: FrameFormat | None
) -> Artifact | None:
    """Selects the weights, which serve every float precision; uint8 frames are converted on the host."""
    if precision is Precision.INT8 or io not in (None, FrameFormat.FLOAT_NCHW):
        return None
    return first_fitting(artifacts, ArtifactKind.WEIGHTS, Precision.FP32, runtime=NAME)


def open_request(request: SessionRequest) -> Session:
    device = _require_device(request.device)
    require_possible(request, [obstacle(request.precision, request.device)])
    _require_float_frames(request)
    dtype = _DTYPES[request.precision] if request.precision in _precisions(device) else torch.float32
    started = time.perf_counter()
    module = _load(request)
    with vendor_errors(f"torch cannot move {request.card.name} to {device}", "choose another device"):
        module.to(device)
    engine = _TorchEngine(module, dtype, device, request.threads, request.slots or DEFAULT_SLOTS)
    load_ms = 1e3 * (time.perf_counter() - started)
    executed = executed_precision(_layers_run(engine, request), 0, _PRECISIONS[dtype])
    if dtype is not torch.float32:
        executed = dataclasses.replace(executed, note="torch's autocast keeps normalizations and long sums in fp32")
    properties = EngineProperties(NAME, _version(), str(device), engine.threads, load_ms, executed)
    return session_over(engine, request, properties)


class _TorchEngine:
    """The module itself; autocast runs convolutions and matrix multiplications in the requested precision."""

    def __init__(
        self, module: nn.Module, dtype: torch.dtype, device: torch.device, threads: int | None, slots: int
    ) -> None:
        self.slots = slots
        self.controls = tuple(control.name for control in controls_of(module))
        self.threads = threads or torch.get_num_threads()
        self._module = module
        self._dtype = dtype
        self.device = device

    def infer(self, slot: int, tile: Tile, controls: ControlArrays, out: Tile) -> None:
        with vendor_errors("torch failed to run a tile", "try another precision or device"), torch.inference_mode():
            scalars = [torch.from_numpy(controls[name]).to(self.device) for name in self.controls]
            torch.from_numpy(out).copy_(self.forward(torch.from_numpy(tile).to(self.device), scalars))

    def forward(self, tile: torch.Tensor, scalars: Sequence[torch.Tensor]) -> torch.Tensor:
        lowered = self._dtype is not torch.float32
        with (
            _threads(self.threads),
            torch.autocast(self.device.type, self._dtype if lowered else None, enabled=lowered),
            torch.backends.cudnn.flags(allow_tf32=False),
        ):
            upscaled: torch.Tensor = self._module(tile, *scalars)
            return upscaled

    def default_scalars(self) -> tuple[torch.Tensor, ...]:
        return control_tensors(controls_of(self._module), device=self.device)

    def close(self) -> None:
        del self._module


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Sets torch's thread count, which belongs to the whole process, for the duration of one run."""
    before = torch.get_num_threads()
    if before == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _LayerPrecisions(TorchDispatchMode):  # type: ignore[no-untyped-call]  # the base class is untyped
    """Counts the convolutions and matrix multiplications that run, by the type of their inputs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts: Counter[Precision] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if name in _LAYERS or name.startswith(_ATTENTION):
            # The second input, because the first one of addmm and baddbmm is the summand.
            self.counts[_PRECISIONS[args[1].dtype]] += 1
        return func(*args, **(kwargs or {}))


def _layers_run(engine: _TorchEngine, request: SessionRequest) -> Counter[Precision]:
    """Runs one black tile to count its layers and to check the shapes of its input and output.

    This is not done in inference mode, where the dispatch mode would get compound operators and autocast would not
    apply to the operators inside them.
    """
    tile = torch.zeros(graph_shape(request.io, request.tile, request.card.channels), device=engine.device)
    scalars = engine.default_scalars()
    layer_precisions = _LayerPrecisions()
    with (
        vendor_errors(f"torch cannot run {request.card.name} on a {request.tile} tile", "check the tile"),
        torch.no_grad(),
        layer_precisions,
    ):
        upscaled = engine.forward(tile, scalars)
    require_graph(request, tile.shape, upscaled.shape)
    return layer_precisions.counts


def _load(request: SessionRequest) -> nn.Module:
    architecture = request.architecture or request.card.name
    options = dict(request.options or {})
    trusted = options.pop(TRUST_OPTION, None)
    if options:
        unknown = next(iter(options))
        raise UsageError(
            f"torch has no option {unknown!r}",
            found=unknown,
            wanted=(TRUST_OPTION,),
            remedy=f"pass {TRUST_OPTION!r} only",
        )
    if ":" not in architecture:
        return _baked(reopen_model(architecture, request.card, request.artifact), request)
    if trusted != architecture:
        raise UsageError(
            f"the network is built by code that is not part of sr-edge, {architecture}",
            found=architecture,
            remedy=f"if you trust it, pass --trust {architecture} "
            f'(in Python, options={{"{TRUST_OPTION}": "{architecture}"}}), else choose another runtime',
        )
    return _baked(reopen_model(architecture, request.card, request.artifact), request)


def _baked(model: LoadedModel, request: SessionRequest) -> nn.Module:
    """The network with the same constants folded in as in the graphs of its bundle."""
    return bake(model, request.card.baked).module


def _require_float_frames(request: SessionRequest) -> None:
    if request.io is not FrameFormat.FLOAT_NCHW:
        raise UsageError(
            f"torch runs networks on float frames, not on {request.io} frames",
            found=request.io,
            wanted=FrameFormat.FLOAT_NCHW,
            remedy="open the float network, whose session converts uint8 frames itself",
        )


def _require_device(device: str) -> torch.device:
    try:
        torch_device = torch.device(device)
    except RuntimeError as error:
        raise RuntimeUnavailable(
            f"torch knows no device {device!r}", found=device, wanted=("cpu", "cuda"), remedy="choose cpu or cuda"
        ) from error
    present = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    if torch_device.type not in present or (torch_device.index or 0) >= max(1, torch.cuda.device_count()):
        raise RuntimeUnavailable(
            f"torch finds no device {device!r} here",
            found=device,
            wanted=tuple(present),
            remedy=f"choose one of: {', '.join(present)}",
        )
    return torch_device


def _precisions(device: torch.device) -> tuple[Precision, ...]:
    if device.type == "cpu":
        return (Precision.FP32, Precision.BF16)
    return (Precision.FP32, Precision.BF16, Precision.FP16)


def _version() -> str:
    return str(torch.__version__)
