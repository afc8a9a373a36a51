"""Package faces whose names load on first use: importing such a package imports none of its modules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_face(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Makes the `__getattr__` and `__dir__` of a package (PEP 562).

        __getattr__, __dir__ = lazy_face(__name__, {"open_bundle": "sr_edge.bundle.store"})

    Args:
        package: The name of the package, for the message about an unknown name.
        homes: The module that defines each public name. A sub-package is its own home: `{"camera": "sr_edge.camera"}`.
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(
                f"module {package!r} has no attribute {name!r}", name=name, obj=sys.modules.get(package)
            )
        home = importlib.import_module(homes[name])
        return home if home.__name__ == f"{package}.{name}" else getattr(home, name)

    return load, lambda: sorted(homes)
