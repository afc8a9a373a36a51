"""benchmarks/paper_comparisons.py: its variants, its table, and that finished runs are read and not trained again."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sr_edge.bench import describe_environment
from sr_edge.bundle.plain import to_plain
from sr_edge.frames import Picture
from sr_edge.image_files import write_picture
from sr_edge.models.layers.stea import NonLocalAttention

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


class Scripts:
    """The modules under test, which import one another by bare names, as they do when they are run."""

    def __init__(self) -> None:
        self.main: Any = importlib.import_module("paper_comparisons")
        self.networks: Any = importlib.import_module("comparison_networks")
        self.rows: Any = importlib.import_module("comparison_rows")
        self.page: Any = importlib.import_module("page")
        self.run_all: Any = importlib.import_module("run_all")


@pytest.fixture(scope="module")
def scripts() -> Iterator[Scripts]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield Scripts()


def test_every_variant_of_a_comparison_is_built_and_begins_as_an_enlarger(scripts: Scripts) -> None:
    picture = torch.rand(1, 3, 4, 4).repeat_interleave(12, 2).repeat_interleave(12, 3)
    wanted = picture.repeat_interleave(2, 2).repeat_interleave(2, 3)
    patches = dict(scripts.networks.patches_px())
    assert set(patches) == set(scripts.networks.VARIANTS)
    for name in patches:
        with torch.inference_mode():
            made = scripts.networks.build_variant(name, seed=0).eval()(picture)
        assert made.shape == wanted.shape and (made - wanted).abs().mean() < 0.06, name


def test_variants_of_the_trunk_differ_in_their_branch_only(scripts: Scripts) -> None:
    def common(name: str) -> dict[str, torch.Tensor]:
        state = scripts.networks.build_variant(name, seed=5).state_dict()
        return {key: value for key, value in state.items() if "large_scale" not in key}

    first = common("neither")
    others = [common(name) for name in ("STEA, order 1", "STEA, order 3", "STEA and MLFR")]
    for other in others:
        assert other.keys() == first.keys() and all(torch.equal(first[key], other[key]) for key in first)


def test_queries_in_parts_are_plain_attention(scripts: Scripts) -> None:
    torch.manual_seed(1)
    plain, parts = NonLocalAttention(8), scripts.networks.QueriesInParts(8)
    parts.load_state_dict(plain.state_dict())
    x = torch.rand(2, 8, 18, 20)
    assert x[0, 0].numel() > scripts.networks.QUERIES_AT_ONCE
    torch.testing.assert_close(parts(x), plain(x))


@pytest.fixture
def score(scripts: Scripts) -> Any:
    return scripts.rows.Score("STEA, order 2", 0, {"Set5": 36.0, "Set14": 32.0}, 60_048, 540_000_000, 3.0, {"steps": 2})


def test_changes_are_taken_within_a_seed(scripts: Scripts, score: Any) -> None:
    variants = ("STEA, order 2", "STEA, order 1", "STEA, order 3")
    scores = [
        score,
        replace(score, seed=1, psnr_db={"Set5": 38.0, "Set14": 33.0}),
        replace(score, variant=variants[1], psnr_db={"Set5": 36.1, "Set14": 31.5}),
        replace(score, variant=variants[1], seed=1, psnr_db={"Set5": 37.7, "Set14": 32.8}),
        replace(score, variant=variants[2], seed=2, psnr_db={"Set5": 40.0, "Set14": 40.0}),
    ]
    first, second, third = scripts.rows.comparison_rows(variants, scores)
    assert first.seeds == (0, 1) and first.psnr_db["Set5"] == 37.0 and first.cells()[-2:] == ("", "")
    assert second.cells()[-2:] == ("-0.10 (-0.30 to +0.10)", "-0.35 (-0.50 to -0.20)")
    assert third.change_db == {}  # no seed in common


def test_a_run_is_trained_once_and_refuses_another_recipe(
    scripts: Scripts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    y, x = np.mgrid[:72, :72]
    wave = (127 + 100 * np.sin((x + 2 * y) / 9)).astype(np.uint8)
    write_picture(pictures / "wave.png", Picture(np.stack([wave] * 3, -1)))
    folders = [word for name in ("data", "set5", "set14") for word in (f"--{name}", str(pictures))]
    only = ["--only", "neither", "STEA, order 2", "STEA and MLFR", "--seeds", "1", "--work", str(tmp_path / "work")]
    command = ["paper_comparisons.py", *folders, *only]

    def call(*more: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", [*command, *more, "--json", str(tmp_path / "found.json")])
        scripts.main.main()
        found: dict[str, Any] = json.loads((tmp_path / "found.json").read_text())
        return found

    first = call("--steps", "2")
    (comparison,) = first["comparisons"]  # one variant alone, of "STEA by its order", is no comparison
    assert comparison["title"] == "STEA and MLFR"
    assert [row["variant"] for row in comparison["rows"]] == ["STEA and MLFR", "STEA, order 2", "neither"]
    monkeypatch.setattr(scripts.main, "train", None)
    assert call("--steps", "2") == first == call("--no-training", "--steps", "2")
    with pytest.raises(SystemExit) as refused:
        call("--steps", "3")
    assert str(tmp_path / "work") in str(refused.value) and "--steps" in str(refused.value)
    with pytest.raises(SystemExit) as refused:
        call("--no-training", "--steps", "2", "--pair", str(tmp_path))
    assert str(tmp_path) in str(refused.value) and "--pair" in str(refused.value)
    page = page_of(scripts, first)
    assert "**STEA and MLFR** (three LSTEA blocks of 32 channels), x2:" in page
    assert "| neither | 43,959 | 0.42 | 1 |" in page and "2 steps of 4 crops of 32x32. The paper: blind x4" in page


def page_of(scripts: Scripts, figures: dict[str, Any]) -> str:
    kept = {"environment": to_plain(describe_environment()), "commands": ["python x.py"], "figures": figures}
    page: str = scripts.page.benchmarks_page({"comparisons": kept})
    return page


def test_trained_figures_are_made_on_request_only(scripts: Scripts) -> None:
    assert not set(scripts.run_all.STEPS) & set(scripts.run_all.TRAINED_STEPS)
