"""Who competes in gpu.py: one network in TensorRT, ONNX Runtime and PyTorch, static and traced, on one device.

Every contender takes and gives uint8 frames in the host's memory and converts them on the device, so that all do the
same work. PyTorch computes in half precision by its autocast, as its documentation advises.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sr_edge.calibration import calibrate, quantize_onnx
from sr_edge.errors import RuntimeUnavailable
from sr_edge.export import to_fp16, to_static
from sr_edge.export.metadata import Form, GraphMetadata, write_metadata
from sr_edge.export.onnx_file import save_model, take_uint8_frames
from sr_edge.export.patches import worst_case_patches
from sr_edge.export.simplify import simplify
from sr_edge.export.tracing import trace
from sr_edge.models import LoadedModel, load_model
from sr_edge.runtimes import Session, SessionRequest, SessionSpec, availability, open_request
from sr_edge.runtimes.engine_session import DEFAULT_SLOTS, ControlArrays, EngineSession
from sr_edge.runtimes.host_format import Tile
from sr_edge.runtimes.vendor_errors import vendor_errors
from sr_edge.spec import FrameFormat, Precision, Spelling, TileSpec

SCALE = 2
EAGER, COMPILED = "torch", "torch.compile"
TENSORRTS = ("tensorrt", "tensorrt-rtx")
_FLOATS = ((Precision.FP16, Form.STATIC), (Precision.FP16, Form.TRACED))
_DTYPES = {Precision.FP32: torch.float32, Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}


@dataclass(frozen=True)
class Contender:
    """A runtime, or torch eager or compiled, at one precision with one form of the network."""

    runtime: str
    precision: Precision
    form: Form


def contenders() -> tuple[Contender, ...]:
    """All of them, with the TensorRTs that work here; both where none does, for their reasons to be told."""
    working = [name for name in TENSORRTS if availability(name).works]
    found = []
    for name in working or TENSORRTS:
        found += [Contender(name, *kind) for kind in (*_FLOATS, (Precision.INT8, Form.STATIC))]
    for name in ("onnxruntime", COMPILED, EAGER):
        found += [Contender(name, *kind) for kind in _FLOATS]
    return tuple(found)


@dataclass(frozen=True)
class Network:
    """A registered network, its tile, and the folder with its graphs (`write_graphs`)."""

    name: str
    tile: TileSpec
    folder: Path

    def load(self) -> LoadedModel:
        """A copy of its own for each who asks: the same weights, seeded random ones."""
        return load_model(self.name, SCALE, random_weights=True)

    def graph(self, precision: Precision, form: Form) -> Path:
        return self.folder / f"{self.name}.{form}.{precision}.onnx"


def write_graphs(network: Network) -> None:
    """Graphs with uint8 frames: both forms in fp16, the static one in INT8 with an fp16 rest too.

    Raises:
        TileError: the network does not take the tile.
    """
    loaded, tile = network.load(), network.tile
    tile.require_multiple_of(loaded.card.multiple_px)
    modules = {Form.STATIC: to_static(loaded.module, tile.height, tile.width), Form.TRACED: loaded.module}
    for form, module in modules.items():
        floats, half = simplify(trace(module, tile)), network.graph(Precision.FP16, form)
        write_metadata(floats, GraphMetadata(loaded.card, form, Precision.FP32, FrameFormat.FLOAT_NCHW, tile, "", ""))
        save_model(to_fp16(floats), half)
        take_uint8_frames(half)
        if form is Form.STATIC:
            base, int8 = network.graph(Precision.FP32, form), network.graph(Precision.INT8, form)
            save_model(floats, base)
            quantize_onnx(base, calibrate(base, worst_case_patches(tile)), int8, Spelling.S8, Precision.FP16)
            take_uint8_frames(int8)


def open_contender(contender: Contender, network: Network, device: str) -> Session:
    """The contender's session; raises SrEdgeError with the reason why it cannot take part here."""
    if contender.runtime in (EAGER, COMPILED):
        return open_torch(contender, network, device)
    is_int8 = contender.precision is Precision.INT8
    request = SessionRequest(
        artifact=network.graph(contender.precision, contender.form),
        card=network.load().card,
        tile=network.tile,
        precision=contender.precision,
        rest=Precision.FP16 if is_int8 else Precision.FP32,
        spelling=Spelling.S8 if is_int8 else None,
        io=FrameFormat.UINT8_NHWC,
        device=device,
    )
    return open_request(contender.runtime, request)


def open_torch(contender: Contender, network: Network, device: str, backend: str = "inductor") -> Session:
    """PyTorch as a session; `backend` is that of torch.compile.

    Raises:
        RuntimeUnavailable: this PyTorch cannot use the device.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RuntimeUnavailable(f"torch {torch.__version__} sees no CUDA device; install a build of it for CUDA")
    started = time.perf_counter()
    loaded, tile = network.load(), network.tile
    body = loaded.module if contender.form is Form.TRACED else to_static(loaded.module, tile.height, tile.width)
    frames: nn.Module = OnFrames(body).eval().to(device)
    if contender.runtime == COMPILED:
        frames.compile(backend=backend, dynamic=False)
    spec = SessionSpec(
        runtime=contender.runtime,
        version=str(torch.__version__),
        device=device,
        requested=contender.precision,
        ran=contender.precision,
        rest_ran=contender.precision,
        io=FrameFormat.UINT8_NHWC,
        tile=tile,
        scale=SCALE,
        threads=0,
        load_ms=1e3 * (time.perf_counter() - started),
        artifact_bytes=0,
        note="by autocast",
        slots=DEFAULT_SLOTS,
        overlap_px=loaded.card.overlap_px,
    )
    return EngineSession(_TorchEngine(frames, torch.device(device), _DTYPES[contender.precision]), spec)


class OnFrames(nn.Module):
    """A network on uint8 NHWC frames, converted as in the graphs of uint8 frames."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frame: Tensor) -> Tensor:
        """Upscales (1, height, width, 3)."""
        upscaled = self.network(frame.permute(0, 3, 1, 2).float() / 255)
        return (255 * upscaled.float()).clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


class _TorchEngine:
    """`Engine` over a module of frames; both copies are part of a run, as with every other contender."""

    slots = DEFAULT_SLOTS
    controls = ()

    def __init__(self, module: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        self._module = module
        self._device = device
        self._dtype = dtype

    def infer(self, slot: int, tile: Tile, controls: ControlArrays, out: Tile) -> None:
        lowered = self._dtype is not torch.float32
        with (
            vendor_errors("torch failed to run a tile", "try a smaller tile"),
            torch.inference_mode(),
            torch.autocast(self._device.type, self._dtype if lowered else None, enabled=lowered),
        ):
            torch.from_numpy(out).copy_(self._module(torch.from_numpy(tile).to(self._device)))

    def close(self) -> None:
        del self._module
