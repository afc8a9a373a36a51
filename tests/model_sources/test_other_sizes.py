"""A file of one size is opened to others only if it computes the same there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from sr_edge.errors import TileError
from sr_edge.model_sources import read_onnx_model
from sr_edge.spec import TileSpec
from tests.expected_errors import raises
from tests.model_sources.small_files import small_file

FIXED = TileSpec(16, 24)
NEAREST = 'y = Resize <mode = "nearest"> (a, , scales)'
CONSTANTS: dict[str, npt.NDArray[Any]] = {
    "scales": np.array([1, 1, 2, 2], np.float32),
    "shape": np.array([1, 3, 384], np.int64),
    "back": np.array([1, 3, 16, 24], np.int64),
    "open": np.array([0, 3, -1], np.int64),
    "sizes": np.array([1, 3, 32, 48], np.int64),
    "table": np.linspace(0.0, 0.1, 16, dtype=np.float32).reshape(1, 1, 16, 1),
    "column": np.linspace(0.0, 0.1, 24, dtype=np.float32).reshape(1, 1, 1, 24),
    "axes": np.array([2, 3], np.int64),
}


def file(path: Path, body: str) -> Path:
    header = '<ir_version: 8, opset_import: ["" : 17]>'
    model = onnx.parser.parse_model(f"{header} g (float[1,3,16,24] x) => (float[1,3,32,48] y) {{ {body} }}")
    used = [name for name in CONSTANTS if name in body]
    model.graph.initializer.extend(onnx.numpy_helper.from_array(CONSTANTS[name], name) for name in used)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("tile", [TileSpec(40, 32), TileSpec(12, 16), TileSpec(32, 12)])
def test_convolutions_take_any_size(tile: TileSpec, tmp_path: Path) -> None:
    path = small_file(tmp_path / "small.onnx", batch=2)
    model = read_onnx_model(path, tile=tile)
    assert model.fixed_tile is None
    assert model.sha256 == read_onnx_model(path).sha256
    image = np.random.default_rng(0).random((1, 3, tile.height, tile.width), np.float32)
    assert model.run_original(image).shape == (1, 3, 2 * tile.height, 2 * tile.width)


def test_at_its_own_size_a_file_stays_as_it_is(tmp_path: Path) -> None:
    path = small_file(tmp_path / "small.onnx")
    assert read_onnx_model(path, tile=FIXED).fixed_tile == read_onnx_model(path).fixed_tile == FIXED


@pytest.mark.parametrize(
    ("body", "tile"),
    [
        (f"f = Reshape (x, shape) a = Reshape (f, back) {NEAREST}", TileSpec(32, 32)),
        (f"f = Reshape (x, open) a = Reshape (f, back) {NEAREST}", TileSpec(24, 16)),
        ('y = Resize <mode = "nearest"> (x, , , sizes)', TileSpec(32, 32)),
        (f"a = Add (x, table) {NEAREST}", TileSpec(32, 24)),
        (f"r = Add (x, table) a = Add (r, column) {NEAREST}", TileSpec(24, 32)),
        (f"m = ReduceMean <axes = [2, 3]> (x) a = Sub (x, m) {NEAREST}", TileSpec(24, 32)),
    ],
)
def test_sizes_in_constants_and_whole_pictures_are_refused(body: str, tile: TileSpec, tmp_path: Path) -> None:
    path = file(tmp_path / "sized.onnx", body)
    assert read_onnx_model(path, input_range=1.0).fixed_tile == FIXED
    with raises(TileError, found=tile, wanted=FIXED):
        read_onnx_model(path, input_range=1.0, tile=tile)
