"""Recipes are read from files, checked by name and type, and decide the rate of every step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sr_edge.errors import UsageError
from sr_edge.training import Recipe, read_recipe, recipe_from_document
from sr_edge.training.recipe import LOSS_WEIGHTS, OptimizerName, Schedule
from tests.expected_errors import raises

NAN = float("nan")


def test_a_recipe_survives_its_file(tmp_path: Path) -> None:
    recipe = Recipe(steps=7, optimizer=OptimizerName.ADAMW, schedule=Schedule.STEP, halve_every=3, weight_decay=0.1)
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe.document()))
    assert recipe_from_document(read_recipe(path)) == recipe


@pytest.mark.parametrize(
    ("document", "wanted"),
    [
        ({"steps": "5"}, "a whole number"),
        ({"steps": 5.5}, "a whole number"),
        ({"steps": True}, "a whole number"),
        ({"compile": 1}, "true or false"),
        ({"optimizer": "sgd"}, ["adam", "adamw"]),
        ({"steps": 0}, "at least 1"),
        ({"learning_rate": 1.0}, "between 0 and 1"),
        ({"ema_decay": 1.0}, "at least 0 and below 1"),
        ({"clip_norm": 0}, "above 0"),
        ({"clip_norm": NAN}, "above 0"),
        ({"warm_up_steps": -5}, "at least 0 and finite"),
        ({"halve_every": -1}, "at least 0 and finite"),
        ({"weight_decay": NAN}, "at least 0 and finite"),
        ({"l2_weight": -1}, "at least 0 and finite"),
        ({"l2_weight": float("inf")}, "at least 0 and finite"),
    ],
)
def test_a_value_that_is_refused(document: dict[str, object], wanted: object) -> None:
    with raises(UsageError, found=document, wanted=wanted):
        recipe_from_document(document, "my.json")


@pytest.mark.parametrize(("name", "nearest"), [("step", ["steps"]), ("learning-rate", ["learning_rate"])])
def test_an_unknown_name_is_refused_with_the_nearest(name: str, nearest: list[str]) -> None:
    with raises(UsageError, found=name, wanted=nearest) as caught:
        recipe_from_document({name: 5}, "my.json")
    assert "my.json" in caught.value.problem


def test_a_name_that_resembles_none_is_refused_with_all_names() -> None:
    with raises(UsageError, found="zzz", wanted=list(Recipe().document())):
        recipe_from_document({"zzz": 1})


def test_values_that_do_not_go_together() -> None:
    with raises(UsageError, found={"schedule": "step", "halve_every": 0}):
        recipe_from_document({"schedule": "step"})
    with raises(UsageError, found={"schedule": "cosine", "halve_every": 3}):
        recipe_from_document({"halve_every": 3})
    with raises(UsageError, found={"weight_decay": 0.1, "optimizer": "adam"}, wanted={"optimizer": "adamw"}):
        recipe_from_document({"weight_decay": 0.1})
    with raises(UsageError, found=dict.fromkeys(LOSS_WEIGHTS, 0.0), wanted="above 0"):
        recipe_from_document({"l1_weight": 0})


@pytest.mark.parametrize(("text", "wanted"), [("{", "JSON"), ("[1]", "dict"), (None, "a readable file")])
def test_a_file_that_is_no_recipe(tmp_path: Path, text: str | None, wanted: str) -> None:
    path = tmp_path / "recipe.json"
    if text is not None:
        path.write_text(text)
    with raises(UsageError, found="list" if wanted == "dict" else path, wanted=wanted):
        read_recipe(path)


def test_the_step_schedule_halves_the_rate() -> None:
    recipe = Recipe(steps=100, warm_up_steps=0, learning_rate=0.4, schedule=Schedule.STEP, halve_every=30)
    assert [recipe.learning_rate_at(step) for step in (0, 29, 30, 59, 60, 99)] == [0.4, 0.4, 0.2, 0.2, 0.1, 0.05]


def test_whole_numbers_do_for_others() -> None:
    assert recipe_from_document({"clip_norm": 2}).clip_norm == 2.0
