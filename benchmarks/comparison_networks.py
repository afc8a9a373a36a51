"""The networks of `paper_comparisons.py`: what a paper proposes and what it is compared with, at a size of ours.

Everything but the part under comparison is the same, and where it can be begins with the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sr_edge.models.architectures.lcoan import (
    GROUP_SCALE,
    LCOAN_SIZES,
    LCoAN,
    LCoANConfig,
    ResidualGroup,
    initialize_lcoan,
)
from sr_edge.models.architectures.swinir import SwinIR
from sr_edge.models.architectures.taylor_swinir import TAYLOR_SWINIR_SIZES, TaylorSwinIR
from sr_edge.models.architectures.ups import UPS, UPS_SIZES, Sharing
from sr_edge.models.layers.lsp import SparsePattern
from sr_edge.models.layers.lstea import LSTEA, LargeScale
from sr_edge.models.layers.mlfr import MLFR
from sr_edge.models.layers.stea import STEA, NonLocalAttention
from sr_edge.models.layers.swin import initialize_swin
from sr_edge.models.layers.upsampling import BicubicUpsampler, Reconstruction

SCALE = 2
TRUNK_FEATURES, TRUNK_BLOCKS = 32, 3
QUERIES_AT_ONCE = 256
SOFTMAX_WINDOW = 8


class Trunk(nn.Module):
    """LSTEA blocks at full resolution beside bicubic enlargement: LabNet without its U-Net.

    Args:
        branch: makes the large-scale branch of a block of so many channels.
    """

    def __init__(self, branch: Callable[[int], nn.Sequential]) -> None:
        super().__init__()
        self.scale = SCALE
        self.shallow = nn.Conv2d(3, TRUNK_FEATURES, 3, padding=1)
        self.blocks = nn.Sequential(*(LSTEA(TRUNK_FEATURES, LargeScale.NONE) for _ in range(TRUNK_BLOCKS)))
        self.reconstruct = Reconstruction(TRUNK_FEATURES, TRUNK_FEATURES, SCALE)
        self.bicubic = BicubicUpsampler(SCALE)
        nn.init.zeros_(self.reconstruct.last.weight)
        assert self.reconstruct.last.bias is not None
        nn.init.zeros_(self.reconstruct.last.bias)
        for block in self.blocks:  # last, so that the seed gives all variants the same weights elsewhere
            block.large_scale = branch(TRUNK_FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        features = self.shallow(x)
        return self.reconstruct(features + self.blocks(features)) + self.bicubic(x)


class QueriesInParts(NonLocalAttention):
    """The same function with some queries at a time, since N² weights of a whole picture fit into no memory."""

    def forward(self, x: Tensor) -> Tensor:
        queries, keys, values = (conv(x).flatten(2) for conv in (self.query, self.key, self.value))
        parts = [
            values @ torch.softmax(part.transpose(1, 2) @ keys, dim=-1).transpose(1, 2)
            for part in queries.split(QUERIES_AT_ONCE, dim=2)
        ]
        return x + self.output(torch.cat(parts, dim=2).reshape(x.shape))


class NonLocalGroup(ResidualGroup):
    """LCoAN's group with attention of every pixel to every other in place of LCoA; it needs no pattern."""

    def __init__(self, config: LCoANConfig) -> None:
        super().__init__(config)
        self.attention = nn.Sequential(QueriesInParts(config.features))

    def forward(  # type: ignore[override]  # the next group needs no pattern either
        self, x: Tensor, pattern: SparsePattern | None
    ) -> tuple[Tensor, SparsePattern | None]:
        return x + GROUP_SCALE * self.m_conv(self.attention(self.local_body(x))), pattern


def _trunk(stea_order: int = 0, with_mlfr: bool = False) -> Trunk:
    def branch(channels: int) -> nn.Sequential:
        parts: list[nn.Module] = [STEA(channels, stea_order)] if stea_order else []
        return nn.Sequential(*parts, *([MLFR(channels)] if with_mlfr else []))

    return Trunk(branch)


def _non_local() -> nn.Module:
    network = LCoAN(LCOAN_SIZES["tiny"])
    network.body = nn.ModuleList(NonLocalGroup(network.config) for _ in range(network.config.groups))
    return _initialized(network, initialize_lcoan)


def _initialized(network: nn.Module, initialize: Callable[[nn.Module], None]) -> nn.Module:
    initialize(network)
    return network


VARIANTS: Mapping[str, Callable[[], nn.Module]] = {
    "STEA, order 2": lambda: _trunk(2),
    "STEA, order 1": lambda: _trunk(1),
    "STEA, order 3": lambda: _trunk(3),
    "STEA and MLFR": lambda: _trunk(2, with_mlfr=True),
    "MLFR": lambda: _trunk(with_mlfr=True),
    "neither": lambda: _trunk(),
    "LCoA": lambda: _initialized(LCoAN(LCOAN_SIZES["tiny"]), initialize_lcoan),
    "non-local": _non_local,
    "one projection": lambda: _initialized(UPS(UPS_SIZES["tiny"]), initialize_swin),
    "a projection a layer": lambda: _initialized(
        UPS(replace(UPS_SIZES["tiny"], sharing=Sharing.PER_LAYER)), initialize_swin
    ),
    "TaylorShift 48x48": lambda: _initialized(TaylorSwinIR(TAYLOR_SWINIR_SIZES["tiny"]), initialize_swin),
    "softmax 8x8": lambda: _initialized(
        SwinIR(replace(TAYLOR_SWINIR_SIZES["tiny"], window=SOFTMAX_WINDOW)), initialize_swin
    ),
}


@dataclass(frozen=True)
class Comparison:
    """Variants of one network, what the paper proposes first, and what the paper finds."""

    title: str
    network: str
    variants: tuple[str, ...]
    paper: str
    patch_px: int = 32


COMPARISONS = (
    Comparison(
        "STEA by its order",
        "three LSTEA blocks of 32 channels without MLFR",
        ("STEA, order 2", "STEA, order 1", "STEA, order 3"),
        "blind x4, LabNet: order 2 above order 1 on all sets (Urban100 by 0.11 dB), order 3 not clearly above order 2",
    ),
    Comparison(
        "STEA and MLFR",
        "three LSTEA blocks of 32 channels",
        ("STEA and MLFR", "STEA, order 2", "MLFR", "neither"),
        "blind x4, LabNet, Set5 and Set14: both 32.27 and 28.70 dB, STEA 32.07 and 28.51, MLFR 32.10 and 28.58",
    ),
    Comparison(
        "LCoA against plain non-local attention",
        "lcoan-tiny",
        ("LCoA", "non-local"),
        "Set14 x2, ten groups of 128 features: LCoA 33.64 dB, plain 33.55, no attention 33.52",
    ),
    Comparison(
        "UPS against unshared projections",
        "ups-tiny",
        ("one projection", "a projection a layer"),
        "better than SwinIR-light, whose layers project on their own; the text at hand prints nothing on sharing alone",
    ),
    Comparison(
        "TaylorShift in large windows against softmax in small ones",
        "taylor-swinir-tiny",
        ("TaylorShift 48x48", "softmax 8x8"),
        "SwinIR's size: 0.02 to 0.31 dB above SwinIR",
        patch_px=48,
    ),
)

PAIR = Comparison(
    "TaylorSwinIR against SwinIR, both light",
    "as bundled, after a first training of each: zoo.md",
    ("taylor-swinir-light", "swinir-light"),
    "SwinIR's size: 0.02 to 0.31 dB above SwinIR",
    patch_px=48,
)
"""Two bundled networks, of which each has one training."""


def build_variant(name: str, seed: int) -> nn.Module:
    """An untrained network, which begins as a plain enlarger; the seed decides its weights."""
    torch.manual_seed(seed)
    return VARIANTS[name]()


def patches_px() -> Iterator[tuple[str, int]]:
    """Every variant once, with the patch that it learns from."""
    yield from {name: each.patch_px for each in COMPARISONS for name in each.variants}.items()
