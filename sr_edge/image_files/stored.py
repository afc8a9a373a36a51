"""What a decoder of one format hands on, and how stored pixels are turned upright."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class StoredPicture:
    """Decoded pixels, upright: (height, width, 1 or 3) uint8 or uint16, straight alpha (height, width), and a profile.

    `notes` are sentences about what the result lacks or how it was converted.
    """

    colours: Samples
    alpha: Samples | None = None
    icc_profile: bytes | None = None
    notes: tuple[str, ...] = ()


_UPRIGHT: dict[int, Callable[[Samples], Samples]] = {
    2: np.fliplr,
    3: lambda samples: np.rot90(samples, 2),
    4: np.flipud,
    5: lambda samples: np.swapaxes(samples, 0, 1),
    6: lambda samples: np.rot90(samples, -1),
    7: lambda samples: np.swapaxes(np.rot90(samples, 2), 0, 1),
    8: np.rot90,
}
"""Functions that turn stored samples upright, by the EXIF and TIFF orientation."""


def turned_upright(samples: Samples, orientation: int) -> Samples:
    """Turns (height, width, ...) upright; an unknown orientation counts as upright."""
    turn = _UPRIGHT.get(orientation)
    return samples if turn is None else np.ascontiguousarray(turn(samples))
