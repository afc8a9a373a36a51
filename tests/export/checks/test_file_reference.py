"""A graph made from a user's ONNX file is accepted if it computes what the file computes, and refused otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch

from sr_edge.controls import Controls
from sr_edge.errors import ExportError, UsageError
from sr_edge.export.checks.parity import PARITY_BOUND, compare_with_network, difference
from sr_edge.export.checks.references.file_reference import rounded_otherwise
from sr_edge.export.export import export_onnx
from sr_edge.export.graph.file_network import FileNetwork
from sr_edge.export.graph.metadata import Form
from sr_edge.export.graph.onnxruntime_run import open_onnxruntime, run_session
from sr_edge.export.graph.patches import check_patches
from sr_edge.frames import Batch
from sr_edge.models import LoadedModel
from sr_edge.spec import ModelCard, TileSpec
from tests.expected_errors import raises

TILE = TileSpec(16, 16)
Weights = npt.NDArray[np.float32]

HEADER = '<ir_version: 8, opset_import: ["" : 17]>'
SHUFFLE = 'rows = Conv <pads = [1, 1, 1, 1]> (x, w, b) y = DepthToSpace <blocksize = 2, mode = "CRD"> (rows)'
# On binary noise, the energy of fine detail lets the output explode; on photographs nothing happens.
POWER = """
    detail = Conv <pads = [1, 1, 1, 1], group = 3> (x, laplace) size = Abs (detail)
    energy = ReduceMean <axes = [1, 2, 3]> (size) excess = Sub (energy, one) burst = Relu (excess)
    gain = Mul (burst, nine) factor = Add (gain, one) power = Pow (factor, four)
"""
EXPLODING = f"""{POWER}
    rows = Conv <pads = [1, 1, 1, 1]> (x, w, b) large = Mul (rows, power)
    y = DepthToSpace <blocksize = 2, mode = "CRD"> (large)
"""
REORDERED = f"""{POWER}
    scaled = Mul (x, power) rows = Conv <pads = [1, 1, 1, 1]> (scaled, w) bias = Mul (power, wide)
    large = Add (rows, bias) y = DepthToSpace <blocksize = 2, mode = "CRD"> (large)
"""


def graph(body: str, **changed: Weights) -> onnx.ModelProto:
    """A graph from x, of the size of the tile, to y, of twice that size; `changed` replaces its weights."""
    generator = np.random.default_rng(0)
    laplace = np.broadcast_to(np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]]), (3, 1, 3, 3))
    constants = {
        "w": 0.2 * generator.normal(size=(12, 3, 3, 3)),
        "b": 0.2 * generator.normal(size=12),
        "laplace": laplace,
        **{name: np.array(value) for name, value in {"one": 1.0, "nine": 9.0, "four": 4.0, "levels": 255.0}.items()},
        **changed,
    }
    model = onnx.parser.parse_model(f"{HEADER} g (float[1,3,16,16] x) => (float[1,3,32,32] y) {{ {body} }}")
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()
    )
    return model


@dataclass(frozen=True)
class File:
    """The network file of a graph, as it would have been read; `prepared` is what was made of it."""

    original: onnx.ModelProto
    prepared: onnx.ModelProto
    output_step: float = 0.0
    path: Path = Path("mine.onnx")
    fixed_tile: TileSpec | None = TILE
    input_step: float = 0.0

    def graph(self, tile: TileSpec) -> onnx.ModelProto:
        return self.prepared

    def run(self, batch: Batch, setting: Controls, optimize: bool = True) -> Batch:
        return np.asarray(run_session(open_onnxruntime(self.original, optimize), {"x": batch})["y"])


def weights_of(model: onnx.ModelProto, name: str) -> Weights:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    return onnx.numpy_helper.to_array(tensor).copy()


def parity(original: onnx.ModelProto, prepared: onnx.ModelProto, step: float = 0.0) -> str:
    """Why the prepared graph is refused, or ""."""
    return compare_with_network(prepared, FileNetwork(File(original, prepared, step)), check_patches(TILE)).refusal


def exported(file: File, path: Path, form: Form = Form.STATIC, dynamic: bool = False) -> None:
    model = LoadedModel(FileNetwork(file).eval(), ModelCard(name="mine", scale=2, parameters=336))
    export_onnx(model, TILE, path, form=form, dynamic=dynamic)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("b", lambda values: values + 1e-3),
        ("w", lambda values: values[:, [1, 0, 2]]),
        ("w", lambda values: values * 1.002),
        ("w", lambda values: np.flip(values, 3)),
    ],
)
def test_a_graph_that_computes_something_else_is_refused_and_not_written(
    name: str, change: Callable[[Weights], Weights], tmp_path: Path
) -> None:
    original = graph(SHUFFLE)
    wrong = graph(SHUFFLE, **{name: change(weights_of(original, name))})
    assert not parity(original, graph(SHUFFLE))
    assert "mine.onnx" in parity(original, wrong)
    exported(File(original, original), tmp_path / "right.onnx")
    with raises(ExportError, wanted=PARITY_BOUND):
        exported(File(original, wrong), tmp_path / "wrong.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["right.onnx"]


def test_a_network_that_amplifies_rounding_is_excused_on_its_worst_case_alone() -> None:
    original = graph(EXPLODING)
    reordered = graph(REORDERED, wide=weights_of(original, "b").reshape(1, 12, 1, 1))
    network = FileNetwork(File(original, reordered))
    result = compare_with_network(reordered, network, check_patches(TILE))
    assert result.passed and [patch.patch for patch in result.excused] == ["binary noise"]
    wrong = graph(EXPLODING, b=weights_of(original, "b") + 1e-3)
    assert "photograph" in parity(original, wrong)
    wrong_there = graph(EXPLODING, nine=np.array(9.01))
    assert "binary noise" in parity(original, wrong_there)


class TestRoundedOutput:
    """Of a file that returns bytes, equal networks differ by a level where a value lies between two."""

    ROUNDED = f"{SHUFFLE.replace(' y =', ' f =')} l = Mul (f, levels) r = Round (l) y = Div (r, levels)"

    @pytest.mark.parametrize(("shift", "is_refused"), [(1e-6, False), (5e-4, True), (4e-3, True)])
    def test_a_shift_is_seen_in_spite_of_the_rounding(self, shift: float, is_refused: bool) -> None:
        original = graph(self.ROUNDED)
        shifted = graph(self.ROUNDED, b=weights_of(original, "b") + np.float32(shift))
        assert bool(parity(original, shifted, 1 / 255)) is is_refused

    def test_one_wrong_pixel_is_seen_and_one_level_in_one_pixel_is_not(self) -> None:
        expected = np.full((1, 3, 32, 32), 10 / 255)
        actual = expected.copy()
        actual[0, 0, 0, 0] += 1 / 255
        assert (
            difference(actual, expected, 1 / 255).max_abs_error
            < PARITY_BOUND
            < difference(actual, expected).max_abs_error
        )
        actual[0, 0, 0, 0] += 1 / 255
        assert difference(actual, expected, 1 / 255).max_abs_error == pytest.approx(2 / 255)


def test_every_sample_is_rounded_otherwise_by_one_unit_within_the_range() -> None:
    batch = check_patches(TILE)[0].batch
    other = rounded_otherwise(batch)
    inner = (batch > 0.0) & (batch < 1.0)
    assert (other[inner] != batch[inner]).all()
    assert other.min() >= 0.0 and other.max() <= 1.0
    np.testing.assert_allclose(other, batch, rtol=1.2e-7, atol=1e-44)


@pytest.mark.parametrize(
    ("form", "dynamic", "option"), [(Form.TRACED, False, "--form traced"), (Form.STATIC, True, "--dynamic")]
)
def test_options_for_tracing_are_refused(form: Form, dynamic: bool, option: str, tmp_path: Path) -> None:
    with raises(UsageError, found=option):
        exported(File(graph(SHUFFLE), graph(SHUFFLE)), tmp_path / "a.onnx", form, dynamic)


def test_the_module_of_a_file_runs_one_image_of_a_batch_after_the_other() -> None:
    network = FileNetwork(File(graph(SHUFFLE), graph(SHUFFLE)))
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    both = network(images)
    assert both.shape == (2, 3, 32, 32)
    assert torch.equal(both[1:], network(images[1:]))
