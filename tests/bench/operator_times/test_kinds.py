"""Operators of both runtimes are of the kind that their work is."""

from __future__ import annotations

import pytest

from sr_edge.bench.operator_times.kinds import Kind, kind_of


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("Convolution", Kind.ARITHMETIC),
        ("FusedMatMul", Kind.ARITHMETIC),
        ("Reorder", Kind.MOVEMENT),
        ("ReorderInput", Kind.MOVEMENT),
        ("Concat", Kind.MOVEMENT),
        ("Softmax", Kind.ELEMENTWISE),
        ("an operator of another library", Kind.ELEMENTWISE),
    ],
)
def test_operators(operator: str, kind: Kind) -> None:
    assert kind_of(operator) is kind


@pytest.mark.parametrize(
    ("made_of", "kind"),
    [
        ({"MatMul", "Softmax", "Transpose"}, Kind.ARITHMETIC),
        ({"Add", "Reshape"}, Kind.ELEMENTWISE),
        ({"Transpose"}, Kind.MOVEMENT),
        (set(), Kind.ELEMENTWISE),
    ],
)
def test_generated_layers_are_what_they_were_made_of(made_of: set[str], kind: Kind) -> None:
    assert kind_of("Subgraph", made_of) is kind


def test_only_generated_layers_depend_on_what_they_were_made_of() -> None:
    assert kind_of("Transpose", {"MatMul", "Transpose"}) is Kind.MOVEMENT
