"""Whatever form an ONNX file has, its graph for runtimes and the file itself compute what PyTorch computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import nn

from sr_edge.errors import ExportError, TileError, UsageError
from sr_edge.export.graph.onnxruntime_run import run_onnxruntime
from sr_edge.export.graph.view import default_opset
from sr_edge.export.passes.uint8_io import wrap_uint8
from sr_edge.frames import Batch
from sr_edge.model_sources import OnnxModel, read_onnx_model
from sr_edge.model_sources.onnx_file.sizes import photograph
from sr_edge.spec import TileSpec
from tests.expected_errors import raises
from tests.model_sources.onnx_variants import (
    Step,
    around,
    copied,
    in_opset,
    labelled,
    of_type,
    renamed,
    saved,
    sized,
    with_initializers_as_inputs,
    with_inner_names,
    with_second_output,
    with_sequence_output,
    without_graph_name,
)

Variant = Callable[[onnx.ModelProto], onnx.ModelProto]

TILE = TileSpec(32, 40)
FLOAT32_ERROR, HALF_ERROR, LEVEL = 2e-6, 4e-3, 1 / 255
TO_NHWC: Step = ("Transpose", (), {"perm": [0, 2, 3, 1]})
TO_NCHW: Step = ("Transpose", (), {"perm": [0, 3, 1, 2]})

TO_255: Step = ("Mul", (np.float32(255),), {})
TO_1: Step = ("Mul", (np.float32(1 / 255),), {})
TWICE: Step = ("Mul", (np.float32(2),), {})
SWAP: Step = ("Gather", (np.array([2, 1, 0]),), {"axis": 1})
TO_FLOAT: Step = ("Cast", (), {"to": TensorProto.FLOAT})


def nhwc(model: onnx.ModelProto) -> onnx.ModelProto:
    return sized(around(model, [TO_NCHW], [TO_NHWC]), "n", "h", "w", 3)


def uint8(model: onnx.ModelProto) -> onnx.ModelProto:
    return wrap_uint8(onnx.shape_inference.infer_shapes(sized(model, 1, 3, "h", "w"))).model


def uint8_input(model: onnx.ModelProto) -> onnx.ModelProto:
    """Takes uint8 NHWC and returns float NCHW."""
    changed = sized(around(model, [TO_NCHW, TO_FLOAT, TO_1], []), 1, "h", "w", 3)
    changed.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    return changed


def any_sizes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Leaves all sizes open, also the number of channels."""
    return sized(model, "a", "b", "c", "d")


VARIANTS: dict[str, tuple[Variant, float]] = {
    "as torch exports it": (copied, FLOAT32_ERROR),
    "any sizes": (any_sizes, FLOAT32_ERROR),
    "fixed sizes": (lambda model: sized(model, 1, 3, 32, 40), FLOAT32_ERROR),
    "batch of 4": (lambda model: sized(model, 4, 3, 32, 40), FLOAT32_ERROR),
    "opset 11": (lambda model: labelled(model, 11), FLOAT32_ERROR),
    "opset 13": (lambda model: labelled(model, 13), FLOAT32_ERROR),
    "opset 18": (lambda model: in_opset(model, 18), FLOAT32_ERROR),
    "opset 20": (lambda model: in_opset(model, 20), FLOAT32_ERROR),
    "opset 21": (lambda model: in_opset(model, 21), FLOAT32_ERROR),
    "opset 23": (lambda model: in_opset(model, 23), FLOAT32_ERROR),
    "fp16": (lambda model: of_type(model, TensorProto.FLOAT16), HALF_ERROR),
    "bf16": (lambda model: of_type(model, TensorProto.BFLOAT16), 8 * HALF_ERROR),
    "float64": (lambda model: of_type(model, TensorProto.DOUBLE), FLOAT32_ERROR),
    "uint8": (uint8, LEVEL),
    "uint8 input": (uint8_input, FLOAT32_ERROR),
    "NHWC": (nhwc, FLOAT32_ERROR),
    "0-255": (lambda model: around(model, [TO_1], [TO_255]), FLOAT32_ERROR),
    "0-255 to 0-1": (lambda model: around(model, [TO_1], []), FLOAT32_ERROR),
    "from -1 to 1 inside": (
        lambda model: around(
            model,
            [TWICE, ("Sub", (np.float32(1),), {}), ("Add", (np.float32(1),), {}), ("Mul", (np.float32(0.5),), {})],
            [],
        ),
        FLOAT32_ERROR,
    ),
    "second output": (with_second_output, FLOAT32_ERROR),
    "initializers as inputs": (with_initializers_as_inputs, FLOAT32_ERROR),
    "odd names": (lambda model: renamed(model, "my input/é:0", "input"), FLOAT32_ERROR),
    "names of our own": (
        lambda model: around(
            with_inner_names(model, "net/input", "net/output", "frames/input/0_Mul/result"), [TO_1], [TO_255]
        ),
        FLOAT32_ERROR,
    ),
    "names of our own in uint8": (
        lambda model: uint8(with_inner_names(model, "uint8_frames/black", "uint8_frames/clipped")),
        LEVEL,
    ),
    "a sequence as another output": (with_sequence_output, FLOAT32_ERROR),
    "no name of the graph": (without_graph_name, FLOAT32_ERROR),
}


def eight_bits(tile: TileSpec, channels: int = 3) -> Batch:
    return np.rint(photograph(tile, channels) * 255).astype(np.float32) / np.float32(255)


def normalised_output(model: OnnxModel, batch: Batch) -> Batch:
    normalised = model.graph(TileSpec(*batch.shape[2:]))
    graph = normalised.graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["input", "output"]
    assert default_opset(normalised) == 17
    assert {"Shape", "Cast"}.isdisjoint(node.op_type for node in graph.node)
    onnx.checker.check_model(normalised, full_check=True)
    return run_onnxruntime(normalised, {"input": batch})["output"]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_form_computes_what_pytorch_computes(
    name: str, model: onnx.ModelProto, network: nn.Module, tmp_path: Path
) -> None:
    variant, error = VARIANTS[name]
    onnx_model = read_onnx_model(saved(variant(model), tmp_path / "variant.onnx"))
    batch = eight_bits(TILE)
    with torch.no_grad():
        expected = network(torch.from_numpy(batch)).numpy()
    expected = expected.clip(0, 1) if name.endswith("uint8") else expected
    assert onnx_model.card.scale == 2
    np.testing.assert_allclose(normalised_output(onnx_model, batch), expected, atol=error, rtol=0)
    np.testing.assert_allclose(onnx_model.run_original(batch), expected, atol=error, rtol=0)


@pytest.mark.parametrize(("name", "value_range"), [("as torch exports it", 1.0), ("0-255", 255.0), ("uint8", 255.0)])
def test_the_range_is_found_and_stated_in_the_card(
    name: str, value_range: float, model: onnx.ModelProto, tmp_path: Path
) -> None:
    onnx_model = read_onnx_model(saved(VARIANTS[name][0](model), tmp_path / "variant.onnx"))
    assert onnx_model.card.input_range == onnx_model.input.value_range == value_range


def test_the_channel_order_is_swapped_at_both_ends(model: onnx.ModelProto, network: nn.Module, tmp_path: Path) -> None:
    path = saved(around(model, [SWAP], [SWAP]), tmp_path / "bgr.onnx")
    batch = eight_bits(TILE)
    with torch.no_grad():
        expected = network(torch.from_numpy(batch)).numpy()
    swapped = read_onnx_model(path, channel_order="bgr")
    np.testing.assert_allclose(normalised_output(swapped, batch), expected, atol=FLOAT32_ERROR)
    np.testing.assert_allclose(swapped.run_original(batch), expected, atol=FLOAT32_ERROR)
    plain = read_onnx_model(path)
    assert np.abs(normalised_output(plain, batch) - expected).max() > 0.01


def test_external_data_is_read(model: onnx.ModelProto, network: nn.Module, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    path = saved(model, tmp_path / "external.onnx", external="weights.bin")
    assert path.stat().st_size < (tmp_path / "weights.bin").stat().st_size
    batch = eight_bits(TILE)
    with torch.no_grad():
        expected = network(torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(normalised_output(read_onnx_model(path), batch), expected, atol=FLOAT32_ERROR)


@pytest.mark.parametrize("channels", [1, 4])
def test_luma_and_rgba(channels: int, tmp_path: Path) -> None:
    repeat = around(_resize(channels), [], [])
    onnx_model = read_onnx_model(saved(repeat, tmp_path / "net.onnx"), input_range=1.0)
    assert (onnx_model.card.input_channels, onnx_model.card.output_channels) == (channels, channels)
    batch = eight_bits(TILE, channels)
    expected = batch.repeat(3, axis=2).repeat(3, axis=3)
    np.testing.assert_allclose(normalised_output(onnx_model, batch), expected, atol=FLOAT32_ERROR)


def _resize(channels: int, height: int | str = "h", width: int | str = "w") -> onnx.ModelProto:
    return onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g '
        f"(float[1,{channels},{height},{width}] x) => (float[n,c,a,b] y) "
        '<float[4] s = {1.0, 1.0, 3.0, 3.0}> { y = Resize<mode = "nearest">(x, , s) }'
    )


def test_a_file_of_fixed_size_takes_no_other_tile(tmp_path: Path) -> None:
    onnx_model = read_onnx_model(saved(_resize(3, 32, 40), tmp_path / "net.onnx"), input_range=1.0)
    assert onnx_model.fixed_tile == onnx_model.default_tile == TILE
    with raises(TileError, found=TileSpec(32, 32), wanted=TILE):
        onnx_model.graph(TileSpec(32, 32))


def test_multiples_of_the_sides_are_found(model: onnx.ModelProto, tmp_path: Path) -> None:
    """Windows of 8 pixels, as transformers have them: only multiples run."""
    windows = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1,3,h,w] x) => (float[n,c,a,b] y) '
        "<int64[1] h0 = {2}, int64[1] h1 = {3}, int64[1] h2 = {4}, int64[1] eight = {8}, int64[2] lead = {1, 3}> "
        "{ s = Shape(x) hh = Slice(s, h0, h1) ww = Slice(s, h1, h2) hb = Div(hh, eight) wb = Div(ww, eight) "
        "to = Concat<axis = 0>(lead, hb, eight, wb, eight) r = Reshape(x, to) "
        "back = Concat<axis = 0>(lead, hh, ww) y = Reshape(r, back) }"
    )
    onnx_model = read_onnx_model(saved(windows, tmp_path / "windows.onnx"), input_range=1.0)
    assert (onnx_model.card.multiple_px, onnx_model.card.minimum_px) == (8, 8)
    with raises(TileError, found=TileSpec(36, 36), wanted=8):
        onnx_model.graph(TileSpec(36, 36))


def test_a_graph_that_runs_at_one_size_only_is_tried_at_the_tile(tmp_path: Path) -> None:
    """Its sizes are dynamic by name, but a reshape contains those with which it was traced."""
    traced = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1,3,h,w] x) => (float[n,c,a,b] y) '
        "<int64[4] sizes = {1, 3, 20, 36}> { y = Reshape(x, sizes) }"
    )
    path = saved(traced, tmp_path / "traced.onnx")
    with raises(ExportError):
        read_onnx_model(path, input_range=1.0)
    assert read_onnx_model(path, input_range=1.0, tile=TileSpec(20, 36)).fixed_tile == TileSpec(20, 36)


def test_a_file_of_the_first_opsets(tmp_path: Path) -> None:
    """Upsample became Resize in opset 10; IR version 3 lists the constants as inputs."""
    upsample = onnx.parser.parse_model(
        '<ir_version: 3, opset_import: ["" : 9]> g (float[1,3,h,w] x, float[4] s) => (float[n,c,a,b] y) '
        '{ y = Upsample<mode = "nearest">(x, s) }'
    )
    upsample.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 1, 4, 4], np.float32), "s"))
    onnx_model = read_onnx_model(saved(upsample, tmp_path / "old.onnx"), input_range=1.0)
    batch = eight_bits(TILE)
    assert onnx_model.card.scale == 4
    expected = batch.repeat(4, axis=2).repeat(4, axis=3)
    np.testing.assert_allclose(normalised_output(onnx_model, batch), expected, atol=FLOAT32_ERROR)


def test_a_graph_that_cannot_be_converted_keeps_its_opset(tmp_path: Path) -> None:
    """Antialiasing came with opset 18, and is no default."""
    resize = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> g (float[1,3,h,w] x) => (float[n,c,a,b] y) '
        "<float[4] s = {1.0, 1.0, 2.0, 2.0}> "
        '{ y = Resize<mode = "cubic", antialias = 1>(x, , s) }'
    )
    onnx_model = read_onnx_model(saved(resize, tmp_path / "resize.onnx"), input_range=1.0)
    assert "Resize" in next(change for change in onnx_model.changes if "opset 18" in change)
    graph = onnx_model.graph(TILE)
    assert default_opset(graph) == 18
    batch = eight_bits(TILE)
    output = run_onnxruntime(graph, {"input": batch})["output"]
    np.testing.assert_allclose(output, onnx_model.run_original(batch), atol=FLOAT32_ERROR)


def test_a_network_that_crops_to_a_multiple(tmp_path: Path) -> None:
    """At other sizes it runs, but does not return the whole picture."""
    cropping = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1,3,h,w] x) => (float[n,c,a,b] y) '
        "<int64[1] two = {2}, int64[1] four = {4}, int64[2] step = {10, 10}, int64[2] zero = {0, 0}, "
        "int64[2] axes = {2, 3}> "
        "{ s = Shape(x) hw = Slice(s, two, four) steps = Div(hw, step) end = Mul(steps, step) "
        "y = Slice(x, zero, end, axes) }"
    )
    card = read_onnx_model(saved(cropping, tmp_path / "crop.onnx"), input_range=1.0).card
    assert (card.scale, card.multiple_px) == (1, 10)


def test_a_batch_in_the_constants_of_reshapes_is_divided(tmp_path: Path) -> None:
    """`torch` writes the batch of a fixed export into every reshape."""
    shuffled = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[4,3,16,24] x) => (float[4,3,16,24] y) '
        "<int64[6] split = {4, 3, 2, 8, 3, 8}, int64[4] back = {4, 3, 16, 24}> "
        "{ r = Reshape(x, split) y = Reshape(r, back) }"
    )
    onnx_model = read_onnx_model(saved(shuffled, tmp_path / "batch.onnx"), input_range=1.0)
    batch = eight_bits(TileSpec(16, 24))
    np.testing.assert_allclose(normalised_output(onnx_model, batch), batch, atol=FLOAT32_ERROR)


@pytest.mark.parametrize("names", [("r", "b"), ("x/batch", "batch/repeats")])
def test_a_batch_that_cannot_be_reduced_is_computed_whole(names: tuple[str, str], tmp_path: Path) -> None:
    """The mean over the batch is not that of one picture; with four equal pictures it is."""
    flat, biased = names
    mixing = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[2,3,16,24] x) => (float[2,3,16,24] y) '
        "<int64[1] all = {-1}, int64[4] back = {2, 3, 16, 24}, float[2304] bias> "
        "{ r = Reshape(x, all) b = Add(r, bias) y = Reshape(b, back) }"
    )
    for node in mixing.graph.node:
        node.input[:] = [{"r": flat, "b": biased}.get(name, name) for name in node.input]
        node.output[:] = [{"r": flat, "b": biased}.get(name, name) for name in node.output]
    bias = onnx.numpy_helper.from_array(np.zeros(2304, np.float32), "bias")
    mixing.graph.initializer.append(bias)
    onnx_model = read_onnx_model(saved(mixing, tmp_path / "batch.onnx"), input_range=1.0)
    batch = eight_bits(TileSpec(16, 24))
    np.testing.assert_allclose(normalised_output(onnx_model, batch), batch, atol=FLOAT32_ERROR)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"input_range": 2.0}, 2.0),
        ({"channel_order": "gbr"}, "gbr"),
    ],
)
def test_wrong_options(options: dict[str, object], found: object, model: onnx.ModelProto, tmp_path: Path) -> None:
    path = saved(model, tmp_path / "net.onnx")
    with raises(UsageError, found=found):
        read_onnx_model(path, **options)  # type: ignore[arg-type]
