"""PyTorch, eager and compiled, as a session beside the others in gpu.py.

It takes and gives uint8 frames in the host's memory and converts them on the device, so that all do the same work. It
computes in half precision by its autocast, as its documentation advises.
"""

from __future__ import annotations

import time

import torch
from gpu_contenders import COMPILED, Contender, Network
from torch import Tensor, nn

from sr_edge.errors import RuntimeUnavailable
from sr_edge.export import to_static
from sr_edge.export.graph.metadata import Form
from sr_edge.runtimes import Session, SessionSpec
from sr_edge.runtimes.engine.host_format import Tile
from sr_edge.runtimes.engine.session import DEFAULT_SLOTS, ControlArrays, EngineSession
from sr_edge.runtimes.engine.vendor_errors import vendor_errors
from sr_edge.spec import FrameFormat, Precision

_DTYPES = {Precision.FP32: torch.float32, Precision.FP16: torch.float16, Precision.BF16: torch.bfloat16}


def open_torch(contender: Contender, network: Network, device: str, backend: str = "inductor") -> Session:
    """PyTorch as a session; `backend` is that of torch.compile.

    Raises:
        RuntimeUnavailable: this PyTorch cannot use the device.
        EngineError: the network cannot be put on the device.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RuntimeUnavailable(
            f"torch {torch.__version__} finds no CUDA device",
            found=torch.__version__,
            wanted=device,
            remedy="install a build of it for CUDA",
        )
    started = time.perf_counter()
    loaded, tile = network.load(), network.tile
    body = loaded.module if contender.form is Form.TRACED else to_static(loaded.module, tile.height, tile.width)
    with vendor_errors(f"torch cannot put {network.name} on {device}", "close other programs that use the GPU"):
        frames: nn.Module = OnFrames(body).eval().to(device)
    if contender.runtime == COMPILED:
        frames.compile(backend=backend, dynamic=False)
    spec = SessionSpec(
        runtime=contender.runtime,
        version=str(torch.__version__),
        device=device,
        requested=contender.precision,
        ran=contender.precision,
        float_precision_ran=contender.precision,
        io=FrameFormat.UINT8_NHWC,
        tile=tile,
        scale=loaded.card.scale,
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
        upscaled: Tensor = self.network(frame.permute(0, 3, 1, 2).float() / 255)
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
