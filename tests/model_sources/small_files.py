"""Writes small ONNX files that double the size of a picture, in the forms in which networks are shared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SCALE = 2
FEATURES = 6


def small_file(
    path: Path,
    size: Sequence[int | str] = (16, 24),
    *,
    channels: int = 3,
    batch: int | str = 1,
    dtype: int = TensorProto.FLOAT,
    value_range: float = 1.0,
    frames: str = "NCHW",
    opset: int = 17,
    external: bool = False,
    second_output: bool = False,
) -> Path:
    """Writes conv - PReLU - conv - pixel shuffle - clip, which enlarges the picture and adds some detail.

    Args:
        path: The file.
        size: Height and width of the input; names are dynamic sizes.
        channels: Channels of the picture.
        batch: The batch size; a name is a dynamic one.
        dtype: Element type of weights and pictures.
        value_range: The largest value of the pictures, 1 or 255; the output is clipped to 2 to 100 % of it.
        frames: "NCHW", "NHWC", or "uint8" for NHWC pictures of bytes.
        opset: Opset of the file.
        external: Store the weights in a file beside it.
        second_output: Return the features as well.
    """
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    nodes = [
        *_entry(frames, dtype),
        helper.make_node("Conv", ["x", "w0", "b0"], ["features"], name="/head/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("PRelu", ["features", "slope"], ["bent"], name="/head/PRelu"),
        helper.make_node("Conv", ["bent", "w1", "b1"], ["rows"], name="/tail/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("DepthToSpace", ["rows"], ["large"], name="/tail/Shuffle", blocksize=SCALE, mode="CRD"),
        helper.make_node("Clip", ["large", "least", "most"], ["y"], name="/tail/Clip"),
        *_exit(frames),
    ]
    weights = [
        numpy_helper.from_array(value.astype(kind), name) for name, value in _weights(channels, value_range).items()
    ]
    weights += [numpy_helper.from_array(np.array(value, kind), name) for name, value in _LIMITS.items()]
    large = tuple(SCALE * side if isinstance(side, int) else f"{SCALE}*{side}" for side in size)
    picture_type = TensorProto.UINT8 if frames == "uint8" else dtype
    shapes = ((batch, channels, *size), (batch, channels, *large))
    source, result = (shape if frames == "NCHW" else (shape[0], *shape[2:], shape[1]) for shape in shapes)
    outputs = [helper.make_tensor_value_info("result", picture_type, result)]
    if second_output:
        outputs.insert(0, helper.make_tensor_value_info("features", dtype, (batch, FEATURES, *size)))
    graph = helper.make_graph(
        nodes, "small", [helper.make_tensor_value_info("picture", picture_type, source)], outputs, weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    if external:
        onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0)
    else:
        onnx.save(model, path)
    return path


_LIMITS = {"limit": 255.0, "black": 0.0}


def _entry(frames: str, dtype: int) -> list[onnx.NodeProto]:
    if frames == "NCHW":
        return [helper.make_node("Identity", ["picture"], ["x"])]
    steps = [helper.make_node("Transpose", ["picture"], ["moved"], perm=[0, 3, 1, 2])]
    if frames == "NHWC":
        return [*steps, helper.make_node("Identity", ["moved"], ["x"])]
    return [
        *steps,
        helper.make_node("Cast", ["moved"], ["bytes"], to=dtype),
        helper.make_node("Div", ["bytes", "limit"], ["x"]),
    ]


def _exit(frames: str) -> list[onnx.NodeProto]:
    if frames == "NCHW":
        return [helper.make_node("Identity", ["y"], ["result"])]
    if frames == "NHWC":
        return [helper.make_node("Transpose", ["y"], ["result"], perm=[0, 2, 3, 1])]
    return [
        helper.make_node("Mul", ["y", "limit"], ["scaled"]),
        helper.make_node("Round", ["scaled"], ["whole"]),
        helper.make_node("Clip", ["whole", "black", "limit"], ["clipped"]),
        helper.make_node("Cast", ["clipped"], ["levels"], to=TensorProto.UINT8),
        helper.make_node("Transpose", ["levels"], ["result"], perm=[0, 2, 3, 1]),
    ]


def _weights(channels: int, value_range: float) -> dict[str, np.typing.NDArray[np.float64]]:
    """The first convolution passes the picture on and adds details; the second one repeats each pixel four times."""
    generator = np.random.default_rng(0)
    first, second = np.zeros((FEATURES, channels, 3, 3)), np.zeros((channels * SCALE**2, FEATURES, 3, 3))
    for channel in range(channels):
        first[channel, channel, 1, 1] = 1.0
        second[channel * SCALE**2 : (channel + 1) * SCALE**2, channel, 1, 1] = 1.0
    first[channels:] = 0.3 * generator.normal(size=(FEATURES - channels, channels, 3, 3))
    second[:, channels:] = 0.02 * generator.normal(size=(channels * SCALE**2, FEATURES - channels, 3, 3))
    return {
        "w0": first,
        "b0": np.concatenate([np.zeros(channels), np.full(FEATURES - channels, -0.5 * value_range)]),
        "slope": np.full((FEATURES, 1, 1), 0.2),
        "w1": second,
        "b1": np.zeros(channels * SCALE**2),
        "least": np.array(0.02 * value_range),
        "most": np.array(value_range),
    }
