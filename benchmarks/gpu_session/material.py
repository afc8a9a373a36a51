"""What is made before a session, because a device may lack what makes it: bundles with golden frames, and graphs.

One folder, which can be copied to the device. Every item appears under its name only when complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpu_contenders import Network

from gpu_session.plan import BUNDLED_NETWORKS, COMPARED_NETWORKS, COMPARED_TILES
from sr_edge.errors import RuntimeUnavailable
from sr_edge.spec import TileSpec

BUNDLE_TILE = "96x96"


@dataclass(frozen=True)
class Item:
    """A bundle, or the graphs of a network that is compared."""

    network: str
    is_bundle: bool

    def __str__(self) -> str:
        return f"{'bundle' if self.is_bundle else 'graphs'} of {self.network}"


def items() -> Iterator[Item]:
    """Everything, what the first steps measure first."""
    first, *others = BUNDLED_NETWORKS
    yield Item(first, True)
    yield from (Item(network, False) for network in COMPARED_NETWORKS)
    yield from (Item(network, True) for network in others)


@dataclass(frozen=True)
class Material:
    """The folder of everything that was prepared."""

    folder: Path

    @property
    def graphs(self) -> Path:
        return self.folder / "graphs"

    def compared(self, network: str) -> Network:
        """A network that is compared, with its tile; its graphs are kept here once they have been prepared."""
        return Network(network, TileSpec.parse(COMPARED_TILES[network]), self.graphs)

    def bundle(self, network: str) -> Path:
        """Where the bundle of `network` ("convnet-tiny-x2") is kept."""
        return self.folder / "bundles" / f"{network}.sredge"

    def require_bundle(self, network: str) -> Path:
        """Raises RuntimeUnavailable where it was not prepared."""
        path = self.bundle(network)
        if not path.is_dir():
            raise RuntimeUnavailable(
                f"there is no bundle {path.name} in {self.folder}",
                found=path,
                remedy="prepare it with `make bench-gpu-prepare`, on any machine, and copy the folder here",
            )
        return path
