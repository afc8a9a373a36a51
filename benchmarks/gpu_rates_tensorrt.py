"""The GPU's rates where there is no PyTorch: a chain of matrix products as a TensorRT engine, a copy through CUDA."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from gpu_rates import DeviceRates, median_s
from onnx import TensorProto, helper, numpy_helper

from sr_edge.errors import EngineError, RuntimeUnavailable, SrEdgeError
from sr_edge.runtimes.cuda.api import Cuda
from sr_edge.runtimes.cuda.providers import find_gpus, open_cuda
from sr_edge.runtimes.tensorrt.api import Flavour, TrtIExecutionContext, load_library
from sr_edge.runtimes.tensorrt.builder import build_engine
from sr_edge.runtimes.tensorrt.engine import IoTensor, IoTensors, TensorRtEngine
from sr_edge.runtimes.tensorrt.log import process_log
from sr_edge.runtimes.tensorrt.options import BuildOptions
from sr_edge.spec import Precision

MATMUL_SIDE = 4096
COPY_BYTES = 1 << 30
CHAINED = 16
"""Products in one engine, so that what surrounds them does not count."""
RUNS = 20


def measure_rates(runtime: str, matmul_side: int = MATMUL_SIDE, copy_bytes: int = COPY_BYTES) -> DeviceRates:
    """An fp16 matrix product through `runtime`, "tensorrt" or "tensorrt-rtx", and a copy through cuda-python.

    Raises:
        RuntimeUnavailable: there is no GPU, or no library that can use it.
    """
    cuda = open_cuda(find_gpus()[0].index)
    matmuls, copy_rate, obstacles = {}, None, []
    try:
        matmuls[str(Precision.FP16)] = _matmul_rate(runtime, cuda, matmul_side)
    except SrEdgeError as error:
        obstacles.append(str(error))
    try:
        copy_rate = _copy_rate(cuda, copy_bytes)
    except SrEdgeError as error:
        obstacles.append(str(error))
    return DeviceRates(matmuls, copy_rate, runtime, tuple(obstacles))


def chained_matmuls(side: int, count: int) -> onnx.ModelProto:
    """uint8 [side, side] -> fp16, `count` products with one constant matrix, the largest value as float32 [1, 1]."""
    weight = np.random.default_rng(0).normal(0, 1 / np.sqrt(side), (side, side)).astype(np.float16)
    nodes = [helper.make_node("Cast", ["input"], ["x0"], to=TensorProto.FLOAT16)]
    nodes += [helper.make_node("MatMul", [f"x{index}", "weight"], [f"x{index + 1}"]) for index in range(count)]
    nodes += [
        helper.make_node("ReduceMax", [f"x{count}"], ["largest"], axes=[0, 1], keepdims=1),
        helper.make_node("Cast", ["largest"], ["output"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "matmuls",
        [helper.make_tensor_value_info("input", TensorProto.UINT8, [side, side])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(weight, "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _matmul_rate(runtime: str, cuda: Cuda, side: int) -> float:
    try:
        library = load_library(Flavour(runtime))
    except ImportError as error:
        raise RuntimeUnavailable(
            f"{runtime} cannot be imported ({error}), so no matrix multiplication was measured", wanted=runtime
        ) from error
    with tempfile.TemporaryDirectory() as folder, cuda.current():
        file = Path(folder) / "matmuls.onnx"
        onnx.save(chained_matmuls(side, CHAINED), file)
        options = BuildOptions(Precision.FP16)
        built = build_engine(library, file, options, free_bytes=cuda.free_bytes(), on_device=cuda.current)
        loaded = library.trt.Runtime(process_log(library).logger).deserialize_cuda_engine(built.plan)
        if loaded is None:
            raise RuntimeUnavailable(
                f"{library.name} does not load the engine that it built, so no matrix multiplication was measured",
                found=library.name,
            )

        def new_context() -> TrtIExecutionContext:
            context = loaded.create_execution_context()
            if context is None:
                raise EngineError(
                    f"{library.name} cannot create an execution context, so no matrix multiplication was measured",
                    found=library.name,
                )
            return context

        ports = IoTensors(
            IoTensor("input", (side, side), np.dtype(np.uint8)), (), IoTensor("output", (1, 1), np.dtype(np.float32))
        )
        engine = TensorRtEngine(cuda, ports, new_context, slots=1)
        tile, out = np.full((side, side), 1, np.uint8), np.empty((1, 1), np.float32)
        try:
            times = [engine.infer_timed(0, tile, {}, out).compute_ms for _ in range(RUNS)]
        finally:
            engine.close()
    return CHAINED * side**3 / (1e-3 * float(np.median(times)))


def _copy_rate(cuda: Cuda, size_bytes: int) -> float:
    """Bytes read and written per second by a copy within the device's memory."""
    if cuda.provider != "cuda-python":
        raise RuntimeUnavailable(
            f"copies are measured through cuda-python, but only {cuda.provider} is installed",
            found=cuda.provider,
            wanted="cuda-python",
        )
    import sr_edge.runtimes.cuda.cuda_python as cuda_python  # after the provider has been found to be there

    cudart: Any = vars(cuda_python)["cudart"]
    kind = cudart.cudaMemcpyKind.cudaMemcpyDeviceToDevice
    with cuda.current():
        stream, source, target = cuda.create_stream(), cuda.allocate(size_bytes), cuda.allocate(size_bytes)
        try:
            seconds = median_s(
                lambda: cudart.cudaMemcpyAsync(target, source, size_bytes, kind, stream),
                lambda: cuda.synchronize(stream),
            )
        finally:
            cuda.free(source)
            cuda.free(target)
            cuda.destroy_stream(stream)
    return 2 * size_bytes / seconds
