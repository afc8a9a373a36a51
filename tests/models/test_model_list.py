"""The list of networks: complete, and its kept counts those of the networks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sr_edge.models import build_network, model_names, model_rows
from sr_edge.models.macs import count_macs
from sr_edge.models.model_list import MACS_FILE, MACS_INPUT_PX
from sr_edge.models.registry import SCALES

REMEDY = "run scripts/count_model_macs.py"


def test_every_network_is_listed_with_its_needs() -> None:
    rows = {row.name: row for row in model_rows()}
    assert list(rows) == model_names()
    assert rows["taylor-swinir-tiny"].multiple_px == 48
    assert (rows["labnet-tiny"].global_statistics, rows["convnet-tiny"].global_statistics) == (True, False)
    assert all(set(row.macs) == set(SCALES) for row in rows.values()), REMEDY


def test_the_file_holds_registered_networks_only() -> None:
    assert list(json.loads(MACS_FILE.read_text())) == model_names(), REMEDY


@pytest.mark.parametrize("name", [name for name in model_names() if name.endswith("-tiny")])
def test_kept_counts_are_what_the_networks_compute(name: str) -> None:
    (row,) = (row for row in model_rows() if row.name == name)
    assert row.macs[2] == count_macs(build_network(name, 2), MACS_INPUT_PX, MACS_INPUT_PX), REMEDY


def test_a_count_older_than_its_network_is_left_out(tmp_path: Path) -> None:
    kept = json.loads(MACS_FILE.read_text())
    kept["convnet-tiny"]["3"]["parameters"] += 1
    del kept["convnet-light"]
    older = tmp_path / "macs.json"
    older.write_text(json.dumps(kept))
    rows = {row.name: row for row in model_rows(older)}
    assert set(rows["convnet-tiny"].macs) == {2, 4}
    assert rows["convnet-light"].macs == {}
