"""Finds the installed Python bindings of CUDA, and opens GPUs through them."""

from __future__ import annotations

import importlib
from typing import Any

from sr_edge.errors import RuntimeUnavailable
from sr_edge.runtimes.cuda.api import Cuda, Gpu

PROVIDERS = ("cuda-python", "pycuda")
_MODULES = {"cuda-python": "sr_edge.runtimes.cuda.cuda_python", "pycuda": "sr_edge.runtimes.cuda.cuda_pycuda"}


def provider_module(name: str) -> Any:
    """Imports a provider's module, which has `gpus()` and `open_cuda(index)`; raises RuntimeUnavailable."""
    try:
        return importlib.import_module(_MODULES[name])
    except ImportError as error:
        raise RuntimeUnavailable(
            f"{name} is not installed or cannot be loaded ({error})", found=name, remedy=f"run: pip install {name}"
        ) from error


def first_provider() -> str:
    """The first provider that can be imported; raises RuntimeUnavailable with the reason of each."""
    reasons = []
    for name in PROVIDERS:
        try:
            provider_module(name)
            return name
        except RuntimeUnavailable as error:
            reasons.append(error.problem)
    raise RuntimeUnavailable(
        f"no Python bindings of CUDA can be loaded: {', '.join(reasons)}",
        wanted=PROVIDERS,
        remedy=f"run: {', or: '.join(f'pip install {name}' for name in PROVIDERS)}",
    )


def find_gpus(provider: str | None = None) -> tuple[Gpu, ...]:
    """Lists the GPUs of this machine.

    Raises:
        RuntimeUnavailable: the machine has no GPU, no working driver, or no provider.
    """
    gpus: tuple[Gpu, ...] = provider_module(provider or first_provider()).gpus()
    return gpus


def open_cuda(index: int, provider: str | None = None) -> Cuda:
    """Opens the GPU of that index; raises RuntimeUnavailable."""
    cuda: Cuda = provider_module(provider or first_provider()).open_cuda(index)
    return cuda
