"""Finds what a trace cannot carry: decisions that a network takes in Python by what is in the picture.

A trace records the operators of one run. Where a network turns a tensor into a Python number, such as an index of the
expert to ask or the condition of an `if`, the trace keeps the number of the traced picture. The graph is then the
network's function for pictures that lead to the same decision, and another function for all others.

Only numbers taken from tensors that depend on the picture count. If a network takes any, it is run on pictures of many
colours and levels, too; where the numbers differ it is refused, and where they never do, that is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sr_edge.errors import NotDeployable
from sr_edge.export.dependence import Dependence, is_shape_query
from sr_edge.export.patches import Patch, colour_casts

_PLAIN = (bool, int, float, complex, str)


class PictureDecisions:
    """The numbers that a network takes out of what depends on the picture, run by run on pictures of one size."""

    def __init__(self) -> None:
        self._taken: list[list[object]] = []
        self._read = ""
        self._differs = ""

    @contextmanager
    def recording(self, *inputs: Tensor) -> Iterator[None]:
        """Watches one run on these inputs."""
        watch = _NumbersTaken(*inputs)
        with watch:
            yield
        self._read = self._read or next(iter(watch.functions), "")
        if self._taken and not self._differs:
            self._differs = _first_difference(self._taken[0], watch)
        self._taken.append(watch.numbers)

    def try_others(self, module: nn.Module, photograph: Patch, scalars: Sequence[Tensor]) -> None:
        """Watches runs on many colours and levels of a photograph, if the network takes any numbers at all."""
        for picture in colour_casts(photograph) if self._read and not self._differs else ():
            x = torch.from_numpy(picture)
            with torch.inference_mode(), self.recording(x, *scalars):
                module(x, *scalars)

    def require_none(self) -> None:
        """Raises NotDeployable where the runs that were watched took different numbers."""
        if self._differs:
            raise NotDeployable(
                f"the network decides in Python by the values of the picture ({self._differs} returns other numbers "
                "for other pictures), and a traced graph would keep the decision made for one picture",
                found=self._differs,
                wanted="operations on tensors",
                remedy="compute with tensors there, for example with torch.where or with a sum over all branches",
            )

    @property
    def remarks(self) -> tuple[str, ...]:
        """That the network looks at the picture in Python, where that made no difference."""
        if not self._read or self._differs:
            return ()
        return (
            f"the network reads numbers out of the picture in Python (Tensor.{self._read}); they were the same on "
            f"{len(self._taken)} pictures, and the graph keeps them for all others",
        )


class _NumbersTaken(TorchFunctionMode):
    """Records every plain number, or container of such, that a torch function makes of what depends on the inputs."""

    def __init__(self, *inputs: Tensor) -> None:
        super().__init__()
        self._dependence = Dependence(*inputs)
        self.numbers: list[object] = []
        self.functions: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if is_shape_query(func) or not self._dependence.is_dependent((args, kwargs or {})):
            return result
        self._dependence.propagate(func, args, result)
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
