"""A picture's own 256 levels go into the first layer as they are, and hard edges do not saturate what comes after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from sr_edge.calibration import Calibration, Decision, Order, PlacementPolicy, Provenance, TensorRange, calibrate_within
from sr_edge.calibration.columns import possible_layers
from sr_edge.calibration.hard_edges import COUNT, hard_edged
from sr_edge.calibration.patches import PICTURES, calibration_patches, held_out_patches
from sr_edge.calibration.pictures import may_be_unsigned
from sr_edge.calibration.qdq import insert_qdq
from sr_edge.calibration.search import Sampled, Statistics, search_range
from sr_edge.calibration.switched import SwitchedGraph
from sr_edge.calibration.watched import Batch
from sr_edge.calibration.weights import int8_weight
from sr_edge.export import export_onnx
from sr_edge.export.graph import view_graph
from sr_edge.models import load_model
from sr_edge.spec import Spelling, TileSpec
from tests.calibration.graphs import Run, Values, of_nodes, random_weight

WEIGHT = random_weight(4, 3, 3, 3)
BIAS = random_weight(4, seed=1)


def one_conv(
    weight: Values = WEIGHT, white: float = 1.0, pads: tuple[int, ...] = (0, 0, 0, 0), auto_pad: str = "NOTSET"
) -> onnx.ModelProto:
    """x / white -> conv -> y."""
    nodes = [
        helper.make_node("Div", ["x", "white"], ["scaled"], name="scale"),
        helper.make_node("Conv", ["scaled", "w", "b"], ["y"], name="conv"),
    ]
    padding = {"pads": pads} if auto_pad == "NOTSET" else {"auto_pad": auto_pad}
    nodes[1].attribute.extend(helper.make_attribute(name, value) for name, value in padding.items())
    return of_nodes(nodes, {"w": weight, "b": BIAS, "white": np.float32(white)})


def with_levels(is_unsigned: bool) -> Calibration:
    ranges = {"scaled": TensorRange(0.0, 1.0, 1.0, is_unsigned=is_unsigned)}
    return Calibration(Provenance("", (), ""), PlacementPolicy(), ranges, (Decision("conv", "Conv", True, ""),))


UNSIGNED = with_levels(is_unsigned=True)


def picture(seed: int = 0) -> Batch:
    return (np.random.default_rng(seed).integers(0, 256, (1, 3, 24, 24)) / 255.0).astype(np.float32)


class TestUnsigned:
    @pytest.mark.parametrize("spelling", list(Spelling))
    @pytest.mark.parametrize("pads", [(1, 1, 1, 1), (0, 2, 1, 0), (0, 0, 0, 0)])
    def test_a_picture_of_8_bits_loses_nothing_but_in_the_weights(
        self, spelling: Spelling, pads: tuple[int, ...], run_as_written: Run
    ) -> None:
        rounded = one_conv(int8_weight(WEIGHT, 0), pads=pads)
        found = run_as_written(insert_qdq(one_conv(pads=pads), UNSIGNED, spelling), picture())
        np.testing.assert_allclose(found, run_as_written(rounded, picture()), atol=1e-5)

    def test_signed_levels_lose_half_of_them(self, run_as_written: Run) -> None:
        rounded = run_as_written(one_conv(int8_weight(WEIGHT, 0)), picture())
        found = run_as_written(insert_qdq(one_conv(), with_levels(is_unsigned=False), Spelling.S8), picture())
        assert np.abs(found - rounded).max() > 1e-3

    def test_both_spellings_are_bit_equal(self, run_as_written: Run) -> None:
        graphs = [insert_qdq(one_conv(pads=(1, 1, 1, 1)), UNSIGNED, spelling) for spelling in Spelling]
        signed, unsigned = (run_as_written(graph, picture()) for graph in graphs)
        np.testing.assert_array_equal(signed, unsigned)

    def test_what_is_judged_is_what_is_written(self, run_as_written: Run) -> None:
        model = one_conv(pads=(1, 1, 1, 1))
        judged = SwitchedGraph(model, UNSIGNED).run(picture(), ["conv"])
        np.testing.assert_allclose(
            judged, run_as_written(insert_qdq(model, UNSIGNED, Spelling.S8), picture()), atol=1e-5
        )

    def test_openvino_computes_it_alike(self, run_as_written: Run, run_openvino: Run) -> None:
        written = insert_qdq(one_conv(pads=(1, 1, 1, 1)), UNSIGNED, Spelling.U8)
        np.testing.assert_allclose(run_openvino(written, picture()), run_as_written(written, picture()), atol=1e-4)


class TestWhichTensors:
    @staticmethod
    def found(model: onnx.ModelProto, tensor: str) -> bool:
        readers = [layer for layer in possible_layers(model).values() if layer.site.activation == tensor]
        assert readers
        return may_be_unsigned(view_graph(model), tensor, readers)

    @pytest.mark.parametrize("white", [1.0, 255.0])
    def test_the_picture_and_what_it_is_divided_by(self, white: float) -> None:
        assert self.found(one_conv(white=white), "scaled")

    def test_not_a_picture_turned_negative(self) -> None:
        assert not self.found(one_conv(white=-1.0), "scaled")

    def test_not_behind_another_layer(self) -> None:
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["a"], name="first"),
            helper.make_node("Relu", ["a"], ["r"], name="relu"),
            helper.make_node("Conv", ["r", "v"], ["y"], name="second"),
        ]
        model = of_nodes(nodes, {"w": WEIGHT, "v": random_weight(4, 4, 1, 1)})
        assert self.found(model, "x")
        assert not self.found(model, "r")

    def test_not_where_a_mean_is_subtracted(self) -> None:
        nodes = [
            helper.make_node("Sub", ["x", "m"], ["c"], name="mean"),
            helper.make_node("Conv", ["c", "w"], ["y"], name="conv"),
        ]
        assert not self.found(of_nodes(nodes, {"w": WEIGHT, "m": np.float32(0.4)}), "c")

    def test_not_where_padding_is_left_to_the_runtime(self) -> None:
        assert self.found(one_conv(), "scaled")
        assert not self.found(one_conv(auto_pad="SAME_UPPER"), "scaled")

    def test_not_where_two_layers_pad_it_differently(self) -> None:
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["a"], name="a", pads=[1, 1, 1, 1]),
            helper.make_node("Conv", ["x", "v"], ["b"], name="b"),
            helper.make_node("Add", ["a", "b"], ["y"], name="sum"),
        ]
        assert not self.found(of_nodes(nodes, {"w": WEIGHT, "v": random_weight(4, 3, 1, 1)}), "x")

    @pytest.mark.parametrize(("lowest", "expected"), [(0.0, True), (-0.5, False)])
    def test_the_search_takes_it_for_pictures_and_for_nothing_negative(self, lowest: float, expected: bool) -> None:
        layer = next(iter(possible_layers(one_conv(random_weight(4, 3, 1, 1))).values()))
        levels = np.random.default_rng(0).integers(0, 256, (500, 3))
        values = (levels / 255 * (1 - lowest) + lowest).astype(np.float32)
        statistics = Statistics(values.min(axis=0), values.max(axis=0))
        found = search_range(statistics, [Sampled.of(layer, values[np.newaxis])], None, may_be_unsigned=True)
        assert found.range.is_unsigned is expected


class TestHardEdges:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_a_few_patches_in_black_and_white(self, channels: int) -> None:
        patches = [picture(seed)[:, :channels] for seed in range(5)]
        found = hard_edged(patches)
        assert len(found) == COUNT
        for twin in found:
            assert twin.shape == patches[0].shape
            assert twin.dtype == np.float32
            assert 0.0 == twin.min() < twin.max() == 1.0
            np.testing.assert_array_equal(twin * 255, np.rint(twin * 255))

    def test_one_patch_has_one_twin(self) -> None:
        assert len(hard_edged([picture()])) == 1

    def test_lettering_does_not_saturate_a_network_calibrated_on_photographs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tile, path = TileSpec(48, 48), tmp_path / "convnet.onnx"
        export_onnx(load_model("convnet-tiny", 2), tile, path)
        with_edges = change_of_lettering(path, tile)
        monkeypatch.setattr("sr_edge.calibration.tuning.hard_edged", lambda patches: [])
        assert with_edges < 0.25 * change_of_lettering(path, tile)


def change_of_lettering(path: Path, tile: TileSpec) -> float:
    """Mean squared change of the output by INT8, on white strokes three pixels wide."""
    account = calibrate_within(path, calibration_patches(PICTURES, tile), held_out_patches(PICTURES, tile), Order())
    graph = SwitchedGraph(onnx.load(path), account.calibration)
    lettering = np.zeros((1, 3, tile.height, tile.width), np.float32)
    for row in range(2, 44, 7):
        lettering[:, :, row : row + 3, 3:45] = 1.0
    lettering[:, :, :, 20:23] = 1.0
    change = graph.run(lettering, account.calibration.int8_nodes) - graph.run(lettering, [])
    return float(np.mean(np.square(change)))
