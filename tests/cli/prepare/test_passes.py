"""`--passes` of `deploy` and `export`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import SrEdge

NETWORK = ("convnet-tiny", "--scale", "2", "--random-weights")


@pytest.mark.parametrize(
    "words",
    [
        ("deploy", *NETWORK, "--passes", "some"),
        ("deploy", *NETWORK, "--passes", "measured", "--runtimes", "torch"),
        ("export", *NETWORK, "--passes", "measured"),
        ("export", *NETWORK, "--passes", "all", "--dynamic"),
    ],
    ids=["unknown", "no runtime to measure in", "export measures nothing", "dynamic"],
)
def test_nonsense_is_refused_in_one_line(sr_edge: SrEdge, tmp_path: Path, words: tuple[str, ...]) -> None:
    out = tmp_path / ("out.onnx" if words[0] == "export" else "out.sredge")
    outcome = sr_edge(*words, "-o", str(out))
    assert outcome.code != 0
    assert outcome.error
    assert not out.exists()
