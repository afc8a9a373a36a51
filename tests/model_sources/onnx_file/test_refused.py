"""ONNX files that cannot be used: each is one clear error, and no file outside their folder is read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from sr_edge.errors import ExportError
from sr_edge.model_sources import read_onnx_model
from sr_edge.model_sources.onnx_file.external_data import MAX_BYTES
from sr_edge.model_sources.onnx_file.reading import read_model
from tests.expected_errors import raises
from tests.model_sources.onnx_variants import copied, saved

PICTURE = "float[1,3,h,w] x"


def parsed(body: str, inputs: str = PICTURE, constants: str = "", opset: int = 17, domain: str = "") -> onnx.ModelProto:
    imports = f'"" : {opset}' + (f', "{domain}" : 1' if domain else "")
    return onnx.parser.parse_model(
        f"<ir_version: 8, opset_import: [{imports}]> g ({inputs}) => (float[n,c,a,b] y) <{constants}> {{ {body} }}"
    )


def resized(factors: str) -> onnx.ModelProto:
    return parsed('y = Resize<mode = "nearest">(x, , s)', constants=f"float[4] s = {{1.0, 1.0, {factors}}}")


def branching(condition: str) -> onnx.ModelProto:
    """A graph with an If, whose condition is an input of the node."""
    branches = (
        "then_branch = t () => (float[a,b,c,d] u) { u = Relu(x) }, else_branch = e () => (float[a,b,c,d] v) "
        "{ v = Neg(x) }"
    )
    return parsed(f"{condition} y = If <{branches}> (condition)", constants="float half = {0.5}")


def sequence() -> onnx.ModelProto:
    """A graph that returns only a sequence of tensors."""
    graph = parsed("y = SequenceConstruct(x)")
    graph.graph.output[0].CopyFrom(onnx.helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None))
    return graph


REFUSED: dict[str, tuple[onnx.ModelProto, object]] = {
    "control flow": (branching("m = ReduceMean<keepdims = 0>(x) condition = Greater(m, half)"), ("If",)),
    "two pictures": (parsed("y = Add(x, z)", f"{PICTURE}, float[1,3,h,w] z"), ("x", "z")),
    "a time step": (parsed("y = Mul(x, t)", f"{PICTURE}, float[1] t"), ("t",)),
    "int64": (parsed("y = Cast<to = 1>(x)", "int64[1,3,h,w] x"), "INT64"),
    "five dimensions": (parsed("y = Relu(x)", "float[1,5,3,h,w] x"), (1, 5, 3, "h", "w")),
    "three frames": (parsed("y = Relu(x)", "float[1,9,h,w] x"), 9),
    "any rank": (parsed("y = Relu(x)", "float[] x"), None),
    "no multiple": (parsed("y = Pad(x, p)", constants="int64[8] p = {0, 0, 1, 1, 0, 0, 1, 1}"), ((1, 3, 66, 50),)),
    "five times": (resized("5.0, 5.0"), ((1, 3, 320, 240),)),
    "not the same in both directions": (resized("2.0, 3.0"), ((1, 3, 128, 144),)),
    "smaller": (resized("0.5, 0.5"), ((1, 3, 32, 24),)),
    "a classifier": (parsed("y = GlobalAveragePool(x)"), ((1, 3, 1, 1),)),
    "a sequence": (sequence(), ()),
    "a custom operator": (parsed("y = my.ops.Sharpen(x)", domain="my.ops"), "my.ops::Sharpen"),
    "an optimized file": (parsed("y = com.microsoft.QuickGelu(x)", domain="com.microsoft"), "com.microsoft::QuickGelu"),
    "a future opset": (parsed("y = Relu(x)", opset=99), 99),
}


@pytest.mark.parametrize("name", REFUSED)
def test_graphs_that_are_no_network_for_one_picture(name: str, tmp_path: Path) -> None:
    graph, found = REFUSED[name]
    if name == "any rank":
        graph.graph.input[0].type.tensor_type.ClearField("shape")
    path = saved(graph, tmp_path / "net.onnx")
    with raises(ExportError, found=found) as caught:
        read_onnx_model(path, input_range=1.0).graph()
    assert str(path) in caught.value.problem


def test_an_if_whose_condition_is_constant_is_folded(tmp_path: Path) -> None:
    path = saved(branching("one = Add(half, half) condition = Greater(one, half)"), tmp_path / "net.onnx")
    nodes = read_onnx_model(path, input_range=1.0).graph().graph.node
    assert [node.op_type for node in nodes] == ["Relu"]


def test_a_random_network_tells_no_range_so_that_the_usual_one_is_assumed_and_said(tmp_path: Path) -> None:
    graph = parsed("y = Conv<pads = [1, 1, 1, 1]>(x, w)", f"{PICTURE}, float[3,3,3,3] w")
    weights = np.random.default_rng(0).standard_normal((3, 3, 3, 3)).astype(np.float32)
    graph.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    path = saved(graph, tmp_path / "random.onnx")
    model = read_onnx_model(path)
    assert model.card.input_range == 1.0
    (said,) = (change for change in model.changes if "range" in change)
    assert "assumed" in said
    assert read_onnx_model(path, input_range=255.0).card.input_range == 255.0


@pytest.mark.parametrize(
    ("content", "found"),
    [(b"", 0), (b"This is not a model.\n" * 9, None), (b"<!DOCTYPE html><html></html>", None), (b"\x08\x08", None)],
)
def test_files_that_are_no_onnx(content: bytes, found: object, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with raises(ExportError, found=path if found is None else found):
        read_model(path)


def test_a_file_that_was_cut_short(model: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString()[:-1000])
    with raises(ExportError, found=path):
        read_model(path)


def test_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.onnx"):
        with raises(ExportError, found=path):
            read_model(path)


def test_files_above_the_limit_of_protobuf_are_not_read(model: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    path.touch()
    os.truncate(path, MAX_BYTES + 1)
    with raises(ExportError, found=MAX_BYTES + 1, wanted=MAX_BYTES):
        read_model(path)
    huge = copied(model)
    _make_external(huge.graph.initializer[0], location="huge.bin")
    huge.graph.initializer[0].dims[:] = [1 << 30]
    (tmp_path / "huge.bin").touch()
    os.truncate(tmp_path / "huge.bin", 4 << 30)
    with raises(ExportError, wanted=MAX_BYTES):
        read_model(saved(huge, tmp_path / "huge.onnx"))


def _make_external(tensor: onnx.TensorProto, **entries: object) -> bytes:
    """Moves the bytes of a tensor out of the model; returns them."""
    raw = bytes(onnx.numpy_helper.to_array(tensor).tobytes())
    for field in ("raw_data", "float_data"):
        tensor.ClearField(field)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return raw


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "short.bin"},
        {"location": "absent.bin"},
        {"location": "../outside.bin"},
        {"location": "/etc/hostname"},
        {"location": "link.bin"},
        {"location": "pipe.bin"},
        {"location": "."},
        {"location": ""},
        {"location": "long" * 1000},
        {"location": "weights.bin", "offset": -4},
        {"location": "weights.bin", "offset": "x"},
        {"location": "weights.bin", "offset": 4},
        {"location": "weights.bin", "length": 8},
    ],
    ids=lambda entries: str(entries)[:40],
)
def test_external_data_that_is_cut_short_or_outside_of_the_folder(
    entries: dict[str, object], model: onnx.ModelProto, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    referring = copied(model)
    raw = _make_external(referring.graph.initializer[0], **entries)
    for name, content in (("folder/weights.bin", raw), ("folder/short.bin", raw[:-1]), ("outside.bin", raw)):
        (tmp_path / name).write_bytes(content)
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    os.mkfifo(folder / "pipe.bin")
    with pytest.raises(ExportError) as caught:
        read_model(saved(referring, folder / "net.onnx"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_external_data_inside_the_folder(model: onnx.ModelProto, tmp_path: Path) -> None:
    referring = copied(model)
    raw = _make_external(referring.graph.initializer[0], location="data/weights.bin", offset=8)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/weights.bin").write_bytes(bytes(8) + raw)
    read = read_model(saved(referring, tmp_path / "net.onnx"))
    np.testing.assert_array_equal(
        onnx.numpy_helper.to_array(read.graph.initializer[0]),
        onnx.numpy_helper.to_array(model.graph.initializer[0]),
    )


def test_external_data_of_a_constant_in_a_function(tmp_path: Path) -> None:
    graph = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17, "own" : 1]> g (float[1,3,h,w] x) => (float[1,3,h,w] y) '
        '{ y = own.Brighter(x) } <domain: "own", opset_import: ["" : 17]> Brighter (a) => (b) '
        "{ k = Constant <value = float[1] {0.25}> () b = Add(a, k) }"
    )
    (tmp_path / "k.bin").write_bytes(_make_external(graph.functions[0].node[0].attribute[0].t, location="k.bin"))
    read = read_onnx_model(saved(graph, tmp_path / "net.onnx"), input_range=1.0)
    batch = np.zeros((1, 3, 16, 24), np.float32)
    np.testing.assert_array_equal(read.run_original(batch), np.full_like(batch, 0.25))


def test_links_of_a_download_cache(model: onnx.ModelProto, tmp_path: Path) -> None:
    """Both files are links into one folder, in which they have other names."""
    for folder in ("blobs", "snapshot"):
        (tmp_path / folder).mkdir()
    referring = copied(model)
    (tmp_path / "blobs/2").write_bytes(_make_external(referring.graph.initializer[0], location="net.onnx.data"))
    saved(referring, tmp_path / "blobs/1")
    (tmp_path / "snapshot/net.onnx").symlink_to("../blobs/1")
    (tmp_path / "snapshot/net.onnx.data").symlink_to("../blobs/2")
    assert read_model(tmp_path / "snapshot/net.onnx").graph.initializer[0].raw_data
