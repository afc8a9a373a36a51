"""A small bundle that was really deployed, and pictures to make it from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sr_edge.deploy import DeployPlan, deploy_network
from sr_edge.frames import Picture
from sr_edge.image_files import write_picture
from sr_edge.models import load_model
from sr_edge.spec import PassChoice, Precision, TileSpec
from tests.command_line import SrEdge as SrEdge

TILE = TileSpec(24, 24)


def smooth_picture(height: int, width: int, seed: int) -> Picture:
    """Soft waves of colour: something a network can be calibrated on."""
    generator = np.random.default_rng(seed)
    rows, columns = np.indices((height, width))[..., np.newaxis]
    waves = np.sin(rows * generator.uniform(0.1, 0.5, 3) + columns * generator.uniform(0.1, 0.5, 3))
    return Picture((127.5 + 127.5 * waves).astype(np.uint8))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three small pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for index in range(3):
        write_picture(folder / f"waves{index}.png", smooth_picture(40, 52, index))
    return folder


@pytest.fixture(scope="session")
def bundle(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """convnet-tiny x2 with random weights, fp32 and INT8; read only."""
    out = tmp_path_factory.mktemp("bundle") / "tiny.sredge"
    model = load_model("convnet-tiny", 2, random_weights=True)
    precisions = (Precision.FP32, Precision.INT8)
    deploy_network(
        model,
        pictures,
        out,
        DeployPlan(TILE, ("onnxruntime",), precisions, rounds=1, with_memory=False, passes=PassChoice.STRUCTURE),
    )
    return out


@pytest.fixture
def places(bundle: Path, pictures: Path, tmp_path: Path) -> Callable[[tuple[str, ...]], list[str]]:
    """Replaces the words in capitals by paths; the bundle is a copy, so that a fault does no harm."""
    shutil.copytree(bundle, tmp_path / "copy.sredge")
    (tmp_path / "out").mkdir()
    names = {
        "BUNDLE": tmp_path / "copy.sredge",
        "OUT": tmp_path / "out",
        "PICTURES": pictures,
        "PICTURE": pictures / "waves0.png",
    }

    def replaced(words: tuple[str, ...]) -> list[str]:
        firsts = [word.split("/", 1) for word in words]
        return ["/".join([str(names.get(first, first)), *rest]) for first, *rest in firsts]

    return replaced
