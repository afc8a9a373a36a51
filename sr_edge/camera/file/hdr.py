"""Static HDR metadata: the mastering display (SMPTE ST 2086) and the content light levels (CTA-861.3)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

_CHROMATICITY_STEPS, _LUMINANCE_STEPS = 50_000, 10_000
"""Units per 1.0 of chromaticity and per 1 cd/m2 of luminance in the two standards."""


@dataclass(frozen=True)
class HdrMetadata:
    """Static HDR metadata in the notation of x265's options; false in a boolean context if there is none.

    Attributes:
        mastering_display: G(x,y)B(x,y)R(x,y)WP(x,y)L(max,min); empty if the video does not contain it.
        light_levels: Maximum content light level and maximum frame-average light level, "max,average" in cd/m2;
            empty if the video does not contain them.
    """

    mastering_display: str = ""
    light_levels: str = ""

    def __bool__(self) -> bool:
        return bool(self.mastering_display or self.light_levels)

    def x265_params(self) -> list[str]:
        """Options of x265."""
        params = ["hdr10=1"] if self else []
        params += [f"master-display={self.mastering_display}"] if self.mastering_display else []
        return params + ([f"max-cll={self.light_levels}"] if self.light_levels else [])

    def x264_params(self) -> list[str]:
        """Options of x264."""
        params = [f"mastering-display={self.mastering_display}"] if self.mastering_display else []
        return params + ([f"cll={self.light_levels}"] if self.light_levels else [])

    def svtav1_params(self) -> list[str]:
        """Options of SVT-AV1, which takes chromaticities and cd/m2 as decimal fractions."""
        if not self.mastering_display:
            return [f"content-light={self.light_levels}"] if self.light_levels else []
        points, luminance = self.mastering_display.split("L")
        display = _divided(points, _CHROMATICITY_STEPS) + "L" + _divided(luminance, _LUMINANCE_STEPS)
        return [f"mastering-display={display}"] + ([f"content-light={self.light_levels}"] if self.light_levels else [])


def _divided(text: str, steps: int) -> str:
    return re.sub(r"\d+", lambda number: f"{int(number[0]) / steps:g}", text)


def hdr_metadata(av_frame: Any) -> HdrMetadata:
    """Reads the HDR metadata from the side data of a decoded FFmpeg frame."""
    display = av_frame.side_data.get("MASTERING_DISPLAY_METADATA")
    levels = av_frame.side_data.get("CONTENT_LIGHT_LEVEL")
    return HdrMetadata(
        "" if display is None else _mastering_display(bytes(display)),
        "" if levels is None else ",".join(map(str, struct.unpack_from("=2I", bytes(levels)))),
    )


def _mastering_display(content: bytes) -> str:
    """Converts FFmpeg's AVMasteringDisplayMetadata to the notation of x265.

    The structure has ten fractions (x and y of red, green, blue and white; minimum and maximum luminance), then two
    flags.
    """
    *terms, has_primaries, has_luminance = struct.unpack("=22i", content)
    if not (has_primaries and has_luminance):
        return ""
    values = [Fraction(terms[index], terms[index + 1] or 1) for index in range(0, 20, 2)]
    red, green, blue, white_point = (
        ",".join(str(round(value * _CHROMATICITY_STEPS)) for value in values[index : index + 2])
        for index in range(0, 8, 2)
    )
    minimum, maximum = (round(value * _LUMINANCE_STEPS) for value in values[8:])
    return f"G({green})B({blue})R({red})WP({white_point})L({maximum},{minimum})"
