"""`sr-edge deploy NAME` without any file of the user: weights, images and the bundle's name have defaults."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from rich.console import Group

from sr_edge.bench.recommendation import MIN_ROUNDS
from sr_edge.bundle import open_bundle
from sr_edge.cli.output import PIPE_WIDTH, result_on_stdout
from sr_edge.cli.prepare.deploy import advice_lines
from sr_edge.deploy import Recommendation
from sr_edge.models.registry import WEIGHTS_FOLDER
from sr_edge.runtimes import supports
from sr_edge.spec import Precision
from tests.cli.conftest import SrEdge

BUNDLED = sorted(path.stem for path in WEIGHTS_FOLDER.glob("*.safetensors"))
QUICKLY = (
    *("--tile", "48", "--runtimes", "onnxruntime", "--precisions", "fp32", "--runs", "1", "--no-memory"),
    *("--passes", "structure", "--no-tile-needs", "--no-reuse-table"),
)


@pytest.mark.parametrize("title", BUNDLED)
def test_every_bundled_network_is_deployed_by_its_name(
    title: str, sr_edge: SrEdge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, _, scale = title.rpartition("-x")
    outcome = sr_edge("deploy", name, "--scale", scale, *QUICKLY, "--json")
    assert outcome.code == 0, outcome.stderr
    assert [path.name for path in tmp_path.iterdir()] == [f"{title}.sredge"]
    with open_bundle(tmp_path / f"{title}.sredge") as bundle:
        assert (bundle.manifest.card.name, bundle.manifest.card.scale) == (name, int(scale))
    assert "two bundled images" in json.loads(outcome.stdout)["notes"][-1]


def test_a_bundle_of_that_name_is_not_overwritten_by_chance(
    sr_edge: SrEdge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "convnet-tiny-x2.sredge").mkdir()
    (tmp_path / "convnet-tiny-x2.sredge" / "mine.txt").write_text("mine")
    outcome = sr_edge("deploy", "convnet-tiny", "--scale", "2", *QUICKLY)
    assert outcome.code == 1
    assert "convnet-tiny-x2.sredge" in outcome.error
    assert (tmp_path / "convnet-tiny-x2.sredge" / "mine.txt").read_text() == "mine"


def test_the_command_that_deploy_recommends_runs(
    sr_edge: SrEdge, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = ("--runtimes", "onnxruntime", "--precisions", "fp32,int8", "--runs", MIN_ROUNDS)
    options = ("--tile", "24", *chosen, "--no-memory", "--no-tile-needs", "--images", pictures)
    outcome = sr_edge("deploy", "convnet-tiny", "--scale", "2", *options)
    assert outcome.code == 0, outcome.stderr
    _, advice = outcome.stdout.split("recommended here, by what was measured:\n")
    *summary, command, python = advice.splitlines()
    assert summary[0].startswith("onnxruntime: ")
    assert python.startswith("    sr_edge.open_upscaler('convnet-tiny-x2.sredge', runtime='onnxruntime', precision='")
    program, *arguments = shlex.split(command)
    assert program == "sr-edge"
    places = {"IN": str(pictures / "waves0.png"), "OUT": "large.png"}
    assert sr_edge(*(places.get(word, word) for word in arguments)).code == 0
    assert Path("large.png").exists()


def test_what_is_to_be_copied_is_never_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    longer = PIPE_WIDTH // len("long ") + 1
    command = "sr-edge upscale " + longer * "long " + "IN OUT"
    python = "sr_edge.open_upscaler(" + longer * "long, " + ")"
    lines = [*advice_lines([Recommendation("openvino", "run fp32", command=command, python=python)], with_all=False)]
    with result_on_stdout(as_json=False) as show:
        show({}, Group(*lines))
    shown = capsys.readouterr().out.splitlines()
    assert f"    {command}" in shown and f"    {python}" in shown
    assert [*advice_lines([], with_all=False)] == []


@pytest.mark.parametrize(("with_all", "shown"), [(False, {"best"}), (True, {"best", "other"})])
def test_only_the_best_is_shown_with_its_commands_unless_all_are_wanted(with_all: bool, shown: set[str]) -> None:
    advice = [Recommendation(name, "run fp32", command=name, python=name) for name in ("best", "other")]
    lines = [str(line) for line in advice_lines(advice, with_all)]
    assert {line.strip() for line in lines if line.startswith("    ")} == shown
    assert sum("run fp32" in line for line in lines) == 2


def test_upscale_takes_the_rest_that_deploy_recommends(
    sr_edge: SrEdge, bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    if not supports("openvino", Precision.BF16):
        pytest.skip("OpenVINO computes no bf16 here")
    fast = ("--runtime", "openvino", "--precision", "int8", "--float-precision", "bf16", "--json")
    outcome = sr_edge("upscale", bundle, pictures / "waves0.png", tmp_path / "large.png", *fast)
    assert outcome.code == 0, outcome.stderr
    session = json.loads(outcome.stdout)["session"]
    assert (session["ran"], session["float_precision_ran"]) == ("int8", "bf16")
