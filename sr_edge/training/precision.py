"""Precision of the forward pass: bfloat16 where the recipe allows it and the device supports it, else float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from sr_edge.spec import Precision
from sr_edge.training.recipe import Recipe

CPUINFO = Path("/proc/cpuinfo")
CPU_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""CPU flags of x86 and Arm; without any of them bfloat16 is emulated, several times slower than float32."""


def has_bfloat16(device: torch.device, cpuinfo: Path = CPUINFO) -> bool:
    """Whether the device supports bfloat16 without emulation; False for a CPU whose flags cannot be read.

    Args:
        device: the device of the training.
        cpuinfo: the file in which Linux lists the flags of the CPU.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(False)
    if not cpuinfo.exists() or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    # torch's function respects ONEDNN_MAX_CPU_ISA, but returns True for every CPU with AVX-512.
    return torch.ops.mkldnn._is_mkldnn_bf16_supported() and not CPU_FLAGS.isdisjoint(cpuinfo.read_text().split())


def choose_precision(
    recipe: Recipe,
    device: torch.device,
    previous: Precision | None = None,
    supports_bfloat16: Callable[[torch.device], bool] = has_bfloat16,
) -> tuple[Precision, str]:
    """Chooses the precision of a training.

    Args:
        recipe: whether mixed precision is wanted.
        device: the device of the training.
        previous: the precision of the checkpoint's steps; it is kept, so that a continuation is identical, unless the
            device does not support it.
        supports_bfloat16: whether a device supports bfloat16.

    Returns:
        The precision, and a remark for the user where it differs from the one in the recipe.
    """
    wanted = previous or (Precision.BF16 if recipe.mixed_precision else Precision.FP32)
    if wanted is Precision.BF16 and not supports_bfloat16(device):
        before = " (the previous steps were made in bfloat16)" if previous else ""
        remark = f"this {_name(device)} does not support bfloat16: training in float32, without mixed precision{before}"
        return Precision.FP32, remark
    if wanted is Precision.FP32 and recipe.mixed_precision and supports_bfloat16(device):
        return wanted, f"training continues in float32, as before, although this {_name(device)} supports bfloat16"
    return wanted, ""


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
