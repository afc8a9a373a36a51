"""What a compilation is asked for: wrong orders are refused before anything is built or stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from sr_edge.errors import UsageError
from sr_edge.runtimes.compile import CompileConfig
from sr_edge.runtimes.tensorrt.api import Flavour
from sr_edge.runtimes.tensorrt.cache import EngineCache
from sr_edge.runtimes.tensorrt.options import BuildOptions
from sr_edge.runtimes.tensorrt.store import store_trusted_engine, target_of_capability
from tests.expected_errors import raises
from tests.runtimes.tensorrt.fake_tensorrt import FakeTensorRt


@pytest.mark.parametrize("device", ["cpu", "gpu", "cuda:", "cuda:x", "cuda:-1", "foo:1", "cuda0", ""])
def test_a_device_that_is_no_gpu_is_refused(device: str) -> None:
    with raises(UsageError, found=device, wanted=("cuda", "cuda:NUMBER")):
        CompileConfig(Flavour.TENSORRT, BuildOptions(), device=device)


@pytest.mark.parametrize(("device", "index"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1), ("cuda:12", 12)])
def test_devices_have_numbers(device: str, index: int) -> None:
    assert CompileConfig(Flavour.TENSORRT, BuildOptions(), device=device).gpu_index == index


def test_an_empty_engine_is_not_taken_in(tmp_path: Path) -> None:
    graph, engine, cache = tmp_path / "graph.onnx", tmp_path / "empty.engine", EngineCache(tmp_path / "cache")
    graph.write_bytes(b"graph")
    engine.touch()
    library = FakeTensorRt().library()
    with raises(UsageError, found=engine, wanted="a file with content"):
        store_trusted_engine(library, graph, BuildOptions(), target_of_capability("8.6"), cache, engine)
    assert not cache.folder.exists()
