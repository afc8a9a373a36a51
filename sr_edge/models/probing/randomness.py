"""Detects operators that draw random numbers in a network that must be deterministic."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_ATTENTION = "scaled_dot_product"
"""Name of the attention operators, which are tagged as random for their dropout even where it is disabled."""

_DROPOUT = {"bernoulli", "bernoulli_", "native_dropout"}


class RandomOperators(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own hook is untyped
    """Records the names of operators that draw random numbers while this mode is active."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: dict[str, None] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if torch.Tag.nondeterministic_seeded in func.tags and _ATTENTION not in name:
            self.names[name] = None
        return func(*args, **(kwargs or {}))

    @property
    def cause(self) -> str:
        """Why outputs are random, as a clause."""
        if not self.names:
            return "no operator of torch draws random numbers, so the cause is Python's random or NumPy"
        if _DROPOUT & set(self.names):
            return (
                f"its forward calls {', '.join(self.names)}, most likely functional.dropout without "
                f"training=self.training"
            )
        return f"its forward calls {', '.join(self.names)}"

    @property
    def remedy(self) -> str:
        """What the user can do."""
        if not self.names:
            return "look for Python's random or NumPy in its forward"
        if _DROPOUT & set(self.names):
            return "pass training=False there"
        return "replace the random numbers by constants"
