"""Writes a network's weights as a .safetensors file, from which the torch runtime opens a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def write_weights(path: Path, state: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes arrays by name; equal arrays give equal bytes. Requires the package safetensors."""
    from safetensors.numpy import save

    path.write_bytes(save({name: np.asarray(array, order="C") for name, array in sorted(state.items())}))
