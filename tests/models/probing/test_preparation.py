"""Networks that other tools trip over are made plain: half precision, tensors with a graph behind them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_edge.models import load_model
from sr_edge.models.probing import prepare_network
from sr_edge.spec import TileSpec


class Keeper(nn.Module):
    """Keeps what it computed when it was made and when it ran: `copy.deepcopy` refuses such tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3, padding=1)
        self.gain = nn.Parameter(torch.ones(1)) * 2
        self.tables = [self.gain, {"half": torch.ones(3).half()}, "name"]
        self.derived: Tensor
        self.register_buffer("derived", self.conv.weight.sum((1, 2, 3)))
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.conv(x) * self.gain + self.derived[:, None, None]
        return functional.pixel_shuffle(self.last, 2)


def keeper() -> nn.Module:
    return Keeper()


def in_half() -> nn.Module:
    return Keeper().half()


def in_bfloat16() -> nn.Module:
    return Keeper().bfloat16()


def in_double() -> nn.Module:
    return Keeper().double()


def test_tensors_with_a_graph_behind_them() -> None:
    with pytest.raises(RuntimeError):
        copy.deepcopy(Keeper())
    model = load_model(None, None, arch=f"{__name__}:keeper", tile=TileSpec(8, 12))
    picture = torch.rand(1, 3, 8, 12)
    assert torch.equal(copy.deepcopy(model.module)(picture), model.module(picture))
    assert not any(parameter.requires_grad for parameter in model.module.parameters())


@pytest.mark.parametrize(
    ("factory", "dtype"), [("in_half", "float16"), ("in_bfloat16", "bfloat16"), ("in_double", "float64")]
)
def test_other_precisions_become_float32_and_it_is_said(factory: str, dtype: str) -> None:
    model = load_model(None, None, arch=f"{__name__}:{factory}", tile=TileSpec(8, 12))
    assert {tensor.dtype for tensor in model.module.state_dict().values()} == {torch.float32}
    assert [dtype in remark for remark in model.remarks] == [True]


def test_half_tensors_in_plain_attributes_become_float32() -> None:
    network, _ = prepare_network(Keeper())
    assert isinstance(network, Keeper)
    assert network.tables[1]["half"].dtype is torch.float32  # type: ignore[index]
    assert network.tables[2] == "name"


def test_what_was_plain_is_the_same_object() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sizes = [1, 2]
            self.table = torch.ones(3)

    network = Plain()
    sizes, table = network.sizes, network.table
    prepare_network(network)
    assert network.sizes is sizes
    assert network.table is table
