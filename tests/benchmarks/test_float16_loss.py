"""What half precision costs: the script measures a bundled network, and the page tells it."""

from __future__ import annotations

import importlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sr_edge.frames import Picture
from sr_edge.image_files import write_picture
from sr_edge.models.registry import WEIGHTS_FOLDER
from sr_edge.runtimes import supports
from sr_edge.spec import Precision

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def float16_loss(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("float16_loss")


def test_a_bundled_network_is_measured_and_shown(float16_loss: Any, tmp_path: Path) -> None:
    originals = tmp_path / "waves" / "hr"
    originals.mkdir(parents=True)
    rows, columns = np.indices((64, 64))[..., np.newaxis]
    waves = 127.5 + 127.5 * np.sin(0.3 * rows + np.array([0.2, 0.4, 0.1]) * columns)
    write_picture(originals / "waves.png", Picture(waves.astype(np.uint8)))
    with_bf16 = supports("openvino", Precision.BF16)
    weights = WEIGHTS_FOLDER / "convnet-tiny-x2.safetensors"
    (row,) = float16_loss.measure(weights, [originals], with_bf16, tmp_path)
    assert (row.network, row.test_set, row.pictures) == ("convnet-tiny-x2", "waves", 1)
    assert row.fp32_db > 20
    assert abs(row.fp16_loss_db) < 0.1
    assert (row.bf16_loss_db is not None) == with_bf16
    assert (row.fp32_nodes, row.nodes) == (0, 14)
    report = float16_loss.Report((row,), 0.01, "OpenVINO computes no bf16 on this CPU")
    shown = "\n".join(importlib.import_module("page_networks").float16(asdict(report)))
    assert f"| convnet-tiny-x2 | waves (1) | {row.fp32_db:.3f} | {row.fp16_loss_db:+.4f} |" in shown
    assert "no bf16 on this CPU" in shown
    assert "trained further since" not in shown


def test_rows_of_other_networks_stay_and_tell_earlier_weights(float16_loss: Any, tmp_path: Path) -> None:
    rows = [
        float16_loss.Row(name, "set5", 5, 36.0, 0.001, None, 0, 14, "earlier")
        for name in ("convnet-tiny-x2", "ups-tiny-x2")
    ]
    file = tmp_path / "float16.json"
    file.write_text(json.dumps(asdict(float16_loss.Report(tuple(rows), 0.01, ""))))
    assert list(float16_loss.kept(file, ["convnet-tiny-x2"])) == rows[1:]
    assert list(float16_loss.kept(tmp_path / "none.json", [])) == []
    shown = "\n".join(importlib.import_module("page_networks").float16(json.loads(file.read_text())))
    assert "trained further since: convnet-tiny-x2, ups-tiny-x2." in shown


def test_without_test_pictures_it_says_where_to_put_them(float16_loss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SR_EDGE_DATA", raising=False)
    with pytest.raises(SystemExit) as caught:
        float16_loss.test_sets([])
    assert "--hr" in str(caught.value) and "SR_EDGE_DATA" in str(caught.value)
