"""Options of reuse refuse what they cannot mean when they are made, and not with the first frame."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sr_edge.errors import SrEdgeError, UsageError
from sr_edge.upscaler import ReuseOptions, Upscaler
from sr_edge.upscaler.reuse_options import memory_text
from tests.expected_errors import raises
from tests.upscaler.blurring import BlurringSession

REFUSED: list[tuple[Any, ...]] = [
    ("exact ",),
    ("exact", 0.05),
    ("bound",),
    ("bound", "0.05"),
    ("bound", math.nan),
    ("bound", True),
    ("exact", None, 0),
    ("exact", None, 1.5),
    ("exact", None, math.nan),
    ("exact", None, "1G"),
    ("exact", None, None),
    ("exact", None, True),
    ("bound", 0.05, 1, "x"),
    ("bound", 0.05, 1, None),
    ("bound", 0.05, 1, math.nan),
    ("bound", 0.05, 1, math.inf),
    ("bound", 0.05, 1, 0),
    ("bound", 0.05, 1, 5e-324),
]


@pytest.mark.parametrize("arguments", REFUSED, ids=repr)
def test_options_that_mean_nothing_are_refused(arguments: tuple[Any, ...]) -> None:
    with raises(UsageError) as caught:
        ReuseOptions(*arguments)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "mode",
    ["", "Exact", "1e400", "nan", b"exact", 0, True, math.inf, 10**400, 1j, np.array([0.05, 0.1]), None, []],
    ids=repr,
)
def test_what_is_no_mode_is_refused(mode: Any) -> None:
    with raises(UsageError):
        ReuseOptions.parse(mode)


@pytest.mark.parametrize("mode", [0.05, "0.05", np.float64(0.05)])
def test_decibels_are_a_bound(mode: Any) -> None:
    assert ReuseOptions.parse(mode) == ReuseOptions("bound", 0.05)


@pytest.mark.parametrize("overlap_px", [-1, 10_000, 4.5, True, math.nan, "4"])
def test_an_overlap_that_does_not_fit_is_refused_before_a_picture_comes(overlap_px: Any) -> None:
    with pytest.raises(SrEdgeError):
        Upscaler(BlurringSession(), overlap_px)


@pytest.mark.parametrize("time_s", [math.nan, math.inf, "1"])
def test_a_time_that_is_no_number_is_refused(time_s: Any) -> None:
    with raises(UsageError, found=time_s) if time_s == time_s else raises(UsageError):
        Upscaler(BlurringSession(), reuse="exact").upscale(np.zeros((8, 9, 3), np.uint8), time_s=time_s)


@pytest.mark.parametrize("out", [[], np.broadcast_to(np.uint8(0), (16, 18, 3)), np.zeros((16, 18, 3), ">u2")], ids=type)
def test_an_output_that_cannot_be_written_is_refused(out: Any) -> None:
    with pytest.raises(SrEdgeError) as caught:
        Upscaler(BlurringSession()).upscale(np.zeros((8, 9, 3), np.uint8), out=out)
    assert caught.value.remedy


def test_amounts_of_memory_are_never_rounded_to_nothing() -> None:
    assert [memory_text(size) for size in (1, 600, 2**20, 2**30)] == ["1 byte", "600 bytes", "1024 KiB", "1024 MiB"]
