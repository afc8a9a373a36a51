"""The 256 levels of an image reach the first layer exactly, and hard edges do not saturate later layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from sr_edge.calibration import (
    Budget,
    Calibration,
    CalibrationConfig,
    Decision,
    PlacementPolicy,
    Provenance,
    TensorRange,
    calibrate,
    calibrate_within,
)
from sr_edge.calibration.data.hard_edges import COUNT, hard_edged_patches
from sr_edge.calibration.data.patch import Float32Array
from sr_edge.calibration.data.patches import calibration_patches, held_out_patches
from sr_edge.calibration.graph.im2col import quantizable_layers
from sr_edge.calibration.graph.int8 import int8_weight
from sr_edge.calibration.qdq.fake_quant import FakeQuantGraph
from sr_edge.calibration.qdq.writer import insert_qdq
from sr_edge.calibration.ranges.search import LayerSamples, TensorStatistics, search_range
from sr_edge.calibration.ranges.unsigned import may_be_unsigned
from sr_edge.calibration.selection.openvino_timings import output_of
from sr_edge.export import export_onnx
from sr_edge.export.graph.patches import PICTURES
from sr_edge.export.graph.view import view_graph
from sr_edge.frames import Batch
from sr_edge.models import load_model
from sr_edge.runtimes import supports
from sr_edge.spec import ActivationType, Precision, TileSpec
from tests.calibration.graphs import Run, of_nodes, random_weight

WEIGHT = random_weight(4, 3, 3, 3)
BIAS = random_weight(4, seed=1)

Attributes = Mapping[str, Any]


def one_conv(
    weight: Float32Array = WEIGHT, input_range: float = 1.0, bias: Float32Array | None = BIAS, **attributes: Any
) -> onnx.ModelProto:
    """x / input_range -> conv -> y."""
    constants = {"w": weight, "input_range": np.float32(input_range)} | ({} if bias is None else {"b": bias})
    inputs = ["scaled", "w"] if bias is None else ["scaled", "w", "b"]
    nodes = [
        helper.make_node("Div", ["x", "input_range"], ["scaled"], name="scale"),
        helper.make_node("Conv", inputs, ["y"], name="conv", **attributes),
    ]
    return of_nodes(nodes, constants)


def with_levels(is_unsigned: bool) -> Calibration:
    ranges = {"scaled": TensorRange(0.0, 1.0, 1.0, is_unsigned=is_unsigned)}
    return Calibration(Provenance("", (), ""), PlacementPolicy(), ranges, (Decision("conv", "Conv", True, ""),))


UNSIGNED = with_levels(is_unsigned=True)


def picture(seed: int = 0) -> Batch:
    return (np.random.default_rng(seed).integers(0, 256, (1, 3, 24, 24)) / 255.0).astype(np.float32)


class TestUnsigned:
    @pytest.mark.parametrize("activation_type", list(ActivationType))
    @pytest.mark.parametrize("pads", [(1, 1, 1, 1), (0, 2, 1, 0), (0, 0, 0, 0)])
    def test_a_picture_of_8_bits_loses_nothing_but_in_the_weights(
        self, activation_type: ActivationType, pads: tuple[int, ...], run_as_written: Run
    ) -> None:
        rounded = one_conv(int8_weight(WEIGHT, 0), pads=pads)
        output = run_as_written(insert_qdq(one_conv(pads=pads), UNSIGNED, activation_type).model, picture())
        np.testing.assert_allclose(output, run_as_written(rounded, picture()), atol=1e-5)

    def test_signed_levels_lose_half_of_them(self, run_as_written: Run) -> None:
        rounded = run_as_written(one_conv(int8_weight(WEIGHT, 0)), picture())
        output = run_as_written(
            insert_qdq(one_conv(), with_levels(is_unsigned=False), ActivationType.INT8).model, picture()
        )
        assert np.abs(output - rounded).max() > 1e-3

    def test_both_activation_types_are_bit_equal(self, run_as_written: Run) -> None:
        graphs = [
            insert_qdq(one_conv(pads=(1, 1, 1, 1)), UNSIGNED, activation_type).model
            for activation_type in ActivationType
        ]
        signed, unsigned = (run_as_written(graph, picture()) for graph in graphs)
        np.testing.assert_array_equal(signed, unsigned)

    def test_what_is_judged_is_what_is_written(self, run_as_written: Run) -> None:
        model = one_conv(pads=(1, 1, 1, 1))
        fake_quant = FakeQuantGraph(model, UNSIGNED).run(picture(), ["conv"])
        np.testing.assert_allclose(
            fake_quant, run_as_written(insert_qdq(model, UNSIGNED, ActivationType.INT8).model, picture()), atol=1e-5
        )

    @pytest.mark.parametrize("float_precision", [Precision.FP32, Precision.BF16])
    def test_openvino_keeps_every_gray_also_where_the_rest_is_bf16(
        self, float_precision: Precision, run_as_written: Run
    ) -> None:
        if float_precision is Precision.BF16 and not supports("openvino", Precision.BF16):
            pytest.skip("OpenVINO computes no bf16 on this CPU")
        grays = (np.arange(24 * 24) % 256 / 255.0).reshape(1, 1, 24, 24)
        every_gray = np.broadcast_to(grays, (1, 3, 24, 24)).astype(np.float32)
        first = np.zeros((4, 3, 3, 3), np.float32)
        first[:, :, 1, 1] = np.eye(4, 3)  # hands the picture on: what comes out tells which level went in
        model = one_conv(first, bias=np.zeros(4, np.float32), pads=(1, 1, 1, 1))
        written = insert_qdq(model, UNSIGNED, ActivationType.UINT8).model
        output = output_of(written, every_gray, float_precision, None)(every_gray, {})
        step = 1.0 / 255.0 if float_precision is Precision.FP32 else 2.0 / 255.0  # the output itself is rounded to bf16
        np.testing.assert_allclose(output, run_as_written(written, every_gray), atol=0.25 * step)

    @pytest.mark.parametrize(
        ("weight", "attributes"),
        [
            (random_weight(6, 1, 3, 3), {"group": 3, "pads": (1, 1, 1, 1)}),
            (random_weight(4, 3, 3, 3), {"strides": (2, 2), "pads": (1, 1, 1, 1)}),
            (random_weight(4, 3, 3, 3), {"dilations": (2, 2), "pads": (2, 2, 2, 2)}),
            (random_weight(4, 3, 3, 3), {"auto_pad": "VALID"}),
        ],
        ids=["depthwise", "stride", "dilation", "valid"],
    )
    @pytest.mark.parametrize("has_bias", [True, False])
    def test_any_convolution_is_judged_as_it_is_written(
        self, weight: Float32Array, attributes: Attributes, has_bias: bool, run_as_written: Run
    ) -> None:
        model = one_conv(weight, bias=random_weight(len(weight), seed=1) if has_bias else None, **attributes)
        calibration = replace(UNSIGNED, corrections={"conv": (0.25,) * len(weight)})
        fake_quant = FakeQuantGraph(model, calibration).run(picture(), ["conv"])
        for activation_type in ActivationType:
            output = run_as_written(insert_qdq(model, calibration, activation_type).model, picture())
            np.testing.assert_allclose(output, fake_quant, atol=1e-5)


class TestWhichTensors:
    @staticmethod
    def may_be_unsigned_in(model: onnx.ModelProto, tensor: str) -> bool:
        readers = [layer for layer in quantizable_layers(model).values() if layer.op.activation == tensor]
        assert readers
        return may_be_unsigned(view_graph(model), tensor, readers)

    @pytest.mark.parametrize("input_range", [1.0, 255.0])
    def test_the_picture_and_what_it_is_divided_by(self, input_range: float) -> None:
        assert self.may_be_unsigned_in(one_conv(input_range=input_range), "scaled")

    def test_a_factor_may_stand_on_either_side(self) -> None:
        model = one_conv()
        model.graph.node[0].CopyFrom(helper.make_node("Mul", ["input_range", "x"], ["scaled"], name="scale"))
        assert self.may_be_unsigned_in(model, "scaled")

    def test_not_a_picture_turned_negative(self) -> None:
        assert not self.may_be_unsigned_in(one_conv(input_range=-1.0), "scaled")

    def test_not_behind_another_layer(self) -> None:
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["a"], name="first"),
            helper.make_node("Relu", ["a"], ["r"], name="relu"),
            helper.make_node("Conv", ["r", "v"], ["y"], name="second"),
        ]
        model = of_nodes(nodes, {"w": WEIGHT, "v": random_weight(4, 4, 1, 1)})
        assert self.may_be_unsigned_in(model, "x")
        assert not self.may_be_unsigned_in(model, "r")

    def test_not_where_a_mean_is_subtracted(self) -> None:
        nodes = [
            helper.make_node("Sub", ["x", "m"], ["c"], name="mean"),
            helper.make_node("Conv", ["c", "w"], ["y"], name="conv"),
        ]
        assert not self.may_be_unsigned_in(of_nodes(nodes, {"w": WEIGHT, "m": np.float32(0.4)}), "c")

    def test_not_where_padding_is_left_to_the_runtime(self) -> None:
        assert self.may_be_unsigned_in(one_conv(), "scaled")
        assert not self.may_be_unsigned_in(one_conv(auto_pad="SAME_UPPER"), "scaled")

    def test_not_where_two_layers_pad_it_differently(self) -> None:
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["a"], name="a", pads=[1, 1, 1, 1]),
            helper.make_node("Conv", ["x", "v"], ["b"], name="b"),
            helper.make_node("Add", ["a", "b"], ["y"], name="sum"),
        ]
        assert not self.may_be_unsigned_in(of_nodes(nodes, {"w": WEIGHT, "v": random_weight(4, 3, 1, 1)}), "x")

    @pytest.mark.parametrize(("lowest", "expected"), [(0.0, True), (-0.5, False)])
    def test_the_search_takes_it_for_pictures_and_for_nothing_negative(self, lowest: float, expected: bool) -> None:
        layer = next(iter(quantizable_layers(one_conv(random_weight(4, 3, 1, 1))).values()))
        levels = np.random.default_rng(0).integers(0, 256, (500, 3))
        values = (levels / 255 * (1 - lowest) + lowest).astype(np.float32)
        statistics = TensorStatistics(values.min(axis=0), values.max(axis=0))
        result = search_range(statistics, [LayerSamples.of(layer, values[np.newaxis])], None, may_be_unsigned=True)
        assert result.range.is_unsigned is expected


class TestHardEdges:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_a_few_patches_in_black_and_white(self, channels: int) -> None:
        patches = [picture(seed)[:, :channels] for seed in range(16)]
        versions = hard_edged_patches(patches)
        assert len(versions) == COUNT
        for version in versions:
            assert version.shape == patches[0].shape
            assert version.dtype == np.float32
            assert 0.0 == version.min() < version.max() == 1.0
            np.testing.assert_array_equal(version * 255, np.rint(version * 255))

    def test_few_patches_have_one_twin_and_flat_ones_none(self) -> None:
        flat = np.full((1, 3, 24, 24), 0.5, np.float32)
        assert len(hard_edged_patches([flat, picture(), flat])) == 1
        assert hard_edged_patches([flat]) == []

    def test_a_page_that_is_mostly_white_keeps_its_letters(self) -> None:
        page = np.ones((1, 3, 24, 24), np.float32)
        page[:, :, 4:8, 4:20] = 0.1
        (twin,) = hard_edged_patches([page])
        assert twin[0, 0, 5, 10] == 0.0
        assert twin[0, 0, 20, 10] == 1.0

    def test_lettering_does_not_saturate_a_network_calibrated_on_photographs(self, tmp_path: Path) -> None:
        """`calibrate` alone adds no patches with hard edges."""
        tile, path = TileSpec(48, 48), tmp_path / "convnet.onnx"
        export_onnx(load_model("convnet-tiny", 2), tile, path)
        patches, held_out = calibration_patches(PICTURES, tile), held_out_patches(PICTURES, tile)
        with_edges = calibrate_within(path, patches, held_out, CalibrationConfig(Budget(math.inf))).calibration
        without = calibrate(path, patches, ends_float=False)
        assert change_of_lettering(path, tile, with_edges) < 0.25 * change_of_lettering(path, tile, without)


def change_of_lettering(path: Path, tile: TileSpec, calibration: Calibration) -> float:
    """Mean squared change of the output by INT8 in all layers, on white strokes three pixels wide."""
    graph = FakeQuantGraph(onnx.load(path), calibration)
    lettering = np.zeros((1, 3, tile.height, tile.width), np.float32)
    for row in range(2, 44, 7):
        lettering[:, :, row : row + 3, 3:45] = 1.0
    lettering[:, :, :, 20:23] = 1.0
    assert len(calibration.int8_nodes) == 6
    change = graph.run(lettering, calibration.int8_nodes) - graph.run(lettering, [])
    return float(np.mean(np.square(change)))
