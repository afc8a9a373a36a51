"""`open_upscaler` and `upscale`: whatever runs, or can be exported, upscales pictures in one line."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import sr_edge
from sr_edge.errors import UnknownNameError, UsageError
from sr_edge.export import graph_digest
from sr_edge.export.graph.view import read_onnx
from sr_edge.frames import Picture
from sr_edge.image_files import read_picture, write_picture
from sr_edge.model_sources.upscaling import KEPT_OPEN, WEIGHTS_FOLDER, upscale
from sr_edge.runtimes import availability
from tests.command_line import SrEdge
from tests.expected_errors import raises
from tests.upscaler.blurring import noise

GRAPHS = sorted(WEIGHTS_FOLDER.glob("*.onnx"))

pytestmark = pytest.mark.skipif(
    not availability("openvino").works and not availability("onnxruntime").works, reason="no runtime for ONNX graphs"
)


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda path: path.stem)
def test_a_bundled_graph_is_the_export_of_the_bundled_weights(graph: Path, tmp_path: Path) -> None:
    name, _, scale = graph.stem.rpartition("-x")
    network = sr_edge.load_model(name, int(scale))
    report = sr_edge.export_onnx(network, "96x96", tmp_path / graph.name)
    assert repr(network).startswith(f"<LoadedModel {name} x{scale}, ")
    assert repr(report).endswith(f"{name} x{scale}, static, fp32, float io, tile 96x96, {report.nodes} nodes>")
    hint = f"write it again: sr-edge export {name} --scale {scale} -o sr_edge/models/weights/{graph.name}"
    assert graph_digest(read_onnx(tmp_path / graph.name)) == graph_digest(read_onnx(graph)), hint


def test_a_name_is_upscaled_in_one_call_without_torch() -> None:
    code = """
import sys, numpy, sr_edge
print(sr_edge.upscale(numpy.zeros((5, 7, 3), numpy.uint8)).shape, "torch" in sys.modules, "PIL" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("(10, 14, 3) False False\n", "")


def test_the_second_call_uses_the_open_network() -> None:
    picture = noise(np.uint8, 30, 40, 3)
    first, threads = sr_edge.upscale(picture, scale=2), threading.active_count()
    np.testing.assert_array_equal(sr_edge.upscale(picture, "convnet-tiny", 2), first)
    assert threading.active_count() == threads
    np.testing.assert_array_equal(sr_edge.upscale(picture, roi=(3, 4, 5, 6)), first[8:20, 6:16])
    with sr_edge.open_upscaler("convnet-tiny") as upscaler:
        np.testing.assert_array_equal(upscaler(picture), first)


def test_a_file_is_opened_again_after_it_has_changed(tmp_path: Path) -> None:
    picture, model = noise(np.uint8, 30, 40, 3), tmp_path / "model.onnx"
    for graph, factor in zip(GRAPHS, (2, 4), strict=True):
        model.write_bytes(graph.read_bytes())
        assert sr_edge.upscale(picture, model).shape == (30 * factor, 40 * factor, 3)


def test_only_the_networks_used_last_stay_open(tmp_path: Path) -> None:
    picture = noise(np.uint8, 8, 9)
    before = threading.active_count()
    for index in range(KEPT_OPEN + 2):
        model = tmp_path / f"{index}.onnx"
        model.write_bytes(GRAPHS[0].read_bytes())
        sr_edge.upscale(picture, model)
    gc.collect()
    slots = 2
    assert threading.active_count() <= before + KEPT_OPEN * slots


def test_many_threads_use_one_network() -> None:
    pictures = [noise(np.uint8, 20 + index, 30, 3) for index in range(8)]
    wanted = [sr_edge.upscale(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        upscaled = list(pool.map(sr_edge.upscale, pictures))
    for result, expected in zip(upscaled, wanted, strict=True):
        np.testing.assert_array_equal(result, expected)


def test_a_process_that_was_forked_after_the_first_call_is_told_so_instead_of_hanging() -> None:
    code = """
import os, sys, warnings, numpy, sr_edge
warnings.simplefilter("ignore")
picture = numpy.zeros((5, 7, 3), numpy.uint8)
sr_edge.upscale(picture)
child = os.fork()
if child == 0:
    try:
        sr_edge.upscale(picture)
    except sr_edge.SrEdgeError as error:
        os._exit(error.exit_code)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), sr_edge.upscale(picture).shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("2 (10, 14, 3)\n", "")


def test_an_upscaler_closes_what_it_opened_and_nothing_else() -> None:
    picture = noise(np.uint8, 8, 9, 3)
    with sr_edge.open_upscaler(GRAPHS[0], runtime="openvino", precision="fp32", threads=1) as upscaler:
        assert repr(upscaler) == "<Upscaler openvino on cpu: fp32, x2, tile 96x96, overlap 16 px>"
        upscaler(picture)
    with raises(UsageError):
        upscaler(picture)
    upscaler.close()
    with sr_edge.open_model(GRAPHS[0]) as bundle, sr_edge.open_session(bundle, "openvino") as session:
        with sr_edge.open_upscaler(bundle) as over_bundle:
            wanted = over_bundle(picture)
        with sr_edge.Upscaler(session) as over_session:
            over_session(picture)
        np.testing.assert_array_equal(sr_edge.Upscaler(session)(picture), wanted)


def test_a_forgotten_upscaler_is_closed() -> None:
    upscaler = sr_edge.open_upscaler("convnet-tiny")
    session = upscaler.session
    gone = weakref.ref(upscaler)
    del upscaler
    gc.collect()
    assert gone() is None
    with raises(UsageError):
        session.run(noise(np.uint8, 96, 96, 3))


@pytest.mark.parametrize("scale", [3, 4])
def test_another_scale_than_that_of_the_file_is_refused(scale: int) -> None:
    with raises(UsageError, found=scale, wanted=2):
        sr_edge.upscale(noise(np.uint8, 8, 9), GRAPHS[0], scale)


def test_what_is_no_model_is_refused() -> None:
    with raises(UnknownNameError, found="convnet-tny") as caught:
        sr_edge.open_upscaler("convnet-tny")
    assert "convnet-tiny" in str(caught.value)
    with raises(UsageError, found=7):
        sr_edge.open_upscaler(7)  # type: ignore[arg-type]
    with raises(UsageError):
        sr_edge.upscale(noise(np.uint8, 8, 9), scale=3)  # no weights are bundled for it


def test_the_pixels_are_those_of_the_command(sr_edge: SrEdge, tmp_path: Path) -> None:
    pixels = noise(np.uint16, 100, 110, 3)
    source, target = tmp_path / "small.png", tmp_path / "large.png"
    write_picture(source, Picture(pixels))
    assert sr_edge("upscale", GRAPHS[0], source, target).code == 0
    written = read_picture(target).pixels
    np.testing.assert_array_equal(upscale(pixels), written)
    np.testing.assert_array_equal(upscale(source, GRAPHS[0]), written)
