"""Files in the working folder are run for `--arch` only, which says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from sr_edge.errors import EngineError
from sr_edge.models.loading.factories import call_factory
from sr_edge.runtimes import SessionRequest, measure_memory
from sr_edge.spec import ModelCard, Precision, TileSpec
from tests.bundle.bundles import onnx_file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with files that leave a trace when Python runs them."""
    for module in ("json", "numpy", "onnxruntime", "sr_edge"):
        (tmp_path / f"{module}.py").write_text("open('was-run', 'w').close()\nraise ImportError('not the library')\n")
    (tmp_path / "model.onnx").write_bytes(onnx_file("graph"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_process_that_measures_memory_runs_nothing_from_there(folder: Path) -> None:
    request = SessionRequest(folder / "model.onnx", ModelCard("toy", 2, 1), TileSpec(8, 8), Precision.FP32)
    with pytest.raises(EngineError):
        measure_memory("onnxruntime", request)
    assert not (folder / "was-run").exists()


def test_a_factory_is_found_there(folder: Path) -> None:
    (folder / "mynet_of_this_test.py").write_text("from torch.nn import Identity as build\n")
    assert type(call_factory("mynet_of_this_test:build")).__name__ == "Identity"
