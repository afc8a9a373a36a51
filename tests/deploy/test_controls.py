"""A network with controls through the whole road: deployed, proven at two settings, and run in every runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sr_edge.bench import OpenOptions, Variant, bench_bundle, self_test_bundle
from sr_edge.bench.golden import read_golden
from sr_edge.bundle import open_bundle
from sr_edge.deploy import DeployPlan, DeployReport, deploy_network
from sr_edge.deploy.golden import GOLDEN_FRAMES
from sr_edge.errors import UsageError
from sr_edge.frames import Picture
from sr_edge.image_files import write_picture
from sr_edge.model_sources import open_session
from sr_edge.models import LoadedModel, load_model
from sr_edge.models.loading.load import bake
from sr_edge.runtimes import runtime_names
from sr_edge.spec import FrameFormat, PassChoice, Precision, TileSpec
from sr_edge.upscaler import Upscaler
from tests.expected_errors import raises
from tests.runtimes.here import home_device, require_runtime

TILE = TileSpec(20, 28)
FACTORY = "dial_network:network"
SOURCE = """
import torch
from torch import nn

from sr_edge.spec import Control


class Dial(nn.Module):
    controls = (Control("alpha", 1.0, 0.0, 2.0), Control("beta", 1.0, 0.0, 2.0))

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.last = nn.Conv2d(16, 12, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x, alpha=None, beta=None):
        alpha, beta = (torch.ones(1) if given is None else given for given in (alpha, beta))
        features = self.first(x).relu()
        features = alpha * features + beta * self.second(features).relu()
        return self.shuffle(self.last(features)) + 0.5


def network():
    return Dial()
"""

Frame = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Holds the network's source, which stays importable, and pictures."""
    made = tmp_path_factory.mktemp("dial")
    (made / "dial_network.py").write_text(SOURCE)
    (made / "pictures").mkdir()
    rows, columns = np.indices((40, 60))[..., np.newaxis]
    waves = 127.5 + 127.5 * np.sin(rows / 5 + columns / np.array([4, 5, 6]))
    write_picture(made / "pictures" / "waves.png", Picture(waves.astype(np.uint8)))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(made))
        yield made


@pytest.fixture(scope="module")
def model(folder: Path) -> LoadedModel:
    return load_model(None, 2, random_weights=True, arch=FACTORY)


@pytest.fixture(scope="module")
def report(folder: Path, model: LoadedModel) -> DeployReport:
    plan = DeployPlan(TILE, runtime_names(), tuple(Precision), rounds=1, with_memory=False, passes=PassChoice.STRUCTURE)
    return deploy_network(model, folder / "pictures", folder / "dial.sredge", plan)


@pytest.fixture
def frame() -> Frame:
    return np.random.default_rng(0).integers(0, 256, (TILE.height, TILE.width, 3), np.uint8)


def test_every_runtime_reproduces_both_settings(report: DeployReport) -> None:
    assert report.failed == ()
    tests = [row.self_test for row in report.bench.rows if row.self_test and row.self_test.results]
    tested = {(test.variant.runtime, test.variant.precision) for test in tests}
    float_runs = {(name, Precision.FP32) for name in ("torch", "onnxruntime", "openvino")}
    assert float_runs | {("onnxruntime", Precision.INT8), ("openvino", Precision.INT8)} <= tested
    for test in tests:
        assert len(test.results) == 2 * GOLDEN_FRAMES
        assert sum("at alpha=0.5, beta=1.5" in result.name for result in test.results) == GOLDEN_FRAMES


def test_the_manifest_tells_of_them(report: DeployReport, model: LoadedModel) -> None:
    with open_bundle(report.path) as bundle:
        card = bundle.manifest.card
        pairs = read_golden(bundle, Precision.FP32)
    assert card.controls == model.card.controls
    default, other = pairs[0], pairs[GOLDEN_FRAMES]
    assert np.array_equal(default.input_hwc, other.input_hwc)
    assert (default.controls, other.controls) == ({}, {"alpha": 0.5, "beta": 1.5})
    assert np.abs(default.output_hwc.astype(int) - other.output_hwc).max() > 3


@pytest.mark.parametrize("runtime", runtime_names())
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_sessions_follow_the_torch_network(
    report: DeployReport, model: LoadedModel, frame: Frame, runtime: str, precision: Precision
) -> None:
    options = {"architecture": FACTORY} if runtime == "torch" else None
    if (runtime, precision) == ("torch", Precision.INT8):
        pytest.skip("torch has no INT8")
    require_runtime(runtime)
    device = home_device(runtime)
    settings: list[dict[str, float]] = [{}, {"alpha": 0.0}, {"beta": 2.0}, {"alpha": 0.5, "beta": 1.5}]
    with (
        open_session(report.path, "torch", options={"architecture": FACTORY}) as reference,
        open_session(report.path, runtime, precision, device, allow_other_precision=True, options=options) as session,
    ):
        wanted = [reference.run(frame, setting).astype(int) for setting in settings]
        tickets = [session.submit(frame, setting) for setting in settings[:2]]
        outputs = [session.result(ticket) for ticket in tickets] + [session.run(frame, s) for s in settings[2:]]
        with raises(UsageError) as caught:
            session.run(frame, {"gamma": 1.0})
        assert "gamma" in caught.value.problem
    limit = 1 if precision is Precision.FP32 else 12
    for ours, theirs in zip(outputs, wanted, strict=True):
        assert np.abs(ours.astype(int) - theirs).max() <= limit
    assert min(np.abs(wanted[0] - other).max() for other in wanted[1:]) > 2 * limit


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_uint8_graphs_take_them_too(report: DeployReport, frame: Frame, runtime: str) -> None:
    setting = {"alpha": 0.25, "beta": 2.0}
    with (
        open_session(report.path, runtime, io=FrameFormat.UINT8_NHWC) as inside,
        open_session(report.path, runtime) as on_host,
    ):
        difference = inside.run(frame, setting).astype(int) - on_host.run(frame, setting)
    assert np.abs(difference).max() <= 1


def test_an_upscaler_has_one_setting_for_all_tiles(report: DeployReport) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (33, 45, 3), np.uint8)
    with open_session(report.path, "onnxruntime") as session:
        plain, set_to = Upscaler(session).upscale(picture), Upscaler(session, controls={"alpha": 0.0}).upscale(picture)
        assert np.array_equal(plain, Upscaler(session, controls={"alpha": 1.0}).upscale(picture))
    assert np.abs(plain.astype(int) - set_to).max() > 3


def test_bench_refuses_a_setting_that_the_network_has_not(report: DeployReport) -> None:
    with open_bundle(report.path) as bundle, raises(UsageError) as caught:
        bench_bundle(bundle, [Variant("onnxruntime", Precision.FP32)], OpenOptions(controls={"gamma": 1.0}))
    assert "gamma" in caught.value.problem


def test_a_bundle_of_an_older_version_has_none(report: DeployReport, tmp_path: Path) -> None:
    """Such manifests name no controls; the fields that came later take their defaults."""
    with open_bundle(report.path) as bundle:
        document = json.loads((bundle.folder / "manifest.json").read_text())
    for holder in (document["card"], *document["golden"]):
        del holder["controls"]
    del document["card"]["baked"]
    (tmp_path / "manifest.json").write_text(json.dumps(document))
    manifest = open_bundle(tmp_path).manifest
    assert (manifest.card.controls, manifest.card.baked) == ((), {})
    assert all(golden.controls == {} for golden in manifest.golden)


def test_baked_controls_are_constants_in_every_runtime(folder: Path, model: LoadedModel, frame: Frame) -> None:
    plan = DeployPlan(
        TILE, runtime_names(), (Precision.FP32,), rounds=1, with_memory=False, passes=PassChoice.STRUCTURE
    )
    baked = bake(model, {"alpha": 0.5, "beta": 1.5})
    report = deploy_network(baked, folder / "pictures", folder / "baked.zip", plan)
    assert report.failed == ()
    assert report.manifest.card.baked == {"alpha": 0.5, "beta": 1.5}
    with open_bundle(folder / "baked.zip") as bundle:
        variants = [Variant(name, Precision.FP32) for name in runtime_names()]
        tests = self_test_bundle(bundle, variants, OpenOptions(trusted_architecture=FACTORY))
        assert all(test.passed and len(test.results) == GOLDEN_FRAMES for test in tests if test.results)
        pair = read_golden(bundle, Precision.FP32)[0]
        with open_session(bundle, "onnxruntime") as session:
            assert session.spec.controls == ()
            np.testing.assert_allclose(session.run(pair.input_hwc).astype(int), pair.output_hwc, atol=1)
            with raises(UsageError) as caught:
                session.run(frame, {"alpha": 0.5})
            assert "alpha" in caught.value.problem
