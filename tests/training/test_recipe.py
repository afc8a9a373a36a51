"""Recipes are read from files, checked by name and type, and decide the rate of every step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sr_edge.errors import UsageError
from sr_edge.training import Recipe, read_recipe, recipe_from_document
from sr_edge.training.recipe import OptimizerName, Schedule


def test_a_recipe_survives_its_file(tmp_path: Path) -> None:
    recipe = Recipe(steps=7, optimizer=OptimizerName.ADAMW, schedule=Schedule.STEP, halve_every=3, weight_decay=0.1)
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe.document()))
    assert recipe_from_document(read_recipe(path)) == recipe


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"step": 5}, "no 'step'; did you mean steps"),
        ({"learning-rate": 1e-3}, "did you mean learning_rate"),
        ({"zzz": 1}, "known are steps, batch"),
        ({"steps": "5"}, "steps is '5'; it must be a whole number"),
        ({"steps": 5.5}, "steps is 5.5"),
        ({"steps": True}, "steps is True"),
        ({"compile": 1}, "compile is 1; it must be true or false"),
        ({"optimizer": "sgd"}, "choose one of: adam, adamw"),
        ({"schedule": "step"}, "halve_every"),
        ({"weight_decay": 0.1}, "adamw"),
        ({"steps": 0}, "steps is 0"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"clip_norm": 0}, "clip_norm is 0.0, which stops all learning"),
        ({"clip_norm": float("nan")}, "clip_norm is nan"),
        ({"warm_up_steps": -5}, "warm_up_steps is -5; it must be 0 or more"),
        ({"halve_every": -1}, "halve_every is -1"),
        ({"weight_decay": float("nan"), "optimizer": "adamw"}, "weight_decay is nan"),
        ({"l1_weight": 0}, "nothing is learnt"),
        ({"l2_weight": -1}, "l2_weight is -1"),
        ({"l2_weight": float("inf")}, "l2_weight is inf; it must be 0 or more, and finite"),
    ],
)
def test_what_a_recipe_cannot_be(document: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        recipe_from_document(document, "my.json")


@pytest.mark.parametrize(("text", "message"), [("{", "no JSON"), ("[1]", "holds a list"), (None, "cannot read")])
def test_a_file_that_is_no_recipe(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "recipe.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_recipe(path)


def test_the_step_schedule_halves_the_rate() -> None:
    recipe = Recipe(steps=100, warm_up_steps=0, learning_rate=0.4, schedule=Schedule.STEP, halve_every=30)
    assert [recipe.learning_rate_at(step) for step in (0, 29, 30, 59, 60, 99)] == [0.4, 0.4, 0.2, 0.2, 0.1, 0.05]


def test_whole_numbers_do_for_others() -> None:
    assert recipe_from_document({"clip_norm": 2}).clip_norm == 2.0
