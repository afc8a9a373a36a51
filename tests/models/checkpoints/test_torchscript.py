"""TorchScript programs come in as networks; those that touch files do not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sr_edge.errors import UsageError, WeightsError
from sr_edge.export.export import export_onnx
from sr_edge.models import load_model
from sr_edge.models.checkpoints import Blend, read_checkpoint
from sr_edge.models.checkpoints.bounds import READABLE
from sr_edge.models.loading.load import innermost
from sr_edge.models.probing import UnsupportedTile
from sr_edge.spec import TileSpec
from tests.expected_errors import raises

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
TILE = TileSpec(12, 16)


class Doubler(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] > 4:
            x = x * 1.0
        return nn.functional.pixel_shuffle(self.conv(x), 2)


class Writer(Doubler):
    def forward(self, x: Tensor) -> Tensor:
        torch.save(x, "written")
        return nn.functional.pixel_shuffle(self.conv(x), 2)


class Diffusion(Doubler):
    def forward(self, x: Tensor, timestep: Tensor) -> Tensor:  # type: ignore[override]
        return nn.functional.pixel_shuffle(self.conv(x), 2) + timestep


class Picky(Doubler):
    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[2] % 8 == 0, "height must be a multiple of 8"
        return nn.functional.pixel_shuffle(self.conv(x), 2)


def saved(network: nn.Module, folder: Path) -> Path:
    path = folder / "program.pt"
    torch.jit.save(torch.jit.script(network), str(path))
    return path


@pytest.mark.parametrize("how", ["scripted", "traced", "half"])
def test_a_program_is_a_network(tmp_path: Path, how: str) -> None:
    torch.manual_seed(0)
    network = Doubler().eval()
    picture = torch.rand(1, 3, 12, 16)
    path = tmp_path / "program.pt"
    if how == "traced":
        torch.jit.save(torch.jit.trace(network, picture), str(path))  # type: ignore[no-untyped-call]
    else:
        saved(copy.deepcopy(network).half() if how == "half" else network, tmp_path)
    model = load_model(str(path), None, tile=TILE)
    assert (model.card.name, model.card.scale, model.architecture) == ("program", 2, "")
    assert model.card.parameters == sum(p.numel() for p in network.parameters())
    again = copy.deepcopy(model.module)
    torch.testing.assert_close(again(picture), network(picture).detach(), atol=2e-3, rtol=0)
    assert any("TorchScript" in remark for remark in model.remarks)


def test_its_weights_fill_a_network_of_the_users_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Doubler()
    model = load_model(None, None, saved(network, tmp_path), arch=f"{__name__}:Doubler", tile=TILE)
    assert torch.equal(innermost(model.module).state_dict()["conv.bias"], network.state_dict()["conv.bias"])


def test_a_program_that_touches_files_is_refused(tmp_path: Path) -> None:
    with raises(WeightsError, found="save"):
        read_checkpoint(saved(Writer(), tmp_path))


def test_a_program_that_takes_a_timestep(tmp_path: Path) -> None:
    with raises(UsageError, found=["timestep"], wanted=[]):
        load_model(str(saved(Diffusion(), tmp_path)), None, tile=TILE)


def test_a_program_that_takes_other_tiles(tmp_path: Path) -> None:
    with raises(UnsupportedTile, found=TILE) as caught:
        load_model(str(saved(Picky(), tmp_path)), None, tile=TILE)
    assert caught.value.multiple_px == 8


def test_a_program_has_no_name_and_is_not_blended(tmp_path: Path) -> None:
    path = saved(Doubler(), tmp_path)
    with raises(UsageError, found="convnet-tiny"):
        load_model("convnet-tiny", 2, path)
    with raises(UsageError, found=[path]):
        load_model(str(path), None, blend=[Blend(path, 0.5)])


def test_a_program_that_was_cut_short(tmp_path: Path) -> None:
    path = saved(Doubler(), tmp_path)
    path.write_bytes(path.read_bytes()[:-400])
    with raises(WeightsError, found=path, wanted=READABLE):
        read_checkpoint(path)


def traced(network: nn.Module) -> Any:
    return torch.jit.trace(network, torch.rand(1, 3, 12, 16))  # type: ignore[no-untyped-call]


def scripted(network: nn.Module) -> Any:
    return torch.jit.script(network)


@pytest.mark.parametrize("make", [traced, scripted])
def test_a_program_is_exported_and_compared(make: Callable[[nn.Module], Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.jit.save(make(Doubler().eval()), tmp_path / "net.pt")
    report = export_onnx(load_model(str(tmp_path / "net.pt"), None, tile=TILE), TILE, tmp_path / "net.onnx")
    assert report.parity.passed
    assert report.metadata.card.scale == 2
