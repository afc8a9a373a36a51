"""Imports spandrel, with a stub of torchvision where that is absent or cannot be imported.

spandrel always imports torchvision, but uses it only in two families that are not supported here: LaMa rotates and
RestoreFormer normalises. pip installs some release of torchvision with it, and one that was built for another torch
cannot be imported (`operator torchvision::nms does not exist`). Therefore stubs replace the three names that spandrel
imports while it is imported, and are removed from `sys.modules` afterwards.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from sr_edge.errors import UsageError
from sr_edge.installation import how_to_install
from sr_edge.models.checkpoints.bounds import first_line

EXTRA = "spandrel"
_FUNCTIONAL = "torchvision.transforms.functional"
_IMPORTED_NAMES = ("InterpolationMode", "normalize", "rotate")
_lock = threading.Lock()


@dataclass(frozen=True)
class SpandrelLibrary:
    """The imported package; `remark` is a note for the user where the installed torchvision cannot be imported."""

    spandrel: Any
    remark: str = ""


_library: SpandrelLibrary | None = None


def find_library() -> SpandrelLibrary | None:
    """Imports spandrel at the first call; None if it is not installed.

    Raises:
        UsageError: spandrel is installed, but cannot be imported.
    """
    global _library
    with _lock:
        if _library is None and is_installed():
            _library = import_library()
        return _library


def require_library() -> SpandrelLibrary:
    """Imports spandrel; raises UsageError with the command that installs it where it cannot be imported."""
    library = find_library()
    if library is None:
        raise UsageError(
            "networks of this family are built by the package spandrel, which is not installed",
            wanted="spandrel",
            remedy=f"run: {how_to_install(EXTRA)}",
        )
    return library


@contextlib.contextmanager
def suppress_output() -> Iterator[None]:
    """Redirects what the networks' own code prints to stderr, and ignores its warnings."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        yield


def is_installed() -> bool:
    with contextlib.suppress(ModuleNotFoundError):
        return importlib.util.find_spec("spandrel") is not None
    return False


def import_library() -> SpandrelLibrary:
    """Imports spandrel without caching the result; raises UsageError where that fails."""
    with suppress_output():
        if "spandrel" in sys.modules:
            return SpandrelLibrary(importlib.import_module("spandrel"))
        failure = _torchvision_failure()
        try:
            if failure is None:
                return SpandrelLibrary(importlib.import_module("spandrel"))
            with _torchvision_stubs_installed():
                spandrel = importlib.import_module("spandrel")
        except Exception as error:  # the package's own code may raise anything
            raise UsageError(
                f"the installed spandrel cannot be imported ({type(error).__name__}: {first_line(error)})",
                found=str(error),
                wanted="spandrel",
                remedy=f"run: {how_to_install(EXTRA)}",
            ) from error
    return SpandrelLibrary(spandrel, _remark(failure) if failure else "")


def _remark(failure: str) -> str:
    return (
        f"the installed torchvision cannot be imported ({failure}); checkpoints are loaded without it. "
        "Install the torchvision release made for your torch, or remove it: pip uninstall torchvision"
    )


def _torchvision_failure() -> str | None:
    """Why torchvision cannot be used: None if it can, empty if it is not installed."""
    before = set(sys.modules)
    try:
        functional = importlib.import_module(_FUNCTIONAL)
        missing = [name for name in _IMPORTED_NAMES if not hasattr(functional, name)]
    except Exception as error:  # a torchvision that was built for another torch may raise anything
        # Python removes only the module that failed. The submodules that it had imported are removed, too, so that a
        # later import, which may be the user's, starts from the same state.
        for name in [name for name in _torchvision_modules() if name not in before]:
            del sys.modules[name]
        absent = isinstance(error, ModuleNotFoundError) and error.name == "torchvision"
        return "" if absent else (str(error).strip().partition("\n")[0] or type(error).__name__)
    return f"it has no {missing[0]}" if missing else None


def _torchvision_modules() -> dict[str, ModuleType]:
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "torchvision"}


@contextlib.contextmanager
def _torchvision_stubs_installed() -> Iterator[None]:
    """Replaces torchvision in `sys.modules` by stubs of three names for the duration of the block."""
    before = _torchvision_modules()
    for name in before:
        del sys.modules[name]
    sys.modules.update(_stub_modules())
    try:
        yield
    finally:
        for name in _torchvision_modules():
            del sys.modules[name]
        sys.modules.update(before)


def _stub_modules() -> dict[str, ModuleType]:
    modules: dict[str, ModuleType] = {}
    for name in ("torchvision", "torchvision.transforms", _FUNCTIONAL):
        modules[name] = importlib.util.module_from_spec(ModuleSpec(name, None, is_package=name != _FUNCTIONAL))
    for name in _IMPORTED_NAMES:
        setattr(modules[_FUNCTIONAL], name, _NeedsTorchvision(name))
    return modules


class _NeedsTorchvision:
    """Stub of a function or enumeration of torchvision; using it raises an error that says what to install."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *arguments: object, **named: object) -> object:
        raise self._error()

    def __getattr__(self, name: str) -> object:
        # Attributes that Python itself looks up, such as __wrapped__, must raise AttributeError.
        raise AttributeError(name) if name.startswith("__") else self._error()

    def _error(self) -> UsageError:
        return UsageError(
            f"this network calls torchvision's {self._name}, and spandrel was imported without a working torchvision",
            found=self._name,
            wanted="torchvision",
            remedy="install the torchvision release made for your torch and start again",
        )
