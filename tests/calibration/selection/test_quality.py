"""The loss by INT8 beside noise: lost detail, and a colour shift."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import cast

import numpy as np
import pytest

from sr_edge.calibration.data.patch import HeldOut
from sr_edge.calibration.qdq.fake_quant import FakeQuantGraph
from sr_edge.calibration.result.timings import Timings
from sr_edge.calibration.selection.gate import Budget, choose_layers
from sr_edge.calibration.selection.quality import QualityEvaluator, cost_of_pictures_db
from sr_edge.errors import NothingToQuantize
from sr_edge.frames import Batch
from sr_edge.metrics import cost_of_noise_db
from tests.expected_errors import raises

BUDGET_DB = 0.05
TINT = 0.75 / 255


class PretendGraph:
    """Doubles the size; the layer "tint" shifts the colour in INT8, the layer "noise" adds as much noise without it."""

    def run(self, batch: Batch, int8: Collection[str], controls: Mapping[str, float] | None = None) -> Batch:
        large = batch.repeat(2, axis=2).repeat(2, axis=3)
        if "tint" in int8:
            large[:, 0] += TINT
        if "noise" in int8:
            large[:, 0] += TINT * (-1.0) ** np.indices(large.shape[2:]).sum(0)
        return large.astype(np.float32)


@pytest.fixture
def evaluator() -> QualityEvaluator:
    generator = np.random.default_rng(0)
    patches = [generator.uniform(0.2, 0.8, (1, 3, 24, 24)).astype(np.float32) for _ in range(2)]
    return QualityEvaluator(cast(FakeQuantGraph, PretendGraph()), [HeldOut(patch) for patch in patches])


def test_a_tint_costs_more_than_equal_noise(evaluator: QualityEvaluator) -> None:
    assert evaluator.drop_db(["noise"]) < BUDGET_DB
    assert evaluator.drop_db(["tint"]) == pytest.approx(0.075, rel=0.01)
    assert evaluator.drop_db(["tint", "noise"]) > BUDGET_DB


def test_the_gate_leaves_the_layer_that_tints_in_float(evaluator: QualityEvaluator) -> None:
    single_db = {name: evaluator.db_of_noise(evaluator.noise_power([name])) for name in ("tint", "noise")}
    timings = Timings({"tint": 1.0, "noise": 2.0}, "openvino", float_ms=5.0, int8_ms=2.0)
    assert choose_layers(single_db, timings, evaluator.drop_db, Budget(BUDGET_DB)).int8 == ("noise",)
    assert choose_layers(single_db, timings, evaluator.drop_db, Budget(2 * BUDGET_DB)).int8 == ("tint", "noise")
    with raises(NothingToQuantize, found=evaluator.drop_db(["tint"]), wanted=BUDGET_DB):
        choose_layers({"tint": single_db["tint"]}, timings, evaluator.drop_db, Budget(BUDGET_DB))


def test_detail_that_one_patch_loses_counts_although_the_mean_noise_is_small() -> None:
    flat = np.full((1, 3, 48, 48), 0.5, np.float32)
    texture = (flat + 0.02 * (-1.0) ** np.indices((48, 48)).sum(0)).astype(np.float32)
    others = [flat] * 63
    noise_db = cost_of_noise_db(float(np.mean((0.02 * 219 / 255) ** 2)) / 64, 33.0)
    assert noise_db < BUDGET_DB
    assert cost_of_pictures_db([flat, *others], [texture, *others], 33.0) > BUDGET_DB


@pytest.mark.parametrize("channel", [0, 3])
def test_noise_in_alpha_costs_as_much_as_in_the_colours(channel: int) -> None:
    exact = np.random.default_rng(0).uniform(0.2, 0.8, (1, 4, 48, 48)).astype(np.float32)
    noisy, alone = exact.copy(), exact[:, :3].copy()
    change = (0.01 * (-1.0) ** np.indices((48, 48)).sum(0)).astype(np.float32)
    noisy[:, channel:] += change if channel else np.array([1, 1, 1, 0]).reshape(4, 1, 1) * change
    alone += change
    assert cost_of_pictures_db([noisy], [exact], 33.0) >= cost_of_pictures_db([alone], [exact[:, :3]], 33.0) * 0.99


def test_alpha_that_is_lost_fails_the_gate_although_the_colours_are_equal() -> None:
    exact = np.full((1, 4, 48, 48), 0.5, np.float32)
    exact[:, 3] = np.indices((48, 48)).sum(0) % 8 > 3
    lost = exact.copy()
    lost[:, 3] = 0.5
    assert cost_of_pictures_db([lost], [exact], 33.0) > 100 * BUDGET_DB


def test_pictures_that_are_equal_cost_nothing_and_those_that_are_not_finite_everything() -> None:
    picture = np.random.default_rng(0).random((1, 3, 16, 16)).astype(np.float32)
    assert cost_of_pictures_db([picture], [picture], 33.0) == pytest.approx(0.0, abs=1e-9)
    broken = picture.copy()
    broken[0, 0, 0, 0] = np.nan
    assert cost_of_pictures_db([broken], [picture], 33.0) == math.inf
