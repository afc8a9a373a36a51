"""What HDR videos tell of the display they were made on and of their brightest frames (SMPTE ST 2086, CTA-861.3)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

_COLOUR_STEPS, _LIGHT_STEPS = 50_000, 10_000
"""To how many parts of 1, and of 1 cd/m2, the standards write chromaticity and luminance."""


@dataclass(frozen=True)
class HdrMetadata:
    """Static metadata, in the words of x265.

    Attributes:
        mastering_display: G(x,y)B(x,y)R(x,y)WP(x,y)L(max,min); empty where it is not told.
        light_levels: the brightest pixel's and the brightest frame's, "max,average" in cd/m2; empty where not told.
    """

    mastering_display: str = ""
    light_levels: str = ""

    def __bool__(self) -> bool:
        return bool(self.mastering_display or self.light_levels)

    @property
    def x265_params(self) -> str:
        parts = ["hdr10=1"]
        if self.mastering_display:
            parts.append(f"master-display={self.mastering_display}")
        if self.light_levels:
            parts.append(f"max-cll={self.light_levels}")
        return ":".join(parts)


def hdr_metadata(picture: Any) -> HdrMetadata:
    """Of one of FFmpeg's decoded frames; false where it has none."""
    display = picture.side_data.get("MASTERING_DISPLAY_METADATA")
    levels = picture.side_data.get("CONTENT_LIGHT_LEVEL")
    return HdrMetadata(
        "" if display is None else _mastering_display(bytes(display)),
        "" if levels is None else ",".join(map(str, struct.unpack_from("=2I", bytes(levels)))),
    )


def _mastering_display(content: bytes) -> str:
    """FFmpeg keeps ten fractions (x and y of red, green, blue, white; least and largest luminance), then two flags."""
    *terms, has_primaries, has_luminance = struct.unpack("=22i", content)
    if not (has_primaries and has_luminance):
        return ""
    values = [Fraction(terms[place], terms[place + 1] or 1) for place in range(0, 20, 2)]
    red, green, blue, white = (
        ",".join(str(round(value * _COLOUR_STEPS)) for value in values[place : place + 2]) for place in range(0, 8, 2)
    )
    least, largest = (round(value * _LIGHT_STEPS) for value in values[8:])
    return f"G({green})B({blue})R({red})WP({white})L({largest},{least})"
