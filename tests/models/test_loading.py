"""Checkpoints of every wrapping load; what does not fit, or could run code, is refused in words."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sr_edge.errors import UsageError, WeightsError
from sr_edge.models import build_network, bundled_weights, load_model, model_names
from sr_edge.models.registry import SCALES

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
    with pytest.raises(UsageError, match=r"convnet-tiny x3, not of convnet-tiny x2"):
        load_model(NAME, 2, path)


def test_misfits_list_the_first_keys(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    state["first.weight"] = state["first.weight"][:5].clone()
    state["extra"] = state.pop("last.bias")
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    with pytest.raises(WeightsError) as caught:
        load_model(NAME, SCALE, path)
    for part in ("1 missing: last.bias", "1 unexpected: extra", "first.weight (5, 3, 3, 3) instead of (32, 3, 3, 3)"):
        assert part in str(caught.value)


def test_unknown_weights_name_the_nearest_network(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(3)}, path)
    with pytest.raises(WeightsError, match="--arch"):
        load_model(None, None, path)


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
    with pytest.raises(WeightsError, match="refused"):
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
    with pytest.raises(WeightsError) as caught:
        load_model(NAME, SCALE, path)
    assert "\n" not in str(caught.value)


def test_nan_weights_are_refused(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    state["last.bias"] = torch.full_like(state["last.bias"], float("nan"))
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    with pytest.raises(WeightsError, match=r"last\.bias"):
        load_model(NAME, SCALE, path)


def test_random_weights_are_seeded_and_marked() -> None:
    first, second = (load_model("convnet-tiny", 2, random_weights=True) for _ in range(2))
    assert first.card.random_weights
    assert all(map(torch.equal, first.module.parameters(), second.module.parameters()))


def test_a_name_without_bundled_weights_says_what_to_do() -> None:
    name, scale = next((n, s) for n in model_names() for s in SCALES if bundled_weights(n, s) is None)
    with pytest.raises(UsageError, match=f"no weights of {name} x{scale} .*--random-weights"):
        load_model(name, scale)


def test_missing_file() -> None:
    with pytest.raises(WeightsError, match=r"nowhere\.pth"):
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
    with pytest.raises(UsageError, match="check --scale 3"):
        load_model(None, 3, random_weights=True, arch=f"{__name__}:factory_255", input_range=255)


@pytest.mark.parametrize("arch", ["nocolon", "no.such.module:factory", f"{__name__}:absent", f"{__name__}:NAME"])
def test_factories_that_cannot_be_called(arch: str) -> None:
    with pytest.raises(UsageError):
        load_model(None, 2, random_weights=True, arch=arch)


def factory_that_fails() -> nn.Module:
    raise ValueError("its table is absent")


def factory_of_lists() -> nn.Module:
    class Lister(nn.Module):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [x]

    return Lister()


def test_a_factory_that_fails_is_quoted() -> None:
    with pytest.raises(UsageError, match=r"factory_that_fails: ValueError: its table is absent"):
        load_model(None, 2, random_weights=True, arch=f"{__name__}:factory_that_fails")


def test_a_factory_in_a_file_that_cannot_be_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_written.py").write_text("def network(")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"half_written:network: SyntaxError"):
        load_model(None, 2, random_weights=True, arch="half_written:network")


def test_a_foreign_network_must_return_one_picture() -> None:
    with pytest.raises(UsageError, match="gave a list; it must return one tensor"):
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
    with pytest.raises(WeightsError, match=r"nearest is convnet-tiny x3; 1 missing: last\.bias; 1 unexpected: extra"):
        load_model(None, None, path)


def test_integer_weights_are_refused(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "weights.pth"
    torch.save({key: (100 * value).to(torch.int8) for key, value in state.items()}, path)
    with pytest.raises(WeightsError, match=r"int8 in first\..*; take the float checkpoint"):
        load_model(NAME, SCALE, path)


def test_a_file_that_is_no_checkpoint_says_so(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"hello\n")
    with pytest.raises(WeightsError, match=r"no readable checkpoint.*copy it again"):
        load_model(NAME, SCALE, path)
