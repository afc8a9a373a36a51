"""What "all" and lists of names mean."""

from __future__ import annotations

import pytest

from sr_edge.bench import choose_precisions, choose_runtimes
from sr_edge.errors import UnknownNameError, UsageError
from sr_edge.runtimes import runtime_names
from sr_edge.spec import Precision


def test_all_is_everything_registered() -> None:
    assert choose_runtimes("all") == runtime_names()
    assert choose_precisions("all") == list(Precision)


def test_lists_keep_their_order_and_lose_doubles() -> None:
    assert choose_runtimes("openvino, torch,openvino") == ["openvino", "torch"]
    assert choose_precisions("int8,fp32") == [Precision.INT8, Precision.FP32]


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown runtime 'tensorflow'; choose one of: torch"):
        choose_runtimes("torch,tensorflow")
    with pytest.raises(UnknownNameError, match=r"unknown precision 'int4'; choose one of: fp32"):
        choose_precisions("int4")


@pytest.mark.parametrize("text", ["", " , "])
def test_an_empty_list_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write all, or names"):
        choose_runtimes(text)
