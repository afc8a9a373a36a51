"""Checks that the values of weights are finite floating-point numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from sr_edge.errors import WeightsError
from sr_edge.models.checkpoints.bounds import TAKE_FLOAT, short_line


def float_keys(state: Mapping[str, Tensor]) -> list[str]:
    """The keys of floating-point tensors, which are the learned values; counters are integers."""
    return [key for key, value in state.items() if value.is_floating_point()]


def require_finite(state: Mapping[str, Tensor], source: str, keys: Iterable[str]) -> None:
    """Checks the values of weights.

    Args:
        state: tensors by key.
        source: what the error message calls the weights, usually the path of their file.
        keys: the keys to check.

    Raises:
        WeightsError: a tensor contains integers, NaN or infinite values.
    """
    for key in keys:
        if not state[key].is_floating_point():
            kind = str(state[key].dtype).removeprefix("torch.")
            raise WeightsError(
                f"{source} contains {kind} values in {short_line(key)} instead of floating-point ones",
                found=(source, key),
                wanted="floating-point values",
                remedy=TAKE_FLOAT,
            )
        if not state[key].isfinite().all():
            raise WeightsError(
                f"{source} contains NaN or infinite values in {short_line(key)}",
                found=(source, key),
                wanted="finite values",
                remedy="take an earlier checkpoint",
            )
