"""RealNet: published sizes, and what alpha and beta do at run time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sr_edge.models import build_network, load_model
from sr_edge.models.architectures.realnet import REALNET_SIZES, RealNet
from sr_edge.models.layers.lstea import LargeScale
from sr_edge.models.macs import count_macs
from sr_edge.models.registry import count_parameters

CEILINGS = {"light": 1_000_000, "tiny": 200_000}


@pytest.mark.parametrize(
    ("large_scale", "mega_parameters", "giga_macs", "within"),
    [
        (LargeScale.NONE, 4.0, 17, (0.05, 0.02)),
        (LargeScale.STEA, 5.8, 25, (0.05, 0.14)),
        (LargeScale.STEA_MLFR, 11.5, 47, (0.05, 0.05)),
    ],
)
def test_rows_of_table_viii(
    large_scale: LargeScale, mega_parameters: float, giga_macs: float, within: tuple[float, float]
) -> None:
    with torch.device("meta"):
        network = RealNet(replace(REALNET_SIZES["m"], scale=4, large_scale=large_scale))
    assert count_parameters(network) / 1e6 == pytest.approx(mega_parameters, rel=within[0])
    assert count_macs(network, 64, 64) / 1e9 == pytest.approx(giga_macs, rel=within[1])


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_sizes_for_devices(scale: int) -> None:
    with torch.device("meta"):
        for size, ceiling in CEILINGS.items():
            assert count_parameters(build_network(f"realnet-{size}", scale)) <= ceiling


@pytest.fixture(scope="module")
def network() -> RealNet:
    torch.manual_seed(0)
    return RealNet(REALNET_SIZES["tiny"].at_scale(2)).eval()


def test_controls_are_one_by_default(network: RealNet) -> None:
    x = torch.rand(1, 3, 9, 11)
    with torch.inference_mode():
        assert torch.equal(network(x), network(x, torch.ones(1), torch.ones(1)))
    card = load_model("realnet-tiny", 2, random_weights=True).card
    assert [(c.name, c.default, c.minimum, c.maximum) for c in card.controls] == [
        ("alpha", 1.0, 0.0, 2.0),
        ("beta", 1.0, 0.0, 2.0),
    ]


def test_each_control_scales_its_own_branch(network: RealNet) -> None:
    """With alpha at zero nothing of the denoising branch reaches the picture, nor of the other with beta at zero."""
    x = torch.rand(1, 3, 9, 11)
    zero, one = torch.zeros(1), torch.ones(1)

    def sees(branch: torch.nn.Module, alpha: torch.Tensor, beta: torch.Tensor) -> bool:
        hook = branch.register_forward_hook(lambda module, arguments, output: output + 1)
        try:
            with torch.inference_mode():
                changed = network(x, alpha, beta)
        finally:
            hook.remove()
        with torch.inference_mode():
            return not torch.equal(changed, network(x, alpha, beta))

    assert not sees(network.shallow_denoise, zero, one) and sees(network.shallow_deblur, zero, one)
    assert not sees(network.shallow_deblur, one, zero) and sees(network.shallow_denoise, one, zero)
    assert sees(network.shallow_denoise, one, one) and sees(network.shallow_deblur, one, one)


def test_both_at_zero_leave_bicubic_and_what_no_branch_decides(network: RealNet) -> None:
    zero = torch.zeros(1)
    first, second = torch.rand(2, 1, 3, 9, 11)
    with torch.inference_mode():
        details = [network(x, zero, zero) - network.bicubic(x) for x in (first, second)]
    torch.testing.assert_close(*details, rtol=0, atol=1e-6)
