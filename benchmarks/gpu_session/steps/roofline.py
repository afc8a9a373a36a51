"""How fast this GPU copies memory and multiplies matrices, with the clocks of this session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpu_rates import DeviceRates

from gpu_session.reporting import context, publish
from sr_edge.errors import RuntimeUnavailable

REHEARSAL_SIDE = 128
REHEARSAL_BYTES = 1 << 20


def measured_rates(rehearsal: bool) -> DeviceRates:
    """Through PyTorch where it sees the GPU, else through TensorRT; raises RuntimeUnavailable with both reasons."""
    sizes: dict[str, Any] = {"matmul_side": REHEARSAL_SIDE, "copy_bytes": REHEARSAL_BYTES} if rehearsal else {}
    try:
        import gpu_rates_torch

        return gpu_rates_torch.measure_rates(**sizes)
    except (ImportError, RuntimeUnavailable) as error:
        without_torch = str(error)
    import gpu_rates_tensorrt
    from gpu_contenders import working_tensorrts

    try:
        return gpu_rates_tensorrt.measure_rates(working_tensorrts()[0], **sizes)
    except RuntimeUnavailable as error:
        raise RuntimeUnavailable(f"{without_torch}; {error}") from error


def main(arguments: Sequence[str]) -> None:
    publish(measured_rates(context().rehearsal))
