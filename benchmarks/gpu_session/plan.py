"""What a session does and in which order: the most valuable steps first, so that time runs out on the others."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_BUDGET_S = 690.0
LONGEST_BUDGET_S = 700.0
"""With what is done after the last step, twelve minutes."""

BUNDLED_NETWORKS = (
    "convnet-tiny-x2",
    "ups-tiny-x2",
    "taylor-swinir-tiny-x2",
    "lcoan-tiny-x2",
    "realnet-tiny-x4",
    "labnet-tiny-x2",
    "convnet-light-x2",
    "taylor-swinir-light-x2",
    "swinir-light-x2",
)
"""Networks whose bundles are tried in TensorRT, the smallest first; one scale of each."""

COMPARED_TILES = {
    "taylor-swinir-light": "96x96",  # its traced form takes four times the memory at twice the side: over 20 GB
    "labnet-tiny": "192x192",
    "lcoan-tiny": "192x192",
    "convnet-light": "192x192",
}
"""Networks on which the runtimes are compared with PyTorch, x2, and their tiles."""

COMPARED_NETWORKS = tuple(COMPARED_TILES)


@dataclass(frozen=True)
class Step:
    """One process of the session.

    Attributes:
        name: the key of its figures.
        title: what it does, for people.
        arguments: the interpreter's arguments.
        limit_s: the longest that it may run.
        until: the share of the session's time after which it must have ended, so that later steps get theirs.
    """

    name: str
    title: str
    arguments: tuple[str, ...]
    limit_s: float
    until: float = 1.0


def module_step(name: str, title: str, module: str, arguments: tuple[str, ...], limit_s: float, until: float) -> Step:
    """A step that is a module of `gpu_session.steps`."""
    return Step(name, title, ("-m", "gpu_session", module, *arguments), limit_s, until)


def libraries_step(folders: tuple[str, ...], target: str) -> Step:
    """Unpacks the wheels and libraries that were named; it goes first, because the others may need them."""
    arguments = ("--into", target, *folders)
    return module_step("libraries", "Unpack the libraries that were named", "libraries", arguments, 90, 0.2)


def standard_steps() -> tuple[Step, ...]:
    """The whole session in order of worth."""
    first, *others = BUNDLED_NETWORKS
    return (
        module_step("doctor", "Driver, device, memory, libraries", "doctor", (), 60, 0.25),
        module_step("prepare", "Bundles and graphs that are missing", "prepare", (), 100, 0.35),
        _engines_step(first, 90, 0.45),
        module_step("features", f"CUDA graph, uint8, zero copy, providers: {first}", "features", (first,), 75, 0.5),
        *(_engines_step(network, 90, 0.55) for network in others),
        module_step("roofline", "Copy bandwidth and matmul rate of this GPU", "roofline", (), 40, 0.6),
        *(
            module_step(f"compare-{name}", f"Runtimes beside PyTorch: {name}", "comparison", (name,), 80, 0.8)
            for name in COMPARED_NETWORKS
        ),
        *(
            module_step(
                f"compile-{name}", f"torch.compile: {name}", "comparison", (name, "--compiled"), 100, 0.92
            )
            for name in COMPARED_NETWORKS
        ),
        module_step("gpu-tests", "pytest -m gpu", "marked_tests", (), 240, 1.0),
    )  # fmt: skip


def _engines_step(network: str, limit_s: float, until: float) -> Step:
    title = f"TensorRT, fp16 and INT8, golden frames: {network}"
    return module_step(f"engines-{network}", title, "engines", (network,), limit_s, until)
