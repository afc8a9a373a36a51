"""Where the direct and the efficient form of an attention layer meet in time: the figures of ADR 0006.

python benchmarks/form_choice.py [--rounds 9]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import torch

from sr_edge.export.twins import taylor
from sr_edge.export.twins.taylor import AttentionForm, StaticTaylorAttention, feature_count
from sr_edge.models.layers.taylor_shift import TaylorShiftAttention
from sr_edge.runtimes.openvino.runtime import shared_core

HEADS, TOKENS, THREADS = 6, 2304, 2
SIDES_OF_D = {30: (16, 20, 24, 28, 32, 48), 10: (8, 9, 12, 16, 24, 48)}

Run = Callable[[], object]


def write_layer(path: Path, d: int, side: int, form: AttentionForm) -> np.ndarray:
    """One attention layer with random weights as ONNX; returns an input, regions of side x side first."""
    layer = TaylorShiftAttention(HEADS * d, HEADS)
    regions = max(1, TOKENS // side**2)
    maps = [(part.weight.double(), part.bias.double()) for part in (layer.qkv, layer.proj)]
    with mock.patch.object(taylor, "choose_form", lambda tokens, d: form):
        twin = StaticTaylorAttention(layer, torch.arange(regions), side**2, *maps)
    x = torch.rand(regions, HEADS * d, side, side)
    torch.onnx.export(twin, (x,), path, dynamo=False, opset_version=17, input_names=["x"])
    return x.numpy()


def open_runs(path: Path, x: np.ndarray) -> dict[str, Run]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    wanted = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": THREADS, "PERFORMANCE_HINT": "LATENCY"}
    request = shared_core().compile_model(path, "CPU", wanted).create_infer_request()
    return {"onnxruntime": lambda: session.run(None, {"x": x}), "openvino": lambda: request.infer([x])}


def milliseconds(run: Run) -> float:
    run()
    started = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - started)


def ratios(d: int, side: int, rounds: int) -> dict[str, float]:
    """Median time of the direct form over that of the efficient one, by runtime; all run in turn."""
    with tempfile.TemporaryDirectory() as folder:
        runs = {}
        for form in AttentionForm:
            path = Path(folder) / f"{form.value}.onnx"
            runs[form] = open_runs(path, write_layer(path, d, side, form))
        times: dict[tuple[AttentionForm, str], list[float]] = {}
        for _ in range(rounds):
            for form, by_runtime in runs.items():
                for runtime, run in by_runtime.items():
                    times.setdefault((form, runtime), []).append(milliseconds(run))
    medians = {key: statistics.median(found) for key, found in times.items()}
    return {
        runtime: medians[AttentionForm.DIRECT, runtime] / medians[AttentionForm.EFFICIENT, runtime]
        for runtime in ("onnxruntime", "openvino")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    print("| d | N | count | onnxruntime | openvino |\n|---:|---:|---:|---:|---:|")
    for d, sides in SIDES_OF_D.items():
        for side in sides:
            count = side**2 * d / (feature_count(d) * (d + 1))
            found = ratios(d, side, rounds)
            print(
                f"| {d} | {side**2} | {count:.2f} | {found['onnxruntime']:.2f} | {found['openvino']:.2f} |", flush=True
            )


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    main()
