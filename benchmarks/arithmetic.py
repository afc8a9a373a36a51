"""How fast this machine does arithmetic at best: a large matmul, in the libraries at hand."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from sr_edge.runtimes.openvino.runtime import shared_core
from sr_edge.spec import Precision

SIDE = 2048


def matmul_runs() -> dict[Precision, list[Callable[[], object]]]:
    """For each precision, a 2048x2048 matmul in torch and one in OpenVINO."""
    kinds = ((Precision.FP32, torch.float32, "f32"), (Precision.BF16, torch.bfloat16, "bf16"))
    return {precision: [_torch_run(dtype), _openvino_run(hint)] for precision, dtype, hint in kinds}


def peak_rate(runs: list[Callable[[], object]], repeats: int = 9) -> float:
    """The best median rate of these matmuls, in multiply-accumulates per second."""

    def median_s(run: Callable[[], object]) -> float:
        samples = []
        for _ in range(repeats):
            started = time.perf_counter()
            run()
            samples.append(time.perf_counter() - started)
        return statistics.median(samples)

    return SIDE**3 / min(map(median_s, runs))


def _torch_run(dtype: torch.dtype) -> Callable[[], object]:
    left, right = torch.randn(2, SIDE, SIDE).to(dtype)
    return lambda: left @ right


def _openvino_run(hint: str) -> Callable[[], object]:
    import openvino as ov  # type: ignore[import-untyped]  # after the runtime, which hides its telemetry

    left = ov.opset13.parameter([SIDE, SIDE], np.float32)
    weights = np.random.default_rng(0).standard_normal((SIDE, SIDE), np.float32)
    product = ov.opset13.matmul(left, ov.opset13.constant(weights), False, False)
    compiled = shared_core().compile_model(ov.Model([product], [left]), "CPU", {"INFERENCE_PRECISION_HINT": hint})
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(np.random.default_rng(1).standard_normal((SIDE, SIDE), np.float32)))
    run: Callable[[], object] = request.infer
    return run
