"""Blended checkpoints are the weighted sum, and only checkpoints of one network can be."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sr_edge.errors import UsageError, WeightsError
from sr_edge.models import build_network, load_model
from sr_edge.models.checkpoints import Blend, read_checkpoint
from tests.expected_errors import raises

needs_spandrel = pytest.mark.skipif(
    importlib.util.find_spec("spandrel") is None, reason="spandrel is not installed; scripts/make_venv brings it"
)


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
    blend_weights = load_model(str(strong), None, blend=[Blend(weak, 0.25), Blend(strong, 0.25)]).module.state_dict()
    once = load_model(str(strong), None, blend=[Blend(weak, 0.25)]).module.state_dict()
    torch.testing.assert_close(blend_weights, once)


def test_another_network_cannot_be_blended(files: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.pth"
    torch.save(build_network("convnet-tiny", 3).state_dict(), other)
    shapes = [
        f"{tuple(build_network('convnet-tiny', s).get_parameter('last.weight').shape)} of float32" for s in (3, 2)
    ]
    with raises(WeightsError, found={"last.weight": shapes[0]}, wanted={"last.weight": shapes[1]}):
        load_model(str(files[0]), None, blend=[Blend(other, 0.5)])
    with raises(UsageError, found=1.2, wanted=(0, 1)):
        load_model(str(files[0]), None, blend=[Blend(files[1], 0.6), Blend(files[1], 0.6)])
    with raises(UsageError, found=[files[1]], wanted="a base checkpoint"):
        load_model("convnet-tiny", 2, random_weights=True, blend=[Blend(files[1], 0.5)])


def test_spelling() -> None:
    assert Blend.parse("a=b/c.pth=0.3") == Blend(Path("a=b/c.pth"), 0.3)
    for text in ("c.pth", "=0.3", "c.pth=much"):
        with raises(UsageError, found=text, wanted="FILE=SHARE"):
            Blend.parse(text)


@pytest.mark.parametrize("share", ["1.5", "-1", "nan", "inf"])
def test_a_share_out_of_range_is_named_as_such(share: str) -> None:
    with raises(UsageError, wanted=(0, 1)) as caught:
        Blend.parse(f"c.pth={share}")
    assert repr(caught.value.found) == repr(float(share))  # NaN is not equal to itself


@pytest.mark.parametrize("damage", ["int8", "nan", "infinite"])
@pytest.mark.parametrize("damaged", ["strong.pth", "weak.pth"])
def test_integers_and_nan_are_named_with_their_file(files: tuple[Path, Path], damage: str, damaged: str) -> None:
    path = files[0].with_name(damaged)
    content = torch.load(path)
    weight = content["params"]["module.last.bias"] if "params" in content else content["last.bias"]
    value = {"int8": weight.to(torch.int8), "nan": weight * math.nan, "infinite": weight + math.inf}[damage]
    state = content.get("params", content)
    state.update({key: value for key in state if key.endswith("last.bias")})
    torch.save(content, path)
    actual: object = (str(path), "last.bias")
    wanted: object = "finite values"
    if damage == "int8":  # the two files differ
        actual, wanted = ({"last.bias": f"(12,) of {'int8' if path == file else 'float32'}"} for file in files[::-1])
    with raises(WeightsError, found=actual, wanted=wanted) as caught:
        load_model(str(files[0]), None, blend=[Blend(files[1], 0.3)])
    assert str(path) in caught.value.problem


@pytest.mark.parametrize(
    ("licences", "stated"),
    [
        (("MIT", "CC-BY-4.0"), "MIT AND CC-BY-4.0"),
        (("MIT", "MIT"), "MIT"),
        (("MIT", ""), ""),
        (("", "MIT"), ""),
    ],
)
def test_a_blend_has_the_licences_of_all_its_files(tmp_path: Path, licences: tuple[str, str], stated: str) -> None:
    state = build_network("convnet-tiny", 2).state_dict()
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for path, licence in zip(paths, licences, strict=True):
        save_file(state, path, {"license": licence} if licence else None)
    assert load_model(str(paths[0]), None, blend=[Blend(paths[1], 0.5)]).card.licence == stated
    assert load_model(str(paths[0]), None).card.licence == licences[0]


def test_bundled_weights_that_were_blended_with_others_have_not_their_licence(tmp_path: Path) -> None:
    bundled = load_model("convnet-tiny", 2)
    path = tmp_path / "mine.pth"
    torch.save(bundled.module.state_dict(), path)
    blend = load_model("convnet-tiny", 2, blend=[Blend(path, 0.5)])
    assert bundled.card.licence and not blend.card.licence


def recognised(seed: int) -> dict[str, torch.Tensor]:
    """The weights of a small Compact."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"0.weight": (8, 3, 3, 3), "0.bias": (8,), "1.weight": (8,), "2.weight": (12, 8, 3, 3), "2.bias": (12,)}
    return {f"body.{key}": torch.rand(shape, generator=generator) for key, shape in shapes.items()}


@needs_spandrel
def test_networks_that_spandrel_recognises_are_blended(tmp_path: Path) -> None:
    paths = [tmp_path / "a.pth", tmp_path / "b.pth"]
    for seed, path in enumerate(paths):
        torch.save(recognised(seed), path)
    model = load_model(str(paths[0]), None, blend=[Blend(paths[1], 0.25)])
    assert model.state is not None
    for key, value in model.state.items():
        torch.testing.assert_close(value, 0.75 * recognised(0)[key] + 0.25 * recognised(1)[key])
    torch.save({**recognised(1), "body.0.bias": torch.full((8,), math.nan)}, paths[1])
    with raises(WeightsError, found=(str(paths[1]), "body.0.bias"), wanted="finite values"):
        load_model(str(paths[0]), None, blend=[Blend(paths[1], 0.25)])
