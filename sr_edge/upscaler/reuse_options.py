"""Which tiles of a stream or video are reused, as options that are checked before anything starts."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import dataclass
from numbers import Real
from typing import Any

from sr_edge.errors import UsageError
from sr_edge.quantities import finite_number, whole_number

OFF, EXACT, BOUND = "off", "exact", "bound"
MODES = (OFF, EXACT, BOUND)
"""Which tiles are reused: none, those whose samples did not change, or also those that changed so little that the
change of the output is within a bound."""

DEFAULT_REUSE_MEMORY_BYTES = 256 * 2**20
"""Enough for the tiles of a frame of 1920x1080 pixels with 8 bits that is upscaled 4 times."""
DEFAULT_REFRESH_S = 10.0
"""With a bound, each kept result is computed again after this time."""
MIN_REFRESH_S = 0.001
"""A shorter time is less than a frame of any camera."""

_WANTED = "off, exact, or a number of decibels above 0, for example 0.05"
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?", re.IGNORECASE)


@dataclass(frozen=True)
class ReuseOptions:
    """Options for the reuse of tiles.

    Attributes:
        mode: "off", "exact" or "bound", see `MODES`.
        bound_db: The most decibels of PSNR that reuse may cost in the mode "bound"; None in other modes.
        memory_bytes: Memory that the kept samples and results of one stream may occupy.
        refresh_s: In the mode "bound", the seconds after which a kept result is computed again.
    """

    mode: str = OFF
    bound_db: float | None = None
    memory_bytes: int = DEFAULT_REUSE_MEMORY_BYTES
    refresh_s: float = DEFAULT_REFRESH_S

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise _unknown(self.mode)
        if (self.mode == BOUND) != (self.bound_db is not None):
            raise UsageError(
                f"a bound in decibels belongs to the mode {BOUND}, and to no other",
                found=(self.mode, self.bound_db),
                wanted=_WANTED,
                remedy=f'write ReuseOptions("{BOUND}", 0.05), or ReuseOptions.parse(0.05)',
            )
        if self.bound_db is not None:
            _decibels(self.bound_db)
        whole_number(self.memory_bytes, "the memory for reuse in bytes", 1)
        finite_number(self.refresh_s, "the time in seconds until tiles are computed again", MIN_REFRESH_S)

    @classmethod
    def parse(
        cls, text_or_number: ReuseOptions | str | float, memory_bytes: int = DEFAULT_REUSE_MEMORY_BYTES
    ) -> ReuseOptions:
        """Reads "off", "exact", or a bound in decibels as a number or text; options are returned as they are.

        Raises:
            UsageError: It is none of these, or the memory is less than 1 byte.
        """
        if isinstance(text_or_number, ReuseOptions):
            return text_or_number
        if isinstance(text_or_number, str):
            if text_or_number in (OFF, EXACT):
                return cls(text_or_number, memory_bytes=memory_bytes)
            with suppress(ValueError):
                return cls(BOUND, _decibels(float(text_or_number), text_or_number), memory_bytes)
            raise _unknown(text_or_number)
        return cls(BOUND, _decibels(text_or_number), memory_bytes)

    @property
    def is_off(self) -> bool:
        return self.mode == OFF

    def __str__(self) -> str:
        return self.mode if self.bound_db is None else f"{self.bound_db:g} dB"


def parse_memory(text: str) -> int:
    """Reads an amount of memory, such as "512M", "1.5GiB" or a number of bytes; K, M and G are powers of 1024.

    Raises:
        UsageError: It is not a positive amount of memory.
    """
    match = _SIZE.fullmatch(text.strip())
    size = round(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if size < 1:
        raise UsageError(
            f"{text!r} is not an amount of memory",
            found=text,
            wanted="a number of bytes, or one with K, M or G",
            remedy="write for example 256M or 1G",
        )
    return size


def memory_text(size_bytes: int) -> str:
    """An amount of memory in MiB, in KiB if it is small, or in bytes if it is tiny."""
    if size_bytes < 10 * 2**10:
        return f"{size_bytes} bytes" if size_bytes != 1 else "1 byte"
    return f"{size_bytes / 2**20:.0f} MiB" if size_bytes >= 10 * 2**20 else f"{size_bytes / 2**10:.0f} KiB"


def _decibels(value: Any, given: object = None) -> float:
    """`value` as a float; raises UsageError, which shows `given` or the value, unless it is a finite number above 0."""
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    except OverflowError:
        number = math.inf
    if not 0 < number < math.inf:
        raise _unknown(value if given is None else given)
    return number


def _unknown(found: object) -> UsageError:
    return UsageError(f"{found!r} is not a mode of reuse", found=found, wanted=_WANTED, remedy=f"write {_WANTED}")
