"""The table against a compiler: TensorRT for RTX refuses what the rules say that it refuses, and nothing else."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from sr_edge.errors import EngineError, PrecisionUnavailable
from sr_edge.runtimes.tensorrt.api import TensorRTLibrary
from sr_edge.runtimes.tensorrt.builder import build_engine
from sr_edge.runtimes.tensorrt.options import BuildOptions
from sr_edge.spec import Precision
from tests.export.checks.cases import BUILT_EVERYWHERE, RTX_CASES, TENSORRT_CASES, Case, graph
from tests.runtimes.here import require_compiler

FREE_INPUTS = {"BlackmanWindow"}
"""Cases with an input that decides a shape: an engine of it needs an optimization profile."""

CASES = [case for case in (*TENSORRT_CASES, *RTX_CASES) if case.op not in FREE_INPUTS]


@pytest.fixture(scope="module")
def rtx() -> TensorRTLibrary:
    return require_compiler()


def builds(rtx: TensorRTLibrary, model: onnx.ModelProto, folder: Path) -> bool:
    path = folder / "model.onnx"
    onnx.save(model, path)
    for precision in (Precision.FP32, Precision.FP16):  # TensorRT says which of them the graph is
        try:
            build_engine(rtx, path, BuildOptions(precision, precision, compute_capability="8.6"))
        except PrecisionUnavailable:
            continue
        except EngineError:
            return False
        return True
    raise AssertionError("the graph is in neither precision")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_refuses_what_the_table_says(rtx: TensorRTLibrary, case: Case, tmp_path: Path) -> None:
    assert builds(rtx, case.bad_graph, tmp_path) is not case.rtx
    assert builds(rtx, case.good_graph, tmp_path)


@pytest.mark.parametrize("text", BUILT_EVERYWHERE)
def test_it_builds_what_is_only_a_warning(rtx: TensorRTLibrary, text: str, tmp_path: Path) -> None:
    assert builds(rtx, graph(text), tmp_path)
