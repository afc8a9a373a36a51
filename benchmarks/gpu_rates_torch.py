"""The GPU's rates through PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from gpu_rates import DeviceRates, median_s

from sr_edge.errors import EngineError, RuntimeUnavailable
from sr_edge.runtimes.engine.vendor_errors import vendor_errors
from sr_edge.spec import Precision

MATMUL_SIDE = 8192
COPY_BYTES = 1 << 30


def measure_rates(device: str = "cuda", matmul_side: int = MATMUL_SIDE, copy_bytes: int = COPY_BYTES) -> DeviceRates:
    """Large matrix products in fp16 and INT8 and a copy within the device's memory; what fails is told.

    Raises:
        RuntimeUnavailable: this PyTorch cannot use the device.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise RuntimeUnavailable(
            f"torch {torch.__version__} finds no CUDA device",
            found=torch.__version__,
            wanted=device,
            remedy="install a build of it for CUDA",
        )

    def synchronize() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    matmuls: dict[str, float] = {}
    copy_rate, obstacles = None, []
    for precision in (Precision.FP16, Precision.INT8):
        try:
            with vendor_errors(f"no {precision} matmul", "the shares of that precision stay empty"):
                seconds = median_s(_matmul(precision, matmul_side, device), synchronize)
            matmuls[str(precision)] = matmul_side**3 / seconds
        except EngineError as error:
            obstacles.append(str(error))
    try:
        with vendor_errors("no copy", "the shares of the roofline stay empty"):
            source = torch.zeros(copy_bytes, dtype=torch.uint8, device=device)
            target = torch.empty_like(source)
            copy_rate = 2 * copy_bytes / median_s(lambda: target.copy_(source), synchronize)
    except EngineError as error:
        obstacles.append(str(error))
    return DeviceRates(matmuls, copy_rate, f"torch {torch.__version__}", tuple(obstacles))


def _matmul(precision: Precision, side: int, device: str) -> Callable[[], object]:
    """A product of two matrices that are on the device."""
    if precision is Precision.FP16:
        half = torch.randn(2, side, side, device=device).to(torch.float16)
        return lambda: half[0] @ half[1]
    whole = torch.randint(-127, 128, (2, side, side), device=device, dtype=torch.int8)
    return lambda: torch._int_mm(whole[0], whole[1].t())
