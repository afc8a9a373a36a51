"""The layouts in which weights are shared: which set is taken, under which keys, and what is said of the rest."""

from __future__ import annotations

import argparse
import collections
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from sr_edge.errors import WeightsError
from sr_edge.models import build_network, load_model
from sr_edge.models.checkpoints import read_checkpoint
from sr_edge.models.checkpoints.layouts import key_mappings
from tests.expected_errors import raises

NAME, SCALE = "convnet-tiny", 2

StateDict = dict[str, torch.Tensor]


@pytest.fixture
def state() -> StateDict:
    torch.manual_seed(1)
    return build_network(NAME, SCALE).state_dict()


def shifted(state: StateDict, by: float) -> StateDict:
    return {key: value + by for key, value in state.items()}


def under(prefix: str, state: StateDict) -> StateDict:
    return {prefix + key: value for key, value in state.items()}


class Hyper:
    """A class of a training script, which is not importable where the checkpoint is used."""

    def __init__(self) -> None:
        self.width = 64


LAYOUTS: dict[str, Callable[[StateDict], Any]] = {
    "params_ema": lambda s: {"params": shifted(s, 1), "params_ema": s},
    "ema": lambda s: {"model": shifted(s, 1), "ema": s},
    "ema of a module": lambda s: {"model": shifted(s, 1), "ema": {"module": s, "updates": 3}},
    "model_ema": lambda s: {"state_dict": shifted(s, 1), "model_ema": under("module.", s)},
    "generator_ema": lambda s: {
        "generator": shifted(s, 1),
        "generator_ema": s,
        "discriminator": {"a.b": torch.ones(3)},
    },
    "net_g_ema": lambda s: {"net_g": shifted(s, 1), "net_g_ema": s},
    "compiled and parallel": lambda s: {"state_dict": under("_orig_mod.module.", s)},
    "netG": lambda s: under("netG.", s),
    "any prefix": lambda s: under("whatever.it.is.called.", s),
    "Lightning": lambda s: {
        "state_dict": {**under("model.", s), **under("loss.vgg.", {"features.0.weight": torch.ones(4, 3, 3, 3)})},
        "hyper_parameters": argparse.Namespace(hyper=Hyper(), path=Path("data")),
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(3)}}}],
        "callbacks": {"Checkpoint": {"best": torch.tensor(1.0)}},
    },
    "Lightning with a discriminator": lambda s: {
        "state_dict": {**under("net_g.", s), **under("net_d.", {"conv.weight": torch.ones(1, 3, 3, 3)})}
    },
    "averaged copy beside it": lambda s: {**under("model.", shifted(s, 1)), **under("ema_model.", s)},
    "counters": lambda s: {
        **s,
        "total_ops": torch.zeros(1),
        "first.total_params": torch.zeros(1),
        "step_counter": torch.zeros(1),
        "loss.weight": torch.ones(2),
    },
    "averaged by torch": lambda s: AveragedModel(_filled(s)).state_dict(),
    "in a list": lambda s: [{"epoch": 3}, s],
    "as numbers behind": lambda s: collections.OrderedDict(epoch=3, weights=collections.OrderedDict(s)),
}


def _filled(state: StateDict) -> nn.Module:
    network = build_network(NAME, SCALE)
    network.load_state_dict(state)
    return network


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_weights_are_found(tmp_path: Path, state: StateDict, layout: str, legacy: bool) -> None:
    path = tmp_path / "weights.ckpt"
    torch.save(LAYOUTS[layout](state), path, _use_new_zipfile_serialization=not legacy)
    model = load_model(str(path), None)
    assert (model.architecture, model.card.scale) == (NAME, SCALE)
    assert all(torch.equal(model.module.state_dict()[key], value) for key, value in state.items())


def test_what_was_taken_and_what_was_left_is_said(tmp_path: Path, state: StateDict) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"params": state, "params_ema": {**under("module.", state), "module.total_ops": torch.zeros(1)}}, path)
    model = load_model(str(path), None)
    _, remark = model.remarks
    for part in ("params_ema", "'module.'", "module.total_ops", "also contains params"):
        assert part in remark
    assert model.card.weights_source == "weights.pth, params_ema"
    torch.save(state, path)
    (recognised,) = load_model(str(path), None).remarks
    assert model.card.name in recognised


def test_an_averaged_set_that_does_not_fit_gives_way(tmp_path: Path, state: StateDict) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"ema": {"first.weight": state["first.weight"]}, "params": state}, path)
    assert load_model(str(path), None).card.weights_source == "weights.pth, params"


def test_part_of_a_network_is_never_taken_for_a_network(tmp_path: Path, state: StateDict) -> None:
    """What stands beside it may change every picture."""
    path = tmp_path / "weights.pth"
    torch.save({**under("model.", state), "colour.weight": torch.ones(3, 3, 1, 1)}, path)
    with raises(WeightsError, found=["the top level"], wanted=None):
        load_model(str(path), None)
    torch.save({**under("model.", state), **under("net.", {"weight": torch.ones(3)})}, path)
    with raises(WeightsError, found=["the top level"], wanted=None):
        load_model(str(path), None)


def test_the_sets_of_a_file_that_fits_nothing_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"net": {"a.weight": torch.zeros(10)}, "ema": {"a.weight": torch.zeros(10)}}, path)
    with raises(WeightsError, found=["ema", "net"], wanted=None):
        load_model(str(path), None)


def test_keys_are_read_as_they_are_first() -> None:
    first, *others = key_mappings(["model.a.weight", "model.a.bias", "model.total_ops"])
    assert (first.prefix, first.left_out, list(first.keys)) == ("", (), list(first.keys.values()))
    assert {way.prefix for way in others} == {"", "model.", "model.a."}


def test_objects_that_refer_to_each_other_in_a_circle(tmp_path: Path, state: StateDict) -> None:
    content: dict[str, Any] = {"state_dict": state}
    content["model"] = content
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    assert [actual.name for actual in read_checkpoint(path).sets] == ["state_dict"]
