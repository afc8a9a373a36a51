"""The small networks of spandrel's families: the whole registry is accounted for, and rows say which gate refused."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    found = importlib.import_module("network_recipes")
    try:
        found.registered_families()
    except ImportError:
        pytest.skip("spandrel is not installed")
    return found


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("network_rows")


def test_every_family_of_the_registry_has_a_recipe_or_a_reason(recipes: Any) -> None:
    covered = {recipe.family for recipe in recipes.RECIPES.values()}
    assert covered.isdisjoint(recipes.NOT_COVERED)
    assert covered | set(recipes.NOT_COVERED) == set(recipes.registered_families())


@pytest.mark.parametrize("name", ["compact", "dncnn"])
def test_a_recipe_builds_the_same_network_each_time(recipes: Any, name: str) -> None:
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    networks = (recipes.build(name), getattr(recipes, name)())
    with torch.inference_mode():
        outputs = [network(picture) for network in networks]
    assert outputs[0].shape[-1] == 16 * recipes.RECIPES[name].scale
    assert torch.equal(*outputs)


@pytest.mark.parametrize(
    ("line", "gate"),
    [
        ("the network has no ONNX form at opset 17: an operator", "export"),
        ("the graph is not static: Reshape 'a': a tensor of rank 6 is above 5", "rules"),
        ("the ONNX graph differs from the PyTorch module by 0.1; the exporter changes what it computes", "parity"),
        ("float16 costs 0.3 dB (allowed 0.02 dB)", "fp16"),
    ],
)
def test_an_error_line_names_the_gate_that_refused(rows: Any, line: str, gate: str) -> None:
    verdicts = rows.gates_of(rows.Outcome(1, {}, line, 1.0), ["exporting"])
    reached = rows.GATES.index(gate)
    assert [verdicts[name] for name in rows.GATES[:reached]] == ["passed"] * reached
    assert verdicts[gate] == "refused"
    assert {verdicts[name] for name in rows.GATES[reached + 1 :]} == {"not reached"}


def test_a_bundle_without_int8_counts_as_left_out(rows: Any) -> None:
    document = {
        "manifest": {"artifacts": [{"precision": "fp32"}, {"precision": "fp16"}]},
        "bench": {"rows": [{"self_test": {"results": [{"psnr_db": 61.0, "min_psnr_db": 60.0}]}}]},
    }
    verdicts = rows.gates_of(rows.Outcome(0, document, "", 1.0), [])
    assert Counter(verdicts.values()) == {"passed": len(rows.GATES) - 1, "left out": 1}
    assert verdicts["int8"] == "left out"


def test_a_golden_frame_that_is_missed_refuses_the_self_test(rows: Any) -> None:
    document = {
        "manifest": {"artifacts": [{"precision": precision} for precision in ("fp32", "fp16", "int8")]},
        "bench": {"rows": [{"self_test": {"results": [{"psnr_db": 20.0, "min_psnr_db": 60.0}]}}]},
    }
    assert rows.gates_of(rows.Outcome(1, document, "", 1.0), [])["self-test"] == "refused"


def test_a_deployment_that_takes_too_long_is_refused_where_it_stood(rows: Any) -> None:
    verdicts = rows.gates_of(rows.Outcome(None, {}, "no result within 9 s", 9.0), ["exporting"])
    assert verdicts["export"] == "refused"


def test_the_fit_ends_nearer_to_the_enlarged_picture(recipes: Any) -> None:
    fit = importlib.import_module("network_fit")
    plain, fitted = recipes.build("compact"), fit.fitted("compact", steps=8)
    assert fit.nearness_db(fitted, 4, 32) > fit.nearness_db(plain, 4, 32) + 3
