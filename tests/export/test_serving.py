"""The options of a Triton model."""

from __future__ import annotations

from pathlib import Path

from sr_edge.errors import UsageError
from sr_edge.export.serving import ServingBackend, TritonOptions
from tests.expected_errors import raises


def test_an_empty_engine_serves_nobody(tmp_path: Path) -> None:
    engine = tmp_path / "empty.plan"
    engine.touch()
    with raises(UsageError, found=engine, wanted="a complete engine"):
        TritonOptions(ServingBackend.TENSORRT, engine=engine)
