"""Where a step looks for modules, shared libraries and programs: ours, and those that the user named."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpu_session.reporting import Context

REHEARSAL_MARK = "REHEARSAL"
"""A file of that name in a folder of libraries says that a stand-in is in it and no device."""


@dataclass(frozen=True)
class SearchPaths:
    """Folders that go before those of the environment."""

    modules: tuple[str, ...] = ()
    shared_libraries: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()


def step_environment(
    environment: Mapping[str, str], paths: SearchPaths, root: Path, engine_cache: Path, context: Context
) -> dict[str, str]:
    """The environment of a step's process.

    Shared libraries must be named before a process starts: the loader reads LD_LIBRARY_PATH once. Nothing looks
    anything up in a network, and engines are built anew, in a cache of the session's own.
    """
    modules = (*paths.modules, str(root / "benchmarks"), str(root))
    return {
        **environment,
        "PYTHONPATH": _joined(modules, environment.get("PYTHONPATH")),
        "LD_LIBRARY_PATH": _joined(paths.shared_libraries, environment.get("LD_LIBRARY_PATH")),
        "PATH": _joined(paths.programs, environment.get("PATH", os.defpath)),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "PIP_NO_INDEX": "1",
        "HF_HUB_OFFLINE": "1",
        "SR_EDGE_CACHE": str(engine_cache),
        **context.as_environment(),
    }


def _joined(folders: tuple[str, ...], inherited: str | None) -> str:
    return os.pathsep.join([*folders, *([inherited] if inherited else [])])
