"""What the forward pass computes in: bfloat16 where the recipe allows it and the device has it, else float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from sr_edge.spec import Precision
from sr_edge.training.recipe import Recipe

CPUINFO = Path("/proc/cpuinfo")
CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Of x86 and Arm: without one of them bfloat16 is emulated, several times slower than float32."""


def has_bfloat16(device: torch.device, cpuinfo: Path = CPUINFO) -> bool:
    """Whether the device computes in bfloat16 and does not emulate it; never for a CPU whose flags are hidden.

    Args:
        device: where training runs.
        cpuinfo: the file in which Linux lists the flags of the CPU.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(False)
    if not cpuinfo.exists() or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    # torch's answer heeds ONEDNN_MAX_CPU_ISA, but is yes for every AVX-512.
    return torch.ops.mkldnn._is_mkldnn_bf16_supported() and not CPU_FLAGS.isdisjoint(cpuinfo.read_text().split())


def choose_precision(
    recipe: Recipe,
    device: torch.device,
    kept: Precision | None = None,
    supports_bfloat16: Callable[[torch.device], bool] = has_bfloat16,
) -> tuple[Precision, str]:
    """The precision to train in, and a sentence where it is not the one that the recipe lets expect.

    Args:
        kept: what the checkpoint's steps were made in; it stays, so that a continuation is identical, unless the
            device has it not.
        supports_bfloat16: whether a device computes in bfloat16.
    """
    wanted = kept or (Precision.BF16 if recipe.mixed_precision else Precision.FP32)
    if wanted is Precision.BF16 and not supports_bfloat16(device):
        before = " (the steps before were made in bfloat16)" if kept else ""
        remark = f"this {_name(device)} has no bfloat16: training in float32, without mixed precision{before}"
        return Precision.FP32, remark
    if wanted is Precision.FP32 and recipe.mixed_precision and supports_bfloat16(device):
        return wanted, f"training goes on in float32, as before, although this {_name(device)} has bfloat16"
    return wanted, ""


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
