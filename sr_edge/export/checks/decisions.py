"""Finds what a trace cannot carry: decisions that a network takes in Python by what is in the picture.

A trace records the operators of one run. Where a network turns a tensor into a Python number, such as an index of the
expert to ask or the condition of an `if`, the trace keeps the number of the traced picture. The graph is then the
network's function for pictures that lead to the same decision, and another function for all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from sr_edge.errors import NotDeployable

_PLAIN = (bool, int, float, complex, str)


class PictureDecisions:
    """The numbers that a network takes out of tensors, picture by picture."""

    def __init__(self) -> None:
        self._taken: list[list[object]] = []
        self._where = ""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watches one run on one picture; all runs are on pictures of one size."""
        watch = _NumbersTaken()
        with watch:
            yield
        self._note(watch)

    def require_none(self) -> None:
        """Raises NotDeployable where the runs that were watched took different numbers."""
        if self._where:
            raise NotDeployable(
                f"the network decides in Python by what is in the picture ({self._where} gives other numbers on other "
                "pictures), and a traced graph would keep the decision of one picture; compute with tensors there, for "
                "example torch.where or a sum over all branches"
            )

    def _note(self, watch: _NumbersTaken) -> None:
        if self._taken and not self._where:
            self._where = _first_difference(self._taken[0], watch)
        self._taken.append(watch.numbers)


class _NumbersTaken(TorchFunctionMode):
    """Records every result of a torch function that is a plain number, or made of such."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[object] = []
        self.functions: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        number = _as_number(result)
        if number is not None:
            self.numbers.append(number)
            self.functions.append(getattr(func, "__name__", str(func)))
        return result


def _as_number(result: object) -> object:
    """A comparable copy of a plain result; None for tensors and everything else."""
    if isinstance(result, _PLAIN):
        return result
    if isinstance(result, np.ndarray):
        return (result.shape, result.tobytes())
    if isinstance(result, (list, tuple)) and not any(isinstance(value, torch.Tensor) for value in result):
        return tuple(_as_number(value) for value in result)
    return None


def _first_difference(reference: list[object], watch: _NumbersTaken) -> str:
    """The torch function whose number is another one, "" where all are the same."""
    for known, number, name in zip(reference, watch.numbers, watch.functions, strict=False):
        if known != number:
            return f"Tensor.{name}"
    return "" if len(reference) == len(watch.numbers) else "the number of steps"
