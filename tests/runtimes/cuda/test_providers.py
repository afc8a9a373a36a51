"""The two providers of CUDA keep one contract; without a GPU, that they are named, found and explained."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import sr_edge.runtimes.cuda.api as cuda_module
from sr_edge.errors import RuntimeUnavailable
from sr_edge.runtimes.cuda.api import Cuda, CudaError, CudaOutOfMemory, Gpu
from sr_edge.runtimes.cuda.providers import PROVIDERS, find_gpus, first_provider, open_cuda, provider_module
from tests.expected_errors import raises
from tests.runtimes.cuda.fake_cuda import RTX_3060, FakeCuda

SIZE = 4096


def real_cuda(provider: str) -> Cuda:
    try:
        return open_cuda(0, provider)
    except RuntimeUnavailable as error:
        pytest.skip(f"{provider}: {error}")


@pytest.fixture(params=["fake", *(pytest.param(name, marks=pytest.mark.gpu) for name in PROVIDERS)])
def cuda(request: pytest.FixtureRequest) -> Iterator[Cuda]:
    """The fake that the other tests stand on, and every real provider with a GPU behind it."""
    made: Cuda = FakeCuda() if request.param == "fake" else real_cuda(request.param)
    with made.current():
        yield made


def test_bytes_go_in_and_come_out(cuda: Cuda) -> None:
    stream, address = cuda.create_stream(), cuda.allocate(SIZE)
    source, target = cuda.host_buffer(SIZE, mapped=False), cuda.host_buffer(SIZE, mapped=False)
    source.array[:] = np.random.default_rng(1).integers(0, 256, SIZE, np.uint8)
    target.array[:] = 0
    cuda.copy_in(address, source, stream)
    cuda.copy_out(target, address, stream)
    cuda.synchronize(stream)
    np.testing.assert_array_equal(target.array, source.array)
    cuda.free_host(source)
    cuda.free_host(target)
    cuda.free(address)
    cuda.destroy_stream(stream)


def test_mapped_memory_has_an_address_on_the_device(cuda: Cuda) -> None:
    buffer = cuda.host_buffer(SIZE, mapped=True)
    assert buffer.device_address
    assert cuda.host_buffer(SIZE, mapped=False).device_address is None
    stream, target = cuda.create_stream(), cuda.host_buffer(SIZE, mapped=False)
    buffer.array[:] = 17
    cuda.copy_out(target, buffer.device_address, stream)
    cuda.synchronize(stream)
    assert set(target.array.tolist()) == {17}


def test_a_graph_does_its_work_at_each_launch_and_not_before(cuda: Cuda) -> None:
    stream, address = cuda.create_stream(), cuda.allocate(SIZE)
    source, target = cuda.host_buffer(SIZE, mapped=False), cuda.host_buffer(SIZE, mapped=False)

    def work() -> None:
        cuda.copy_in(address, source, stream)
        cuda.copy_out(target, address, stream)

    target.array[:] = 0
    graph = cuda.capture(stream, work)
    cuda.synchronize(stream)
    assert not target.array.any()
    for value in (1, 2):
        source.array[:] = value
        cuda.launch(graph, stream)
        cuda.synchronize(stream)
        assert set(target.array.tolist()) == {value}
    cuda.destroy_graph(graph)


def test_events_tell_the_time_between_them(cuda: Cuda) -> None:
    stream, events = cuda.create_stream(), [cuda.create_event() for _ in range(2)]
    for event in events:
        cuda.record(event, stream)
    cuda.synchronize(stream)
    assert cuda.elapsed_ms(*events) >= 0
    for event in events:
        cuda.destroy_event(event)


def test_too_much_memory_is_refused_and_the_next_is_given(cuda: Cuda) -> None:
    free_bytes = cuda.free_bytes()
    with raises(CudaOutOfMemory, found=free_bytes, wanted=2 * free_bytes + (1 << 40)):
        cuda.allocate(2 * free_bytes + (1 << 40))
    cuda.free(cuda.allocate(SIZE))


def test_the_gpu_is_described(cuda: Cuda) -> None:
    assert cuda.gpu.name
    assert cuda.gpu.total_bytes > 0
    major, minor = cuda.gpu.compute_capability.split(".")
    assert int(major) > 0 <= int(minor)


def names_of(protocol: type) -> set[str]:
    return {name for name in vars(protocol) if not name.startswith("_")}


@pytest.mark.parametrize("file", ["cuda_python.py", "cuda_pycuda.py"])
def test_each_provider_has_the_whole_protocol(file: str) -> None:
    source = (Path(cuda_module.__file__).parent / file).read_text("utf-8")
    (kind,) = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    methods = {item.name for item in kind.body if isinstance(item, ast.FunctionDef)}
    assert names_of(Cuda) - methods == {"provider", "gpu"}


def test_every_call_of_cuda_python_exists() -> None:
    cudart = pytest.importorskip("cuda.bindings.runtime", reason="cuda-python is not installed")
    source = Path(cuda_module.__file__).with_name("cuda_python.py").read_text("utf-8")
    uses = {
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "cudart"
    }
    assert len(uses) > 25
    assert {name for name in uses if not hasattr(cudart, name)} == set()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_absent_provider_says_how_to_install_it(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", absent)
    with raises(RuntimeUnavailable, found=provider, remedy=f"run: pip install {provider}"):
        provider_module(provider)
    with raises(RuntimeUnavailable, wanted=PROVIDERS, remedy="run: pip install cuda-python, or: pip install pycuda"):
        first_provider()


def test_the_second_provider_serves_where_the_first_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_pycuda(name: str) -> str:
        if name.endswith("cuda_python"):
            raise ModuleNotFoundError(name)
        return name

    monkeypatch.setattr(importlib, "import_module", only_pycuda)
    assert first_provider() == "pycuda"


def test_no_gpu_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    provider: Any = pytest.importorskip("sr_edge.runtimes.cuda.cuda_python", reason="cuda-python is not installed")
    refusal = provider.cudart.cudaError_t.cudaErrorNoDevice
    monkeypatch.setattr(provider.cudart, "cudaGetDeviceCount", lambda: (refusal, None))
    with raises(RuntimeUnavailable, found="cudaErrorNoDevice"):
        find_gpus("cuda-python")


def test_an_old_driver_is_told_from_an_absent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    provider: Any = pytest.importorskip("sr_edge.runtimes.cuda.cuda_python", reason="cuda-python is not installed")
    refusal = provider.cudart.cudaError_t.cudaErrorInsufficientDriver
    monkeypatch.setattr(provider.cudart, "cudaGetDeviceCount", lambda: (refusal, None))
    with raises(RuntimeUnavailable, found="cudaErrorInsufficientDriver") as caught:
        find_gpus("cuda-python")
    assert "cuda-python<13" in str(caught.value.remedy)


def test_a_gpu_beyond_the_last_is_refused_with_the_names_of_those_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    provider: Any = pytest.importorskip("sr_edge.runtimes.cuda.cuda_python", reason="cuda-python is not installed")
    success = provider.cudart.cudaError_t.cudaSuccess
    properties = SimpleNamespace(name=b"H100\0", major=9, minor=0, totalGlobalMem=80 << 30, integrated=0)
    monkeypatch.setattr(provider.cudart, "cudaGetDeviceCount", lambda: (success, 2))
    monkeypatch.setattr(provider.cudart, "cudaGetDeviceProperties", lambda index: (success, properties))
    assert open_cuda(1, "cuda-python").gpu == Gpu(1, "H100", "9.0", 80 << 30, is_integrated=False)
    with raises(RuntimeUnavailable, found="cuda:2", wanted=("cuda:0", "cuda:1")):
        open_cuda(2, "cuda-python")


def test_an_error_has_its_name_and_text(monkeypatch: pytest.MonkeyPatch) -> None:
    provider: Any = pytest.importorskip("sr_edge.runtimes.cuda.cuda_python", reason="cuda-python is not installed")
    refusal = provider.cudart.cudaError_t.cudaErrorIllegalAddress
    monkeypatch.setattr(provider.cudart, "cudaFree", lambda address: (refusal,))
    with raises(CudaError, found="cudaErrorIllegalAddress") as caught:
        provider.CudaPython(RTX_3060).free(SIZE)
    assert "illegal memory access" in caught.value.problem  # CUDA's own text
