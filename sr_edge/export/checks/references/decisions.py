"""Detects data-dependent control flow: Python code of a network that branches on the values of the image.

A trace records the operators of one run. Where a network converts a tensor to a Python number, such as the index of an
expert or the condition of an `if`, the trace contains the number of the traced image as a constant. The graph is then
correct for images that lead to the same number, and wrong for all others.

Only numbers from tensors that depend on the image count. A network that reads any is also run on images of many colours
and brightness levels. It is refused if the numbers differ; if they never do, a remark says so.
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
from sr_edge.export.graph.patches import Patch, colour_casts
from sr_edge.export.passes.dependence import Dependence, is_shape_query

_PLAIN = (bool, int, float, complex)  # a text, such as that of Tensor.type(), has no number of the image
_ATTRIBUTE = "__get__"
"""The function of attributes such as Tensor.is_nested, whose numbers depend on type, layout and device."""


class DataDependentBranches:
    """The Python numbers that a network reads from tensors that depend on the image, in runs on images of one size."""

    def __init__(self) -> None:
        self._runs: list[list[object]] = []
        self._reader = ""
        self._differing = ""

    @contextmanager
    def recording(self, *inputs: Tensor) -> Iterator[None]:
        """Records one run of the network on these inputs, which is executed in the block."""
        recorder = _NumberRecorder(*inputs)
        with recorder:
            yield
        self._reader = self._reader or next(iter(recorder.functions), "")
        if self._runs and not self._differing:
            self._differing = _first_difference(self._runs[0], recorder)
        self._runs.append(recorder.numbers)

    def try_others(self, module: nn.Module, photograph: Patch, scalars: Sequence[Tensor]) -> None:
        """Records runs on many colours and levels of a photograph, if the network has read any number so far."""
        for image in colour_casts(photograph) if self._reader and not self._differing else ():
            x = torch.from_numpy(image)
            with torch.inference_mode(), self.recording(x, *scalars):
                module(x, *scalars)

    def require_none(self) -> None:
        """Raises NotDeployable where the recorded runs read different numbers."""
        if self._differing:
            raise NotDeployable(
                f"the network's Python code branches on the values of the image ({self._differing} returns other "
                "numbers for other images), and a traced graph would keep the decision made for one image",
                found=self._differing,
                wanted="operations on tensors",
                remedy="compute with tensors there, for example with torch.where or with a sum over all branches",
            )

    @property
    def remarks(self) -> tuple[str, ...]:
        """A remark where the network reads numbers of the image in Python that were always the same."""
        if not self._reader or self._differing:
            return ()
        return (
            f"the network reads numbers of the image in Python (Tensor.{self._reader}); they were the same for "
            f"{len(self._runs)} images, and the graph uses them for all others",
        )


class _NumberRecorder(TorchFunctionMode):
    """Records every Python number, or container of numbers, that a torch function returns for dependent tensors."""

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
        name = getattr(func, "__name__", str(func))
        number = _as_number(result)
        if number is not None and name != _ATTRIBUTE:
            self.numbers.append(number)
            self.functions.append(name)
        return result


def _as_number(result: object) -> object:
    """A comparable copy of a result that is no tensor; None for tensors and everything else."""
    if isinstance(result, _PLAIN):
        return result
    if isinstance(result, np.ndarray):
        return (result.shape, result.tobytes())
    if isinstance(result, (list, tuple)) and not any(isinstance(value, torch.Tensor) for value in result):
        return tuple(_as_number(value) for value in result)
    return None


def _first_difference(reference: list[object], recorder: _NumberRecorder) -> str:
    """The first torch function that returned another number than in the reference run; "" where there is none."""
    for expected, number, name in zip(reference, recorder.numbers, recorder.functions, strict=False):
        if expected != number:
            return f"Tensor.{name}"
    return "" if len(reference) == len(recorder.numbers) else "the number of steps"
