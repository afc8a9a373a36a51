"""What a server may be told to serve."""

from __future__ import annotations

from pathlib import Path

import pytest

from sr_edge.errors import UsageError
from sr_edge.export.serving import ServedBy, TritonPlan


def test_an_empty_engine_serves_nobody(tmp_path: Path) -> None:
    engine = tmp_path / "empty.plan"
    engine.touch()
    with pytest.raises(UsageError, match=r"empty\.plan is empty; build it again"):
        TritonPlan(ServedBy.TENSORRT, engine=engine)
