"""Imports spandrel, with a stand-in for torchvision where that is absent or its own import fails.

spandrel imports torchvision always and uses it in two places, in families that are not loaded here: LaMa rotates and
RestoreFormer normalises. pip installs some torchvision beside it; one that was built for another torch fails to import
(`operator torchvision::nms does not exist`). So the three names that spandrel imports are stood in for while spandrel
is imported, and nothing of that stays in `sys.modules`.
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
from sr_edge.models.checkpoints.bounds import first_line

INSTALL = 'pip install "sr-edge[spandrel]"'
_FUNCTIONAL = "torchvision.transforms.functional"
_IMPORTED_NAMES = ("InterpolationMode", "normalize", "rotate")
_lock = threading.Lock()


@dataclass(frozen=True)
class SpandrelLibrary:
    """The imported package; `remark` says so where the installed torchvision does not work."""

    spandrel: Any
    remark: str = ""


_library: SpandrelLibrary | None = None


def find_library() -> SpandrelLibrary | None:
    """spandrel, imported once; None where it is not installed.

    Raises:
        UsageError: it is installed, and its import fails.
    """
    global _library
    with _lock:
        if _library is None and is_installed():
            _library = import_library()
        return _library


def require_library() -> SpandrelLibrary:
    """spandrel; raises UsageError that says how to install it where it is absent or its import fails."""
    library = find_library()
    if library is None:
        raise UsageError(
            "networks of this family are built by the package spandrel, which is not installed",
            wanted="spandrel",
            remedy=f"run: {INSTALL}",
        )
    return library


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps what the networks' own code prints off stdout, and its warnings to itself."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")
        yield


def is_installed() -> bool:
    with contextlib.suppress(ModuleNotFoundError):
        return importlib.util.find_spec("spandrel") is not None
    return False


def import_library() -> SpandrelLibrary:
    """Imports spandrel as `find_library` does once; raises UsageError where its import fails."""
    with quiet():
        if "spandrel" in sys.modules:
            return SpandrelLibrary(importlib.import_module("spandrel"))
        failure = _torchvision_failure()
        try:
            if failure is None:
                return SpandrelLibrary(importlib.import_module("spandrel"))
            with _stand_in_for_torchvision():
                spandrel = importlib.import_module("spandrel")
        except Exception as error:  # whatever the package's own code raises
            raise UsageError(
                f"the installed spandrel cannot be imported ({type(error).__name__}: {first_line(error)})",
                found=str(error),
                wanted="spandrel",
                remedy=f"run: {INSTALL}",
            ) from error
    return SpandrelLibrary(spandrel, _remark(failure) if failure else "")


def _remark(failure: str) -> str:
    return (
        f"the installed torchvision cannot be imported ({failure}); checkpoints are loaded without it. "
        "Install the torchvision release made for your torch, or remove it: pip uninstall torchvision"
    )


def _torchvision_failure() -> str | None:
    """What keeps torchvision from being used: None for nothing, empty where it is absent."""
    before = set(sys.modules)
    try:
        functional = importlib.import_module(_FUNCTIONAL)
        missing = [name for name in _IMPORTED_NAMES if not hasattr(functional, name)]
    except Exception as error:  # whatever a torchvision built for another torch raises
        # Python drops only the module that failed. The parts that it had imported go, too, so that a later import,
        # which may be the user's, begins where this one did.
        for name in [name for name in _torchvision_modules() if name not in before]:
            del sys.modules[name]
        absent = isinstance(error, ModuleNotFoundError) and error.name == "torchvision"
        return "" if absent else (str(error).strip().partition("\n")[0] or type(error).__name__)
    return f"it has no {missing[0]}" if missing else None


def _torchvision_modules() -> dict[str, ModuleType]:
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "torchvision"}


@contextlib.contextmanager
def _stand_in_for_torchvision() -> Iterator[None]:
    """Has `torchvision` in `sys.modules` stand for three names while spandrel is imported, and not longer."""
    before = _torchvision_modules()
    for name in before:
        del sys.modules[name]
    sys.modules.update(_stand_in_modules())
    try:
        yield
    finally:
        for name in _torchvision_modules():
            del sys.modules[name]
        sys.modules.update(before)


def _stand_in_modules() -> dict[str, ModuleType]:
    modules: dict[str, ModuleType] = {}
    for name in ("torchvision", "torchvision.transforms", _FUNCTIONAL):
        modules[name] = importlib.util.module_from_spec(ModuleSpec(name, None, is_package=name != _FUNCTIONAL))
    for name in _IMPORTED_NAMES:
        setattr(modules[_FUNCTIONAL], name, _NeedsTorchvision(name))
    return modules


class _NeedsTorchvision:
    """Stands for a function or an enumeration of torchvision; using it is an error that names what to install."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *arguments: object, **named: object) -> object:
        raise self._error()

    def __getattr__(self, name: str) -> object:
        # Python's own questions, such as __wrapped__, must get the usual answer.
        raise AttributeError(name) if name.startswith("__") else self._error()

    def _error(self) -> UsageError:
        return UsageError(
            f"this network calls torchvision's {self._name}, and spandrel was imported without a working torchvision",
            found=self._name,
            wanted="torchvision",
            remedy="install the torchvision release made for your torch and start again",
        )
