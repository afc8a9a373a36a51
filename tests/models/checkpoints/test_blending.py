"""Blended checkpoints are the weighted sum, and only checkpoints of one network can be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sr_edge.errors import UsageError, WeightsError
from sr_edge.models import build_network, load_model
from sr_edge.models.checkpoints import Blend, read_checkpoint


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Two checkpoints of one network, in different layouts."""
    for seed, name in enumerate(("strong.pth", "weak.pth")):
        torch.manual_seed(seed)
        state = build_network("convnet-tiny", 2).state_dict()
        wrapped = {"params": {f"module.{key}": value for key, value in state.items()}}
        torch.save(wrapped if seed else state, tmp_path / name)
    return tmp_path / "strong.pth", tmp_path / "weak.pth"


def test_a_blend_is_the_weighted_sum(files: tuple[Path, Path]) -> None:
    strong, weak = files
    model = load_model(str(strong), None, blend=[Blend(weak, 0.3)])
    first, second = (load_model(str(path), None).module.state_dict() for path in files)
    for key, value in model.module.state_dict().items():
        torch.testing.assert_close(value, 0.7 * first[key] + 0.3 * second[key])
    assert model.card.weights_sha256 == read_checkpoint(strong).sha256
    assert read_checkpoint(weak).sha256 in model.card.weights_source
    assert "0.3 of weak.pth" in model.card.weights_source


def test_several_are_blended(files: tuple[Path, Path]) -> None:
    strong, weak = files
    blended = load_model(str(strong), None, blend=[Blend(weak, 0.25), Blend(strong, 0.25)]).module.state_dict()
    once = load_model(str(strong), None, blend=[Blend(weak, 0.25)]).module.state_dict()
    torch.testing.assert_close(blended, once)


def test_another_network_cannot_be_blended(files: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    torch.save(build_network("convnet-tiny", 3).state_dict(), other)
    with pytest.raises(WeightsError, match=r"last\.weight.*instead of"):
        load_model(str(files[0]), None, blend=[Blend(other, 0.5)])
    with pytest.raises(UsageError):
        load_model(str(files[0]), None, blend=[Blend(files[1], 0.6), Blend(files[1], 0.6)])
    with pytest.raises(UsageError):
        load_model("convnet-tiny", 2, random_weights=True, blend=[Blend(files[1], 0.5)])


def test_spelling() -> None:
    assert Blend.parse("a=b/c.pth=0.3") == Blend(Path("a=b/c.pth"), 0.3)
    for text in ("c.pth", "=0.3", "c.pth=much", "c.pth=1.5", "c.pth=-1", "c.pth=nan"):
        with pytest.raises(UsageError):
            Blend.parse(text)
