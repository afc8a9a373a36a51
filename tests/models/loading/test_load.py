"""Checkpoints of every wrapping load; what does not fit, or could run code, is refused in words."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sr_edge.errors import UsageError, WeightsError
from sr_edge.export.twins.registry import to_static
from sr_edge.models import build_network, bundled_weights, load_model, model_names
from sr_edge.models.checkpoints import SUFFIXES, WeightSet
from sr_edge.models.checkpoints.bounds import COPY_AGAIN, READABLE
from sr_edge.models.loading.load import innermost, reopen_model
from sr_edge.models.loading.weights import Differences
from sr_edge.models.registry import SCALES
from sr_edge.spec import Control
from tests.expected_errors import raises

needs_spandrel = pytest.mark.skipif(
    importlib.util.find_spec("spandrel") is None, reason="spandrel is not installed; scripts/make_venv brings it"
)

NAME, SCALE = "convnet-tiny", 3


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return build_network(NAME, SCALE).state_dict()


@pytest.mark.parametrize("wrapping", ["bare", "params", "params_ema", "state_dict", "module.", "nested"])
def test_wrappings_of_checkpoints(tmp_path: Path, state: dict[str, torch.Tensor], wrapping: str) -> None:
    prefixed = {f"module.{key}": value for key, value in state.items()}
    content = {
        "bare": state,
        "params": {"params": state},
        "params_ema": {"params": {}, "params_ema": state},
        "state_dict": {"epoch": 3, "state_dict": state},
        "module.": prefixed,
        "nested": {"model": {"state_dict": prefixed}},
    }[wrapping]
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    model = load_model(None, None, path)
    assert (model.card.name, model.card.scale) == (NAME, SCALE)
    assert all(torch.equal(model.module.state_dict()[key], value) for key, value in state.items())


def test_safetensors_in_half_precision_become_float32(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({key: value.half() for key, value in state.items()}, path)
    model = load_model(NAME, None, path)
    assert {parameter.dtype for parameter in model.module.parameters()} == {torch.float32}
    assert model.card.weights_source == path.name and len(model.card.weights_sha256) == 64


@pytest.mark.parametrize("name", ["taylor-swinir-tiny", "swinir-light", "convnet-light"])
def test_architecture_and_scale_are_detected(tmp_path: Path, name: str) -> None:
    path = tmp_path / "weights.pt"
    torch.save(build_network(name, 4).state_dict(), path)
    card = load_model(None, None, path).card
    assert (card.name, card.scale) == (name, 4)


def test_tables_that_public_swinir_checkpoints_carry_are_accepted(tmp_path: Path) -> None:
    state = build_network("swinir-light", 2).state_dict()
    state["layers.0.residual_group.blocks.1.attn_mask"] = torch.zeros(64, 64, 64)
    path = tmp_path / "public.pth"
    torch.save({"params": state}, path)
    assert load_model(None, None, path).card.name == "swinir-light"


def test_weights_of_another_model_are_named(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    with raises(UsageError, found=(NAME, SCALE), wanted=(NAME, 2)):
        load_model(NAME, 2, path)


def test_misfits_list_the_first_keys(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    state["first.weight"] = state["first.weight"][:5].clone()
    state["extra"] = state.pop("last.bias")
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    mismatched = "first.weight (5, 3, 3, 3) instead of (32, 3, 3, 3)"
    with raises(WeightsError, found=Differences(["last.bias"], ["extra"], [mismatched])) as caught:
        load_model(NAME, SCALE, path)
    assert all(part in caught.value.problem for part in ("last.bias", "extra", mismatched))


def test_unknown_weights_name_the_nearest_network(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(3)}, path)
    with raises(WeightsError, found=["the top level"], wanted=None) as caught:
        load_model(None, None, path)
    assert "--arch" in (caught.value.remedy or "")


class Malicious:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.witness),)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_pickled_code_never_runs(tmp_path: Path, writer: str) -> None:
    witness, path = tmp_path / "witness", tmp_path / "weights.pth"
    if writer == "torch":
        torch.save({"state_dict": Malicious(witness)}, path)
    else:
        path.write_bytes(pickle.dumps(Malicious(witness)))
    with raises(WeightsError, found=f"{os.mkdir.__module__}.mkdir", wanted="tensors and plain values"):
        load_model(NAME, SCALE, path)
    assert not witness.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights", None])
def test_damaged_files_get_one_clear_line(
    tmp_path: Path, state: dict[str, torch.Tensor], suffix: str, content: bytes | None
) -> None:
    path = tmp_path / f"weights{suffix}"
    if content is None:
        whole = tmp_path / "whole"
        save_file(state, whole) if suffix == ".safetensors" else torch.save(state, whole)
        content = whole.read_bytes()[:-2000]
    path.write_bytes(content)
    with raises(WeightsError, wanted=READABLE, remedy=COPY_AGAIN):
        load_model(NAME, SCALE, path)


def test_nan_weights_are_refused(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    state["last.bias"] = torch.full_like(state["last.bias"], float("nan"))
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    with raises(WeightsError, found=(str(path), "last.bias"), wanted="finite values"):
        load_model(NAME, SCALE, path)


def test_random_weights_are_seeded_and_marked() -> None:
    first, second = (load_model("convnet-tiny", 2, random_weights=True) for _ in range(2))
    assert first.card.random_weights
    assert all(map(torch.equal, first.module.parameters(), second.module.parameters()))


def test_a_name_without_bundled_weights_says_what_to_do() -> None:
    name, scale = next((n, s) for n in model_names() for s in SCALES if bundled_weights(n, s) is None)
    with raises(UsageError, found=f"{name} x{scale}") as caught:
        load_model(name, scale)
    assert "--random-weights" in (caught.value.remedy or "")


def test_missing_file() -> None:
    with raises(WeightsError, found=Path("nowhere.pth"), wanted=SUFFIXES):
        load_model(NAME, SCALE, Path("nowhere.pth"))


def factory_255() -> nn.Module:
    """A foreign network that works in 0 … 255: it doubles every pixel and adds 51 (a fifth of white)."""

    class Doubler(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.interpolate(x, scale_factor=2.0) + 51

    return Doubler()


def test_a_foreign_network_with_its_own_range() -> None:
    model = load_model(None, 2, random_weights=True, arch=f"{__name__}:factory_255", input_range=255)
    out = model.module(torch.full((1, 3, 4, 4), 0.25))
    torch.testing.assert_close(out, torch.full((1, 3, 8, 8), 0.45))
    with raises(UsageError, found=3, wanted=2):
        load_model(None, 3, random_weights=True, arch=f"{__name__}:factory_255", input_range=255)


@pytest.mark.parametrize(
    ("arch", "cause"),
    [
        ("nocolon", type(None)),
        ("no.such.module:factory", ModuleNotFoundError),
        (f"{__name__}:absent", AttributeError),
        (f"{__name__}:NAME", TypeError),
    ],
)
def test_factories_that_cannot_be_called(arch: str, cause: type) -> None:
    with raises(UsageError, found=arch) as caught:
        load_model(None, 2, random_weights=True, arch=arch)
    assert type(caught.value.__cause__) is cause


def factory_that_fails() -> nn.Module:
    raise ValueError("its table is absent")


def factory_of_lists() -> nn.Module:
    class Lister(nn.Module):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [x]

    return Lister()


def test_a_factory_that_fails_is_quoted() -> None:
    arch = f"{__name__}:factory_that_fails"
    with raises(UsageError, found=arch) as caught:
        load_model(None, 2, random_weights=True, arch=arch)
    assert "ValueError: its table is absent" in caught.value.problem


def test_a_factory_in_a_file_that_cannot_be_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_written.py").write_text("def network(")
    monkeypatch.chdir(tmp_path)
    with raises(UsageError, found="half_written:network") as caught:
        load_model(None, 2, random_weights=True, arch="half_written:network")
    assert isinstance(caught.value.__cause__, SyntaxError)


def test_a_foreign_network_must_return_one_picture() -> None:
    with raises(UsageError, found="list", wanted="torch.Tensor"):
        load_model(None, 2, random_weights=True, arch=f"{__name__}:factory_of_lists")


def test_a_factory_may_fill_its_network_itself() -> None:
    card = load_model(None, 2, arch=f"{__name__}:factory_255", input_range=255).card
    assert not card.random_weights
    assert card.weights_source == f"{__name__}:factory_255"


def test_weights_that_fit_nothing_show_the_keys_that_differ_from_the_nearest(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    state["extra"] = state.pop("last.bias")
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    with raises(WeightsError, found=Differences(["last.bias"], ["extra"], []), wanted="convnet-tiny x3"):
        load_model(None, None, path)


def compact(layers: int = 2) -> dict[str, torch.Tensor]:
    """The weights of a small network of spandrel's family Compact."""
    shapes = {"0.weight": (8, 3, 3, 3), "0.bias": (8,), "1.weight": (8,)}
    for index in range(2, 2 + 2 * layers, 2):
        shapes.update({f"{index}.weight": (8, 8, 3, 3), f"{index}.bias": (8,), f"{index + 1}.weight": (8,)})
    shapes.update({f"{2 + 2 * layers}.weight": (12, 8, 3, 3), f"{2 + 2 * layers}.bias": (12,)})
    return {f"body.{key}": torch.full(shape, 0.1) for key, shape in shapes.items()}


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "a.b.c."])
def test_the_family_that_comes_nearest_is_named_behind_any_prefix(tmp_path: Path, prefix: str) -> None:
    damaged = compact()
    del damaged["body.2.weight"]
    path = tmp_path / "weights.pth"
    torch.save({prefix + key: value for key, value in damaged.items()}, path)
    with raises(WeightsError, wanted="Compact (SRVGGNetCompact)") as caught:
        load_model(None, None, path)
    assert isinstance(caught.value.found, Differences) and "body.2.weight" in caught.value.found.missing


@needs_spandrel
def test_each_weight_of_a_file_is_read_once_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.pth"
    read: list[tuple[str, ...]] = []
    load = WeightSet.load

    def counted(self: WeightSet, keys: Any) -> dict[str, torch.Tensor]:
        read.append(tuple(keys))
        return load(self, keys)

    monkeypatch.setattr(WeightSet, "load", counted)
    torch.save({"stranger": {"a.weight": torch.zeros(3)}, "params": compact()}, path)
    load_model(None, None, path)
    assert read == [tuple(compact())]
    read.clear()
    damaged = {f"module.{key}": value for key, value in compact().items() if key != "body.2.weight"}
    torch.save({"stranger": {"a.weight": torch.zeros(3)}, "params": damaged}, path)
    with raises(WeightsError, wanted="Compact (SRVGGNetCompact)"):
        load_model(None, None, path)
    assert read == [tuple(damaged)]


def test_a_network_that_was_deployed_with_other_controls_is_not_reopened(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    model = load_model(NAME, SCALE, random_weights=True)
    save_file(model.module.state_dict(), path)
    assert reopen_model(NAME, model.card, path).card.controls == ()
    control = Control("strength", 0.5, 0, 1)
    for card, wanted in (
        (dataclasses.replace(model.card, controls=(control,)), str(control)),
        (dataclasses.replace(model.card, baked={"strength": 0.5}), "strength"),
    ):
        with raises(UsageError, found=[], wanted=[wanted]):
            reopen_model(NAME, card, path)


class Locked(nn.Module):
    """Keeps what `copy.deepcopy` refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3, padding=1)
        self.lock = threading.Lock()
        self.numbers = (number for number in range(3))
        self.file = Path(__file__).open("rb")  # noqa: SIM115  # it stays open, as such networks keep it

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.lock:
            return nn.functional.pixel_shuffle(self.conv(x), 2)


@pytest.mark.parametrize("input_range", [1.0, 255.0])
def test_a_network_that_cannot_be_copied_is_deployed_as_it_is(input_range: float) -> None:
    model = load_model(None, None, arch=f"{__name__}:Locked", input_range=input_range)
    picture = torch.rand(1, 3, 24, 32)
    wanted = model.module(picture)
    assert torch.equal(to_static(model.module, 24, 32)(picture), wanted)
    kept = innermost(model.module)
    assert isinstance(kept, Locked)
    kept.file.close()


@needs_spandrel
def test_a_recognised_network_whose_scale_is_another_is_not_blamed_on_an_option(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(compact(), path)
    with raises(UsageError, found=3, wanted=2):
        load_model(None, 3, path)


def test_integer_weights_are_refused(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "weights.pth"
    torch.save({key: (100 * value).to(torch.int8) for key, value in state.items()}, path)
    with raises(WeightsError, found=(str(path), next(iter(state))), wanted="floating-point values"):
        load_model(NAME, SCALE, path)


def test_a_file_that_is_no_checkpoint_says_so(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"hello\n")
    with raises(WeightsError, found=path, wanted=READABLE, remedy=COPY_AGAIN):
        load_model(NAME, SCALE, path)
