"""INT8 in the attention's own matmuls: written on both sides of every product, and told apart by what pays."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from sr_edge.calibration.graph.load import load_graph
from sr_edge.calibration.graph.probe import InstrumentedGraph
from sr_edge.export.passes.cleanup import name_nodes
from sr_edge.spec import Precision
from tests.calibration.graphs import parsed, photo_like, random_weight
from tests.calibration.networks import export

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("openvino")
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("attention_int8")


@pytest.fixture
def model(tmp_path: Path) -> onnx.ModelProto:
    export("window attention", tmp_path / "window.onnx")
    return load_graph(tmp_path / "window.onnx")


def test_products_are_found_by_role_and_layers_with_weights_are_not(script: Any, model: onnx.ModelProto) -> None:
    assert script.products_of(model) == {"MatMul": ["/body/body.0/MatMul"], "MatMul_1": ["/body/body.0/MatMul_1"]}


def test_int8_products_change_the_output_by_a_little(script: Any, model: onnx.ModelProto) -> None:
    patches = photo_like(5, 3)
    nodes = [name for found in script.products_of(model).values() for name in found]
    clips = script.clips_of(model, nodes, patches[:4])
    positive = [name for name, found in clips.items() if found.is_positive]
    assert ["Softmax" in name for name in positive] == [True]
    quantized = script.with_int8_products(model, nodes, clips)
    onnx.checker.check_model(quantized, full_check=True)
    assert sum(node.op_type == "QuantizeLinear" for node in quantized.graph.node) == 2 * len(nodes)
    wanted, found = (InstrumentedGraph(each, optimize=False).run(patches[4])[0] for each in (model, quantized))
    assert 1e-6 < float(np.abs(found - wanted).max()) < 0.02
    assert script.with_int8_products(model, [], clips) == model


@pytest.mark.parametrize("left", ["Sigmoid", "Tanh"])
def test_openvino_computes_such_a_product_in_int8(script: Any, left: str, tmp_path: Path) -> None:
    """With a left side that is never negative, and with one that is."""
    body = f"c = Conv(x, w)  d = Conv(x, v)  a = {left}(c)  t = Transpose<perm = [0,1,3,2]>(d)  y = MatMul(a, t)"
    product = parsed(body, {"w": random_weight(16, 3, 1, 1), "v": random_weight(16, 3, 1, 1, seed=1)})
    product = name_nodes(product).model
    (nodes,) = script.products_of(product).values()
    clips = script.clips_of(product, nodes, photo_like(4, 3))
    for chosen, ran in (([], 0), (nodes, 1)):
        onnx.save(script.with_int8_products(product, chosen, clips), tmp_path / "product.onnx")
        assert script.int8_products(tmp_path / "product.onnx", Precision.FP32) == ran


def rows(change_db: float, high: float) -> list[dict[str, Any]]:
    found = {"set5": {"psnr_db": 37.0, "change_db": change_db, "noise_below_residual_db": 25.0}}
    base = {"layers": "bf16", "products": "none", "ran": "0 of 2", "quality": found, "ratio": None}
    ratio = {"median": 0.9, "low": 0.85, "high": high}
    one = {"network": "ups-tiny-x2", "float_precision": "bf16", "largest_drop_db": 0.05}
    return [{**one, "rows": [base, {**base, "products": "all", "ran": "2 of 2", "ratio": ratio}]}]


@pytest.mark.parametrize(
    ("change_db", "high", "verdict"),
    [(-0.01, 0.95, "pays"), (-0.06, 0.95, "does not pay"), (-0.01, 1.02, "does not pay")],
)
def test_the_page_tells_what_pays(script: Any, change_db: float, high: float, verdict: str) -> None:
    table = next(script.section(rows(change_db, high))).splitlines()
    assert len({line.count("|") for line in table}) == 1
    assert table[-1].endswith(f"| 0.90 | 0.85 to {high:.2f} | {verdict} |")


def test_a_graph_that_gives_nan_does_not_pay(script: Any) -> None:
    (network,) = rows(-0.01, 0.95)
    network["rows"][1]["quality"] = {"set5": None}
    table = next(script.section([network])).splitlines()
    assert table[-1].endswith("| NaN | 0.90 | 0.85 to 0.95 | does not pay |")
