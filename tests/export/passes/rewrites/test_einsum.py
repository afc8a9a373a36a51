"""Einsum nodes become matrix products, elementwise products and 1x1 convolutions of the same result."""

from __future__ import annotations

import random

import numpy as np
import pytest

from sr_edge.export.passes.rewrites.einsum import einsum_as_product
from tests.export.passes.rewrites.equal_graphs import Values, one_node, operators_of, require_equal

LETTERS = "abcde"
SIZES = dict(zip(LETTERS, (2, 3, 4, 1, 5), strict=True))
EXACT = 1e-12


def random_case(generator: random.Random) -> tuple[str, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """An equation of one or two operands with the operands, of which the second may be a constant."""
    terms = ["".join(generator.sample(LETTERS, generator.randint(1, 4))) for _ in range(generator.choice((1, 2, 2, 2)))]
    used = sorted(set("".join(terms)))
    result = "".join(generator.sample(used, generator.randint(0, len(used))))
    values = np.random.default_rng(generator.randint(0, 999))
    hidden = (3, 2) if generator.random() < 0.3 else ()
    operands = {}
    for name, term in zip("xw", terms, strict=False):
        is_wide = [letter in result or len(terms) == 1 or generator.random() > 0.2 for letter in term]
        axes = [SIZES[letter] if wide else 1 for letter, wide in zip(term, is_wide, strict=True)]
        broadcast = [1 if generator.random() < 0.3 else size for size in hidden]
        operands[name] = values.standard_normal([*broadcast, *axes])
    dots = "..." if hidden else ""
    equation = f"{','.join(dots + term for term in terms)}->{dots}{result}"
    is_constant = len(terms) == 2 and generator.random() < 0.4
    constants = {"w": operands.pop("w")} if is_constant else {}
    return equation, operands, constants


@pytest.mark.parametrize("seed", range(120))
def test_random_equations(seed: int) -> None:
    equation, inputs, constants = random_case(random.Random(seed))
    model = one_node("Einsum", inputs, constants, equation=equation)
    result = einsum_as_product(model)
    require_equal(result, model, inputs, EXACT)
    assert "Einsum" not in operators_of(result.model)
    assert not einsum_as_product(result.model).changed


IMAGE = {"x": np.random.default_rng(0).standard_normal((1, 3, 4, 5))}
MATRIX = np.random.default_rng(1).standard_normal((6, 3))
WINDOWS = {name: np.random.default_rng(2).standard_normal((4, 2, 9, 8)) for name in "qk"}


@pytest.mark.parametrize(
    ("equation", "inputs", "constants", "operators"),
    [
        ("bchw,dc->bdhw", IMAGE, {"w": MATRIX}, {"Conv"}),
        ("dc,bchw->bdhw", {"w": MATRIX, **IMAGE}, {}, None),
        ("bhid,bhjd->bhij", WINDOWS, {}, {"Transpose", "MatMul"}),
        ("bhij,bhjd->bhid", {"a": WINDOWS["q"][..., :9], "v": WINDOWS["k"][:, :, :8]}, {}, {"MatMul"}),
        ("hbwpc,hbwqc->hbwpq", {name: value[None] for name, value in WINDOWS.items()}, {}, {"Transpose", "MatMul"}),
        ("ij,kj", {"a": MATRIX, "b": MATRIX[:2]}, {}, {"Transpose", "MatMul"}),
        ("...i,...i->...", WINDOWS, {}, None),
        ("i->", {"x": MATRIX[0]}, {}, None),
        ("ij->ji", {"x": MATRIX}, {}, {"Transpose"}),
        ("ij->ij", {"x": MATRIX}, {}, {"Identity"}),
        ("i,j->ij", {"a": MATRIX[0], "b": MATRIX[:, 0]}, {}, {"Reshape", "Mul"}),
    ],
)
def test_what_networks_write(equation: str, inputs: Values, constants: Values, operators: set[str] | None) -> None:
    model = one_node("Einsum", inputs, constants, equation=equation)
    result = einsum_as_product(model)
    require_equal(result, model, inputs, EXACT)
    assert operators is None or operators_of(result.model) == operators


@pytest.mark.parametrize(
    ("equation", "inputs"),
    [
        ("ii->i", {"x": np.zeros((3, 3))}),
        ("ij,jk,kl->il", {name: np.zeros((3, 3)) for name in "xyz"}),
        ("ij,jk->ik", {name: np.zeros((3, 3), np.int64) for name in "xz"}),
    ],
    ids=["diagonal", "three operands", "whole numbers"],
)
def test_others_are_left_alone(equation: str, inputs: Values) -> None:
    model = one_node("Einsum", {f"{name}0": value for name, value in inputs.items()}, equation=equation)
    result = einsum_as_product(model)
    assert not result.changed
    assert result.model is model
    assert "the node" in result.reason
