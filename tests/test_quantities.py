"""Numbers of callers are read as they are, and everything else is one error with the name of the number."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sr_edge.errors import UsageError
from sr_edge.quantities import finite_number, whole_number
from tests.expected_errors import raises


@pytest.mark.parametrize("value", [1, 2**70, np.uint8(3), np.int64(1)])
def test_whole_numbers(value: int) -> None:
    number = whole_number(value, "threads", 1)
    assert (number, type(number)) == (int(value), int)


@pytest.mark.parametrize("value", [0, -1, True, 1.0, math.nan, math.inf, "1", None, [1], np.array([1, 2])])
def test_what_is_no_whole_number_is_refused_by_name(value: object) -> None:
    with raises(UsageError) as caught:
        whole_number(value, "threads", 1)
    assert "threads" in caught.value.problem
    assert caught.value.remedy


@pytest.mark.parametrize("value", [0.5, 7, np.float32(0.5), 1e308])
def test_finite_numbers(value: float) -> None:
    assert finite_number(value, "time_s", 0.5) == value


@pytest.mark.parametrize("value", [0.4, -1, math.nan, math.inf, True, "1", None, 1j, 10**400, np.array([1.0, 2.0])])
def test_what_is_no_finite_number_is_refused_by_name(value: object) -> None:
    with raises(UsageError) as caught:
        finite_number(value, "time_s", 0.5)
    assert "time_s" in caught.value.problem
    assert caught.value.remedy
