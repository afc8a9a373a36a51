"""Every architecture in every runtime that works here, in float and in INT8: the network's own pictures come out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime  # type: ignore[import-untyped]  # ships no types
import pytest
import torch

from sr_edge.model_sources import open_session
from sr_edge.models import ARCHITECTURES
from sr_edge.runtimes import Session, runtime_names
from sr_edge.spec import Precision, TileSpec
from tests.runtimes.here import home_device, require_exact_int8, require_runtime
from tests.runtimes.small_systems import SCALE, System

Array = npt.NDArray[Any]
FLOAT_TOLERANCE = 1e-4
INT8_MIN_DB = 35.0
"""What deployment asks of an INT8 session, against the same quantized graph computed node by node."""

SYSTEMS = [f"{architecture.name}-{architecture.sizes[-1]}" for architecture in ARCHITECTURES]
VARIANTS = [
    (name, precision)
    for name in runtime_names()
    for precision in (Precision.FP32, Precision.INT8)
    if (name, precision) != ("torch", Precision.INT8)  # torch is the float reference
]


@pytest.fixture(scope="module", params=SYSTEMS)
def system(request: pytest.FixtureRequest, systems: Callable[[str], System]) -> System:
    return systems(request.param)


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda variant: f"{variant[0]}-{variant[1]}")
def session(request: pytest.FixtureRequest, system: System) -> Iterator[Session]:
    runtime, precision = request.param
    require_runtime(runtime)
    with open_session(
        system.bundle,
        runtime,
        precision,
        home_device(runtime),
        allow_other_precision=True,  # not every CPU has the arithmetic; the figures of the file must come out anyway
        options=system.options(runtime),
    ) as opened:
        yield opened


def waves(tile: TileSpec) -> Array:
    """A frame between the extremes that the networks were calibrated on."""
    rows, columns = np.indices((tile.height, tile.width))[..., np.newaxis]
    frame: Array = (127.5 + 100 * np.sin(rows / 5 + columns / np.array([4, 5, 6]))).astype(np.uint8)
    return frame


def batch_of(frame: Array) -> Array:
    batch: Array = np.ascontiguousarray(frame.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
    return batch


def in_torch(system: System, batch: Array) -> Array:
    with torch.inference_mode():
        upscaled: Array = system.model.module(torch.from_numpy(batch)).numpy()
    return upscaled


def node_by_node(system: System, batch: Array) -> Array:
    """The graph with INT8 activations, without any optimization, so that no quantized kernel takes part."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    graph = onnxruntime.InferenceSession(system.graph(Precision.INT8), options, ["CPUExecutionProvider"])
    controls = {control.name: np.array([control.default], np.float32) for control in system.model.card.controls}
    upscaled: Array = graph.run(None, {"input": batch, **controls})[0]
    return upscaled


def as_frame(batch: Array) -> Array:
    frame: Array = np.rint(255 * batch[0].clip(0, 1)).astype(np.int16).transpose(1, 2, 0)
    return frame


def psnr_db(upscaled: Array, wanted: Array) -> float:
    error = float(np.mean((upscaled.astype(np.float64) - wanted) ** 2))
    return 10 * math.log10(255**2 / error) if error else math.inf


def test_a_batch_gives_the_network(system: System, session: Session) -> None:
    batch = batch_of(waves(system.tile))
    upscaled = session.run(batch)
    exact = in_torch(system, batch)
    if session.spec.requested is Precision.FP32:
        np.testing.assert_allclose(upscaled, exact, atol=FLOAT_TOLERANCE * max(1.0, float(np.abs(exact).max())))
        return
    assert np.abs(upscaled - exact).max() > FLOAT_TOLERANCE, "nothing was quantized"
    if session.spec.device == "cpu":
        require_exact_int8()
    assert psnr_db(as_frame(upscaled), as_frame(node_by_node(system, batch))) >= INT8_MIN_DB


def test_a_frame_gives_the_same_picture(system: System, session: Session) -> None:
    frame = waves(system.tile)
    upscaled = session.run(frame)
    assert upscaled.dtype == np.uint8
    assert upscaled.shape == (SCALE * system.tile.height, SCALE * system.tile.width, 3)
    assert np.abs(upscaled - as_frame(session.run(batch_of(frame)))).max() <= 1


def test_tiles_in_flight_are_those_run_alone(system: System, session: Session) -> None:
    frames = [waves(system.tile), np.flip(waves(system.tile), 0).copy()]
    alone = [session.run(frame) for frame in frames]
    tickets = [session.submit(frame) for frame in frames]
    for ticket, wanted in zip(tickets, alone, strict=True):
        assert np.abs(session.result(ticket).astype(np.int16) - wanted).max() <= 1
    assert np.abs(alone[0].astype(np.int16) - alone[1]).max() > 1


def test_it_says_what_it_is(system: System, session: Session) -> None:
    spec = session.spec
    assert (spec.tile, spec.scale, spec.overlap_px) == (system.tile, SCALE, system.model.card.overlap_px)
    assert spec.requested is not Precision.FP32 or spec.ran is Precision.FP32
