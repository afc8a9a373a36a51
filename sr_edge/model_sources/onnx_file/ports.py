"""Finds the picture among the inputs of a graph, and describes how inputs and outputs store pictures."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

import onnx

from sr_edge.errors import ExportError
from sr_edge.export.graph.view import graph_inputs

CHANNELS = (3, 1, 4)
"""RGB, luma, and RGB with alpha; the order in which they are tried where a graph leaves the number open."""

PICTURE_TYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.BFLOAT16: "bfloat16",
    onnx.TensorProto.DOUBLE: "float64",
    onnx.TensorProto.UINT8: "uint8",
}

_ONE_PICTURE = "give a network that turns one picture into one larger picture"


class Layout(str, Enum):
    """Order of the axes of a picture."""

    NCHW = "NCHW"
    NHWC = "NHWC"

    def __str__(self) -> str:
        return self.value

    @property
    def axes(self) -> tuple[int, int, int]:
        """The positions of channels, height and width."""
        return (1, 2, 3) if self is Layout.NCHW else (3, 1, 2)


@dataclass(frozen=True)
class Port:
    """An input or output of the graph that takes or returns a picture.

    Attributes:
        name: Name in the graph.
        dtype: Name of the element type: float32, float16, bfloat16, float64 or uint8.
        layout: Order of the axes.
        channels: Number of channels: 1, 3 or 4.
        shape: Declared shape; a dimension without a fixed size has its name, or is None.
    """

    name: str
    dtype: str
    layout: Layout
    channels: int
    shape: tuple[int | str | None, ...]

    @property
    def batch(self) -> int:
        """The fixed number of pictures, or 1 if it is not fixed."""
        return self.shape[0] if isinstance(self.shape[0], int) else 1

    @property
    def height_width(self) -> tuple[int | None, int | None]:
        """The fixed height and width; None where a size is not fixed."""
        _, height, width = (self.shape[axis] for axis in self.layout.axes)
        return height if isinstance(height, int) else None, width if isinstance(width, int) else None


def picture_input(model: onnx.ModelProto, path: Path, controls: Collection[str] = ()) -> onnx.ValueInfoProto:
    """The only input without a value of its own; it has a shape of rank 4 and a type that stores pictures.

    Args:
        model: The graph.
        path: Its file, for error messages.
        controls: Names of scalar inputs that are known from a model card.

    Raises:
        ExportError: The graph has no such input, several, or one that takes no single picture.
    """
    inputs = [value for value in graph_inputs(model) if value.name not in controls]
    pictures = [value for value in inputs if len(declared_shape(value) or ()) == 4] or list(inputs)
    if len(pictures) != 1:
        names = ", ".join(repr(value.name) for value in pictures) or "none"
        raise ExportError(
            f"{path} takes {len(pictures)} pictures ({names}), but can be used only with one",
            found=tuple(value.name for value in pictures),
            wanted=1,
            remedy=_ONE_PICTURE,
        )
    others = [value for value in inputs if value is not pictures[0]]
    if others:
        raise ExportError(
            f"{path} takes {', '.join(_described(value) for value in others)} beside the picture",
            found=tuple(value.name for value in others),
            wanted=(pictures[0].name,),
            remedy="give a network that needs only the picture, or store a value for the other inputs in the file",
        )
    _require_picture(pictures[0], path)
    return pictures[0]


def declared_shape(value: onnx.ValueInfoProto) -> tuple[int | str | None, ...] | None:
    """The declared shape of an input or output; None if even the number of its dimensions is not fixed."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(dim.dim_param or (dim.dim_value if dim.dim_value > 0 else None) for dim in kind.shape.dim)


def input_candidates(value: onnx.ValueInfoProto, path: Path) -> tuple[Port, ...]:
    """The ways in which an input may take pictures, the likeliest first; a single one where its shape tells it.

    Raises:
        ExportError: The shape fits no number of channels that a picture has.
    """
    shape = declared_shape(value) or ()
    dtype = PICTURE_TYPES[value.type.tensor_type.elem_type]
    candidates = [Port(value.name, dtype, layout, channels, shape) for layout in Layout for channels in CHANNELS]
    stated = [port for port in candidates if shape[port.layout.axes[0]] == port.channels]
    if stated:
        return tuple(stated)
    if isinstance(shape[1], int) or isinstance(shape[3], int):
        raise _channels_error(path, shape)
    return tuple(candidates)


def port_as_declared(value: onnx.ValueInfoProto, port: Port) -> Port:
    """`port` with the type and shape that the file declares for an input or output."""
    shape = declared_shape(value)
    dtype = PICTURE_TYPES[value.type.tensor_type.elem_type]
    return replace(port, dtype=dtype, shape=shape if shape is not None and len(shape) == 4 else port.shape)


def _require_picture(value: onnx.ValueInfoProto, path: Path) -> None:
    kind = value.type.tensor_type.elem_type
    if kind not in PICTURE_TYPES:
        name = onnx.TensorProto.DataType.Name(kind)
        raise ExportError(
            f"the input {value.name!r} of {path} is of type {name}, but pictures are floating-point numbers or UINT8",
            found=name,
            wanted=tuple(PICTURE_TYPES.values()),
            remedy="export the network with a picture of one of these types as its input",
        )
    shape = declared_shape(value)
    if shape is None:
        raise ExportError(
            f"the input {value.name!r} of {path} has no fixed number of dimensions",
            found=None,
            wanted=4,
            remedy="export the network again with an input of shape (batch, channels, height, width)",
        )
    if len(shape) == 4:
        return
    frames = ", as networks for several frames of a video do" if len(shape) == 5 else ""
    raise ExportError(
        f"the input {value.name!r} of {path} has {len(shape)} dimensions{frames}, but one picture has 4",
        found=shape,
        wanted=("batch", "channels", "height", "width"),
        remedy=_ONE_PICTURE,
    )


def _channels_error(path: Path, shape: Sequence[object]) -> ExportError:
    channels = [size for size in (shape[1], shape[3]) if isinstance(size, int)]
    count = min(channels)
    frames = f", as a network for {count // 3} frames of a video would" if count % 3 == 0 else ""
    return ExportError(
        f"{path} takes pictures of {count} channels{frames}, but a picture has 1 (luma), 3 (RGB) or 4 (RGBA)",
        found=count,
        wanted=CHANNELS,
        remedy=_ONE_PICTURE,
    )


def _described(value: onnx.ValueInfoProto) -> str:
    shape = declared_shape(value)
    text = "of any shape" if shape is None else f"of shape ({', '.join(map(str, shape))})"
    return f"the input {value.name!r} {text}"
