"""Converts caps between the pads of the element: the same video, `scale` times as large or small."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from sr_edge.camera.sources.gst.bindings import Gst, GstVideo

FORMAT_NAMES = ("RGB", "NV12", "I420", "P010_10LE", "I420_10LE")
"""In the order of preference. `planes.PIXEL_FORMATS` has the same names; importing it here would load NumPy."""
MAX_DIMENSION = 2**31 - 1
_DIMENSIONS = ("width", "height")

Dimension = Any
"""A width or height in caps: an int, an IntRange, or a ValueList of both."""


def template_caps() -> Gst.Caps:
    """The caps of both pad templates: all supported formats in any size."""
    dimensions = ", ".join(f"{name}=(int)[ 1, {MAX_DIMENSION} ]" for name in _DIMENSIONS)
    return Gst.Caps.from_string(f"video/x-raw, format=(string){{ {', '.join(FORMAT_NAMES)} }}, {dimensions}")


def with_rate(caps: Gst.Caps, rate: Fraction | None) -> Gst.Caps:
    """`caps` of the source pad with this frame rate in place of 0/1, which means none; None changes nothing."""
    if rate is None or caps.is_any():
        return caps
    result = caps.copy()
    for index in range(result.get_size()):
        if result.get_structure(index).get_fraction("framerate")[:2] == (True, 0):
            structure = result.get_structure(index).copy()
            structure.set_value("framerate", Gst.Fraction(rate.numerator, rate.denominator))
            result.remove_structure(index)
            result.append_structure(structure)
    return result


def without_rate(caps: Gst.Caps, rate: Fraction | None) -> Gst.Caps:
    """`caps` of the sink pad for any frame rate, if the element sets one; None changes nothing."""
    if rate is None or caps.is_any():
        return caps
    result = Gst.Caps.new_empty()
    for index in range(caps.get_size()):
        structure = caps.get_structure(index).copy()
        structure.remove_field("framerate")
        result.append_structure(structure)
    return result


def upscaled_caps(caps: Gst.Caps, scale: int | None) -> Gst.Caps:
    """The caps of the source pad for `caps` on the sink pad.

    Colorimetry that `caps` do not contain is added: elements downstream would guess it from the size, which changes.

    Args:
        caps: Caps of the sink pad.
        scale: Magnification; None, before the model is loaded, allows any size.
    """
    colorimetry = _colorimetry(caps) if caps.is_fixed() else None
    result = _with_dimensions(caps, lambda dimension: upscaled_size(dimension, scale))
    if colorimetry and not result.is_empty() and not caps.get_structure(0).has_field("colorimetry"):
        result.set_value("colorimetry", colorimetry)
    return result


def source_caps(caps: Gst.Caps, scale: int | None) -> Gst.Caps:
    """The caps of the sink pad for `caps` on the source pad, without sizes that are not a multiple of the scale.

    Args:
        caps: Caps of the source pad.
        scale: Magnification; None, before the model is loaded, allows any size.
    """
    return _with_dimensions(caps, lambda dimension: source_size(dimension, scale))


def upscaled_size(dimension: Dimension, scale: int | None) -> Dimension:
    if scale is None:
        return Gst.IntRange(range(1, MAX_DIMENSION))
    if isinstance(dimension, int):
        return min(dimension * scale, MAX_DIMENSION)
    if isinstance(dimension, Gst.IntRange):
        return _int_range(dimension.range.start * scale, min(dimension.range.stop * scale, MAX_DIMENSION))
    return _value_list(dimension, lambda value: upscaled_size(value, scale))


def source_size(dimension: Dimension, scale: int | None) -> Dimension | None:
    """The inverse of `upscaled_size`; None if no size of the source fits."""
    if scale is None:
        return Gst.IntRange(range(1, MAX_DIMENSION))
    if isinstance(dimension, int):
        return dimension // scale if dimension >= scale and dimension % scale == 0 else None
    if isinstance(dimension, Gst.IntRange):
        return _int_range(-(-dimension.range.start // scale), dimension.range.stop // scale)
    return _value_list(dimension, lambda value: source_size(value, scale))


def _int_range(smallest: int, largest: int) -> Dimension | None:
    if smallest >= largest:
        return smallest if smallest == largest else None
    return Gst.IntRange(range(smallest, largest))


def _value_list(dimensions: Dimension, convert: Callable[[Dimension], Dimension | None]) -> Dimension | None:
    converted = [dimension for dimension in map(convert, dimensions) if dimension is not None]
    return Gst.ValueList(converted) if converted else None


def _with_dimensions(caps: Gst.Caps, convert: Callable[[Dimension], Dimension | None]) -> Gst.Caps:
    """`caps` with width and height converted; structures for which no size remains are removed."""
    if caps.is_any():
        return caps
    result = Gst.Caps.new_empty()
    for index in range(caps.get_size()):
        structure = caps.get_structure(index).copy()
        dimensions = {name: convert(structure.get_value(name)) for name in _DIMENSIONS if structure.has_field(name)}
        if None in dimensions.values():
            continue
        for name, dimension in dimensions.items():
            structure.set_value(name, dimension)
        result.append_structure(structure)
    return result


def _colorimetry(caps: Gst.Caps) -> str | None:
    info = GstVideo.VideoInfo.new_from_caps(caps)
    return str(info.colorimetry.to_string()) if info else None
