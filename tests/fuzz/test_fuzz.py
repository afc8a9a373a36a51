"""A sample of hostile inputs of every kind; `make fuzz` tries more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.campaign import tried
from tests.fuzz.kinds import EVERY_KIND, KINDS
from tests.fuzz.known_faults import KNOWN_FAULTS

SAMPLE, MORE = 8 * 8, 60


def test_a_sample_is_handled_well(tmp_path: Path) -> None:
    assert tried(EVERY_KIND, SAMPLE, 0, tmp_path) == []


@pytest.mark.services
@pytest.mark.parametrize("kind", KINDS)
def test_more_inputs_are_handled_well(kind: str, tmp_path: Path) -> None:
    assert tried(kind, MORE, 10_000, tmp_path) == []


@pytest.mark.services
@pytest.mark.parametrize("fault", KNOWN_FAULTS)
def test_a_fault_of_each_sort_is_noticed(fault: str, tmp_path: Path) -> None:
    bad = tried(fault, 2, 0, tmp_path, limit_s=8.0)
    assert [item.seed for item in bad] == [0, 1]
