"""Fine-tuning lowers rounding errors, is kept only where it lowers them, and changes nothing without steps."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import onnx
import pytest

from sr_edge.calibration import (
    Budget,
    Calibration,
    CalibrationConfig,
    CalibrationReport,
    HeldOut,
    calibrate,
    calibrate_within,
    quantize_onnx,
    read_cache,
)
from sr_edge.calibration.config import Limits
from sr_edge.calibration.data.patch import Float32Array
from sr_edge.calibration.graph.candidates import QuantizableOp
from sr_edge.calibration.graph.im2col import Layer
from sr_edge.calibration.graph.load import load_graph
from sr_edge.calibration.qdq.fake_quant import FakeQuantGraph
from sr_edge.calibration.qdq.writer import insert_qdq
from sr_edge.calibration.ranges.finetuning import finetune, tune_tensor
from sr_edge.calibration.ranges.search import LayerSamples, TensorStatistics, search_range
from sr_edge.errors import CalibrationError, UsageError
from sr_edge.frames import Batch
from sr_edge.spec import ActivationType
from tests.calibration.graphs import Run
from tests.expected_errors import raises

STEPS = 4
FEW_SAMPLES = 512


@pytest.fixture(scope="module")
def plain(mixed_file: Path, batches: list[Batch]) -> Calibration:
    return calibrate(mixed_file, batches, ends_float=False)


@pytest.fixture(scope="module")
def tuned(mixed_file: Path, plain: Calibration, batches: list[Batch]) -> Calibration:
    return finetune(load_graph(mixed_file), plain, batches, STEPS, samples=FEW_SAMPLES)


def outlier_layer(taps: Float32Array) -> Layer:
    """Weights of which one per output is so large that all others are rounded to a few levels."""
    weight = taps.copy()
    weight[np.arange(6), np.arange(6)] = 30.0
    return Layer(QuantizableOp("conv", "Conv", "x", "conv.weight", 0), weight)


def samples(count: int, seed: int) -> Float32Array:
    """Correlated inputs that INT8 represents exactly, so that only the weights are rounded."""
    generator = np.random.default_rng(seed)
    loose = generator.standard_normal((count, 64)) + generator.standard_normal((count, 1))
    return np.sign(loose).astype(np.float32)


def test_a_layer_with_outlier_weights_improves_on_samples_it_was_not_tuned_on() -> None:
    layer = outlier_layer(np.random.default_rng(0).standard_normal((6, 64, 1, 1)).astype(np.float32))
    tuning, validation = (LayerSamples.of(layer, samples(2000, seed)[np.newaxis]) for seed in (1, 2))
    peaks = np.abs(tuning.unfolded[0]).max(axis=0)
    searched = search_range(TensorStatistics(-peaks, peaks), [tuning], None)
    result = tune_tensor(searched.range, [searched.corrections["conv"]], [tuning], [validation], 20)
    assert result.noise_after < 0.8 * result.noise_before
    assert result.range is not None
    weight = np.frombuffer(base64.b64decode(result.weights["conv"]), np.int8)
    assert weight.size == layer.weight.size
    assert weight.min() >= -127


def test_what_helps_only_where_it_was_tuned_is_not_kept() -> None:
    """Tuned on eight samples of another kind, the weights fit only those."""
    layer = outlier_layer(np.random.default_rng(0).standard_normal((6, 64, 1, 1)).astype(np.float32))
    everything = LayerSamples.of(layer, samples(2000, 1)[np.newaxis])
    peaks = np.abs(everything.unfolded[0]).max(axis=0)
    searched = search_range(TensorStatistics(-peaks, peaks), [everything], None)
    few = LayerSamples(layer, everything.unfolded[:, :8], 3.0 * everything.output[:, :8])
    result = tune_tensor(searched.range, [searched.corrections["conv"]], [few], [everything], 20)
    assert result.noise_after > result.noise_before
    assert (result.range, result.corrections, result.weights) == (None, {}, {})


def test_most_layers_of_a_network_improve(tuned: Calibration, plain: Calibration) -> None:
    finetuning = tuned.finetuning
    assert finetuning is not None
    assert set(finetuning.tensors) == set(plain.ranges)
    kept = [tensor for tensor in finetuning.tensors.values() if tensor.range is not None]
    assert len(kept) == finetuning.kept >= len(finetuning.tensors) // 2
    assert all(tensor.noise_after < tensor.noise_before for tensor in kept)


def test_all_of_it_together_lowers_the_noise_of_the_output(
    mixed_file: Path, plain: Calibration, tuned: Calibration, batches: list[Batch]
) -> None:
    def noise(calibration: Calibration) -> float:
        graph = FakeQuantGraph(load_graph(mixed_file), calibration)
        return float(
            np.mean(
                [np.square(graph.run(batch, calibration.int8_nodes) - graph.run(batch, ())).mean() for batch in batches]
            )
        )

    assert noise(tuned) < noise(plain)


def test_the_file_holds_the_tuned_weights_with_both_activation_types_with_equal_bits(
    mixed_file: Path, tuned: Calibration, batches: list[Batch], run_as_written: Run
) -> None:
    model = load_graph(mixed_file)
    written = {activation_type: insert_qdq(model, tuned, activation_type).model for activation_type in ActivationType}
    outputs = [run_as_written(graph, batches[0]) for graph in written.values()]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    fake_quant = FakeQuantGraph(model, tuned).run(batches[0], tuned.int8_nodes)
    np.testing.assert_allclose(outputs[0], fake_quant, atol=2e-2)
    levels = {onnx.numpy_helper.to_array(tensor).tobytes() for tensor in written[ActivationType.INT8].graph.initializer}
    assert tuned.finetuning is not None
    tuned_weights = [base64.b64decode(text) for t in tuned.finetuning.tensors.values() for text in t.weights.values()]
    assert tuned_weights
    assert levels.issuperset(tuned_weights)


class TestWithoutSteps:
    def test_a_run_without_steps_writes_what_it_wrote_before_any_tuning(
        self, mixed_file: Path, batches: list[Batch], tmp_path: Path
    ) -> None:
        """Also from a cache that a fine-tuned run left."""
        held_out, cache = [HeldOut(batch) for batch in batches[4:]], tmp_path / "cache.json"

        def written(finetune: int, cache: Path | None) -> bytes:
            config = CalibrationConfig(Budget(float("inf")), finetune=finetune)
            limits = Limits(finetuning_samples=FEW_SAMPLES)
            report = calibrate_within(mixed_file, batches[:4], held_out, config, cache=cache, limits=limits)
            return quantize_onnx(mixed_file, report.calibration, tmp_path / "x.onnx").read_bytes()

        never, with_steps = written(0, None), written(STEPS, cache)
        assert written(0, cache) == never != with_steps
        assert written(STEPS, cache) == with_steps


def test_one_patch_cannot_teach_and_check(mixed_file: Path, batches: list[Batch]) -> None:
    with raises(CalibrationError, found=1, wanted=2):
        calibrate_within(mixed_file, batches[:1], [HeldOut(batches[4])], CalibrationConfig(finetune=STEPS))


class TestResuming:
    def test_an_interrupted_tuning_goes_on_where_it_was(
        self, mixed_file: Path, batches: list[Batch], tmp_path: Path
    ) -> None:
        limits = Limits(observed_bytes=1, finetuning_samples=FEW_SAMPLES)
        held_out, cache = [HeldOut(batch) for batch in batches[4:]], tmp_path / "cache.json"
        config = CalibrationConfig(Budget(float("inf")), finetune=STEPS)

        def run(stop_at: int, steps: list[tuple[str, int, int]]) -> CalibrationReport:
            def progress(stage: str, done: int, total: int) -> None:
                steps.append((stage, done, total))
                if (stage, done) == ("fine-tuning", stop_at):
                    raise KeyboardInterrupt

            return calibrate_within(
                mixed_file, batches[:4], held_out, config, cache=cache, progress=progress, limits=limits
            )

        first: list[tuple[str, int, int]] = []
        with pytest.raises(KeyboardInterrupt):
            run(13, first)
        partial = read_cache(cache).finetuning
        assert partial is not None
        assert len(partial.tensors) == 2
        resumed_steps: list[tuple[str, int, int]] = []
        resumed = run(-1, resumed_steps)
        tensors = len(resumed.calibration.ranges)
        assert next(step[2] for step in resumed_steps if step[0] == "fine-tuning") == (4 + 1 + 1) * (tensors - 2)
        assert resumed == calibrate_within(mixed_file, batches[:4], held_out, config, limits=limits)
        assert resumed.calibration.finetuning is not None
        assert "Fine-tuning improved" in resumed.sentence

    def test_other_steps_are_tuned_anew(self, mixed_file: Path, tuned: Calibration, batches: list[Batch]) -> None:
        again = finetune(load_graph(mixed_file), tuned, batches, STEPS + 1, samples=FEW_SAMPLES)
        assert again.finetuning is not None
        assert again.finetuning.steps == STEPS + 1
        same: list[int] = []
        assert finetune(load_graph(mixed_file), tuned, batches, STEPS, lambda done, _: same.append(done)) == tuned
        assert same == []


def test_one_patch_leaves_nothing_to_check_on(mixed_file: Path, plain: Calibration, batches: list[Batch]) -> None:
    with raises(CalibrationError, found=1, wanted=2):
        finetune(load_graph(mixed_file), plain, batches[:1], STEPS)


def test_fewer_than_no_steps_are_refused() -> None:
    with raises(UsageError, found=-1, wanted="0 or more"):
        CalibrationConfig(finetune=-1)
