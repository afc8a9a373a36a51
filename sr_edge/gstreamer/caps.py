"""Caps of the other pad: the same video, `scale` times as large or small."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sr_edge.gstreamer.bindings import Gst, GstVideo

FORMAT_NAMES = ("RGB", "NV12", "I420", "P010_10LE", "I420_10LE")
"""In order of preference; `planes.PIXEL_FORMATS` has what they are."""
LARGEST_SIDE = 2**31 - 1
_SIDES = ("width", "height")

Side = Any
"""What GStreamer gives for a width: an int, a range of them or a list of both."""


def template_caps() -> Gst.Caps:
    """What both pads take: a picture of any size in one of the formats."""
    sides = ", ".join(f"{name}=(int)[ 1, {LARGEST_SIDE} ]" for name in _SIDES)
    return Gst.Caps.from_string(f"video/x-raw, format=(string){{ {', '.join(FORMAT_NAMES)} }}, {sides}")


def upscaled_caps(caps: Gst.Caps, scale: int | None) -> Gst.Caps:
    """What comes out where `caps` go in; of any size while the scale is not known.

    Colour that `caps` leave open is told in the result: who comes after would guess it by the size, which changes.
    """
    colorimetry = _colorimetry(caps) if caps.is_fixed() else None
    result = _with_sides(caps, lambda side: upscaled_size(side, scale))
    if colorimetry and not result.is_empty() and not caps.get_structure(0).has_field("colorimetry"):
        result.set_value("colorimetry", colorimetry)
    return result


def source_caps(caps: Gst.Caps, scale: int | None) -> Gst.Caps:
    """What must go in for `caps` to come out; sizes that are no multiple of the scale are left out."""
    return _with_sides(caps, lambda side: source_size(side, scale))


def upscaled_size(side: Side, scale: int | None) -> Side:
    if scale is None:
        return Gst.IntRange(range(1, LARGEST_SIDE))
    if isinstance(side, int):
        return min(side * scale, LARGEST_SIDE)
    if isinstance(side, Gst.IntRange):
        return _between(side.range.start * scale, min(side.range.stop * scale, LARGEST_SIDE))
    return _listed(side, lambda one: upscaled_size(one, scale))


def source_size(side: Side, scale: int | None) -> Side | None:
    """None where no size fits."""
    if scale is None:
        return Gst.IntRange(range(1, LARGEST_SIDE))
    if isinstance(side, int):
        return side // scale if side >= scale and side % scale == 0 else None
    if isinstance(side, Gst.IntRange):
        return _between(-(-side.range.start // scale), side.range.stop // scale)
    return _listed(side, lambda one: source_size(one, scale))


def _between(smallest: int, largest: int) -> Side | None:
    if smallest >= largest:
        return smallest if smallest == largest else None
    return Gst.IntRange(range(smallest, largest))


def _listed(sides: Side, change: Callable[[Side], Side | None]) -> Side | None:
    changed = [side for side in map(change, sides) if side is not None]
    return Gst.ValueList(changed) if changed else None


def _with_sides(caps: Gst.Caps, change: Callable[[Side], Side | None]) -> Gst.Caps:
    """`caps` with both sides changed, without the structures that have no size then."""
    if caps.is_any():
        return caps
    result = Gst.Caps.new_empty()
    for index in range(caps.get_size()):
        structure = caps.get_structure(index).copy()
        sides = {name: change(structure.get_value(name)) for name in _SIDES if structure.has_field(name)}
        if None in sides.values():
            continue
        for name, side in sides.items():
            structure.set_value(name, side)
        result.append_structure(structure)
    return result


def _colorimetry(caps: Gst.Caps) -> str | None:
    info = GstVideo.VideoInfo.new_from_caps(caps)
    return str(info.colorimetry.to_string()) if info else None
