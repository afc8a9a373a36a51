"""Finds the installed Python bindings of CUDA, and opens GPUs through them."""

from __future__ import annotations

import importlib
from typing import Any

from sr_edge.errors import RuntimeUnavailable
from sr_edge.runtimes.cuda import Cuda, Gpu

PROVIDERS = ("cuda-python", "pycuda")
_MODULES = {"cuda-python": "sr_edge.runtimes.cuda_python", "pycuda": "sr_edge.runtimes.cuda_pycuda"}


def provider_module(name: str) -> Any:
    """The provider's module, with `gpus()` and `open_cuda(index)`; raises RuntimeUnavailable where it is absent."""
    try:
        return importlib.import_module(_MODULES[name])
    except ImportError as error:
        raise RuntimeUnavailable(
            f"{name} is not installed or cannot be loaded ({error})", found=name, remedy=f"run: pip install {name}"
        ) from error


def first_provider() -> str:
    """The first provider that can be imported here; raises RuntimeUnavailable with what was tried."""
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
    """The GPUs of this machine; raises RuntimeUnavailable where there is none, no driver, or no provider."""
    found: tuple[Gpu, ...] = provider_module(provider or first_provider()).gpus()
    return found


def open_cuda(index: int, provider: str | None = None) -> Cuda:
    """One GPU; raises RuntimeUnavailable."""
    cuda: Cuda = provider_module(provider or first_provider()).open_cuda(index)
    return cuda
