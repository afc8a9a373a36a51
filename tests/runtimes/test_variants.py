"""What "all" and lists of names mean."""

from __future__ import annotations

import pytest

from sr_edge.bench import choose_precisions, choose_runtimes
from sr_edge.errors import UnknownNameError, UsageError
from sr_edge.runtimes import runtime_names
from sr_edge.spec import Precision
from tests.expected_errors import raises


def test_all_is_everything_registered() -> None:
    assert choose_runtimes("all") == runtime_names()
    assert choose_precisions("all") == list(Precision)


def test_lists_keep_their_order_and_lose_doubles() -> None:
    assert choose_runtimes("openvino, torch,openvino") == ["openvino", "torch"]
    assert choose_precisions("int8,fp32") == [Precision.INT8, Precision.FP32]


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with raises(UnknownNameError, found="tensorflow", wanted=runtime_names()):
        choose_runtimes("torch,tensorflow")
    with raises(UnknownNameError, found="int4", wanted=[precision.value for precision in Precision]):
        choose_precisions("int4")


@pytest.mark.parametrize("text", ["", " , "])
def test_an_empty_list_is_refused(text: str) -> None:
    with raises(UsageError):
        choose_runtimes(text)
