"""The counting sort is a stable sort, in every runtime and under OpenVINO's bf16 hint, for any number of tokens."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxsim  # type: ignore[import-untyped]
import pytest
import torch
from torch import nn

from sr_edge.export.checks.rules import check_graph
from sr_edge.export.graph.onnxruntime_run import run_onnxruntime
from sr_edge.export.twins.counting_sort import CountingSort, block_length

Indices = npt.NDArray[np.int64]
CASES = [(64, 32), (384, 128), (385, 128), (769, 128), (1, 4), (9216, 128)]


class SortOf(nn.Module):
    """Clusters as float32 -> places and order as float32 base-128 digits, through a matmul.

    OpenVINO's bf16 hint leaves whatever is behind the last matmul or convolution in float32, so the digits, which bf16
    holds exactly, go through one more: what is in front of it runs as inside a network.
    """

    identity: torch.Tensor

    def __init__(self, tokens: int, clusters: int) -> None:
        super().__init__()
        self.sort = CountingSort(tokens, clusters)
        self.register_buffer("identity", torch.eye(4))

    def forward(self, clusters: torch.Tensor) -> torch.Tensor:
        ranks, order = self.sort((clusters @ self.identity[:1, :1]).squeeze(-1).long())
        digits = torch.stack([ranks % 128, ranks // 128, order % 128, order // 128], dim=-1)
        return digits.float() @ self.identity


def a_list(tokens: int, clusters: int) -> torch.Tensor:
    torch.manual_seed(tokens)
    return (torch.rand(tokens) ** 2 * clusters).long()


def stable(clusters: Indices) -> tuple[Indices, Indices]:
    order = np.argsort(clusters, kind="stable")
    return np.argsort(order), order


def joined(digits: npt.NDArray[np.float32]) -> tuple[Indices, Indices]:
    whole = np.rint(digits).astype(np.int64)
    assert np.array_equal(whole, digits)
    return whole[:, 0] + 128 * whole[:, 1], whole[:, 2] + 128 * whole[:, 3]


def graph_of(module: nn.Module, example: torch.Tensor) -> onnx.ModelProto:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (example,), file, dynamo=False, opset_version=17, input_names=["input"])  # type: ignore[arg-type]
    simplified, _ = onnxsim.simplify(onnx.load_from_string(file.getvalue()))
    return onnx.shape_inference.infer_shapes(simplified)


@pytest.mark.parametrize(("tokens", "clusters"), CASES)
def test_it_is_a_stable_sort(tokens: int, clusters: int) -> None:
    numbers = a_list(tokens, clusters)
    ranks, order = CountingSort(tokens, clusters)(numbers)
    wanted_ranks, wanted_order = stable(numbers.numpy())
    np.testing.assert_array_equal(ranks, wanted_ranks)
    np.testing.assert_array_equal(order, wanted_order)


@pytest.mark.parametrize("number", [0, 3, 31])
def test_one_cluster_for_all_keeps_the_positions(number: int) -> None:
    ranks, order = CountingSort(777, 32)(torch.full((777,), number))
    assert ranks.tolist() == order.tolist() == list(range(777))


@pytest.mark.parametrize(("tokens", "clusters"), CASES)
def test_runtimes_and_precision_hints_agree(tokens: int, clusters: int, openvino_core: Any) -> None:
    """The clusters arrive as bf16 holds them: integers below 256. Ranks go to 9215, far above what bf16 counts."""
    numbers = a_list(tokens, clusters)
    example = numbers.float()[:, None]
    graph = graph_of(SortOf(tokens, clusters), example)
    wanted = stable(numbers.numpy())
    outputs = {"onnxruntime": next(iter(run_onnxruntime(graph, {"input": example.numpy()}).values()))}
    for hint in ("f32", "bf16"):
        model = openvino_core.read_model(graph.SerializeToString())
        compiled = openvino_core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint})
        outputs[hint] = compiled({"input": example.numpy()})[0]
        if hint == "bf16" and "BF16" in openvino_core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            ran = {str(node.get_rt_info()["runtimePrecision"].astype(str)) for node in matmuls_of(compiled)}
            assert ran == {"bf16"}
    for digits in outputs.values():
        np.testing.assert_array_equal(joined(digits), wanted)


def matmuls_of(compiled: Any) -> list[Any]:
    nodes = compiled.get_runtime_model().get_ordered_ops()
    return [n for n in nodes if str(n.get_rt_info()["layerType"].astype(str)) in ("FullyConnected", "MatMul")]


def test_the_graph_is_static_and_counts_in_integers() -> None:
    graph = graph_of(SortOf(769, 128), torch.zeros(769, 1))
    assert check_graph(graph) == ()
    operators = {node.op_type for node in graph.graph.node}
    assert not operators & {"TopK", "CumSum", "NonZero", "Einsum", "ArgMax"}
    types = {value.name: value.type.tensor_type.elem_type for value in graph.graph.value_info}
    summed = [types[node.output[0]] for node in graph.graph.node if node.op_type == "ReduceSum"]
    assert summed and set(summed) <= {onnx.TensorProto.INT64, onnx.TensorProto.INT32}


def test_blocks_are_of_the_length_that_costs_least() -> None:
    def work(length: int) -> float:
        return 9216 * length + 128 * (9216 / length) ** 2

    chosen = block_length(9216, 128)
    assert work(chosen) <= min(work(chosen - 1), work(chosen + 1))
    assert block_length(1, 128) == 1
