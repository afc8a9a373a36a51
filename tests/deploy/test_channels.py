"""Networks with one and four channels, and of scale 1: deployed, tested, and run on pictures of every kind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from sr_edge.bench import OpenOptions, self_test_bundle, variants_of
from sr_edge.bench.compare.compared_models import ComparisonOptions
from sr_edge.bench.compare.comparison import ComparePlan, compare_models
from sr_edge.bench.quality import PairFiles, score_upscalers
from sr_edge.bundle import open_bundle
from sr_edge.camera import EngineChoice, NetworkFrameUpscaler, stream
from sr_edge.camera.media.conversion import RGB_COLOUR, frame_from_rgb, reformatted, rgb_from_frame
from sr_edge.camera.media.frame import PixelFormat, VideoFrame
from sr_edge.channels import with_alpha
from sr_edge.errors import FrameError, TileError, UsageError
from sr_edge.frames import Picture, batch_from_frame, frame_from_batch
from sr_edge.image_files import read_picture, write_picture
from sr_edge.metrics import psnr_y_db
from sr_edge.model_sources import open_frame_session, open_session
from sr_edge.resize import downscale_bicubic, resize_bicubic
from sr_edge.spec import FrameFormat, Precision
from sr_edge.upscaler import Upscaler
from tests.channel_networks import SCALES, TILE, deployed, network
from tests.expected_errors import raises

SIZE = (33, 41)

Samples = npt.NDArray[Any]


def upscaled(channels: int, batch: Samples) -> Samples:
    """The output of the network for a whole picture, clipped; float64."""
    return network(channels).double()(torch.from_numpy(batch.astype(np.float64))).clamp(0, 1).numpy()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A bundle for each number of channels."""
    folder = tmp_path_factory.mktemp("bundles")
    return {channels: deployed(channels, folder) for channels in SCALES}


def noise(channels: int, dtype: npt.DTypeLike = np.uint8) -> Samples:
    generator = np.random.default_rng(channels)
    smooth = resize_bicubic(generator.random((8, 10, channels)), 5)[: SIZE[0], : SIZE[1]]
    return (smooth.clip(0, 1) * np.iinfo(np.dtype(dtype)).max).astype(dtype)


@pytest.mark.parametrize("channels", SCALES)
def test_every_variant_reproduces_the_golden_frames(bundles: dict[int, Path], channels: int) -> None:
    with open_bundle(bundles[channels]) as bundle:
        assert {artifact.shape for artifact in bundle.manifest.artifacts} == {(1, channels, 20, 28)}
        variants = variants_of(bundle, ("openvino",), (Precision.FP32, Precision.INT8))
        tests = self_test_bundle(bundle, variants, OpenOptions())
        golden = [read_picture(path) for frame in bundle.manifest.golden for path in bundle.golden_files(frame)]
    passed = {test.variant.precision for test in tests if test.passed}
    assert passed == {Precision.FP32, *([Precision.INT8] if channels == 1 else [])}
    assert {(picture.is_gray, picture.alpha is not None) for picture in golden} == {(channels == 1, channels == 4)}


@pytest.mark.parametrize("channels", SCALES)
def test_sessions_take_frames_with_the_channels_of_the_network(bundles: dict[int, Path], channels: int) -> None:
    frame = noise(channels)[: TILE.height, : TILE.width]
    batch = batch_from_frame(frame)
    wanted = upscaled(channels, batch)
    for io in (FrameFormat.FLOAT_NCHW, FrameFormat.UINT8_NHWC):
        with open_session(bundles[channels], "openvino", io=io) as session:
            assert session.spec.channels == channels
            assert np.abs(session.run(frame).astype(int) - frame_from_batch(wanted)).max() <= 1
            if io is FrameFormat.FLOAT_NCHW:
                assert np.abs(session.run(batch).clip(0, 1) - wanted).max() < 1e-5
            other = noise(3 if channels == 1 else 1)[: TILE.height, : TILE.width]
            with raises(TileError, found=other.shape, wanted=frame.shape):
                session.run(other)


def luma_reference(rgb: Samples) -> Samples:
    """RGB upscaled as in PyTorch's tutorial, but in float64 and without rounding before the end."""
    white, scale = np.iinfo(rgb.dtype).max, SCALES[1]
    red, green, blue = np.moveaxis(rgb / white, -1, 0)
    y = 0.299 * red + 0.587 * green + 0.114 * blue
    cb, cr = (resize_bicubic(plane, scale).clip(-0.5, 0.5) for plane in ((blue - y) * 0.564334, (red - y) * 0.713267))
    y = upscaled(1, y[np.newaxis, np.newaxis])[0, 0]
    planes = [y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb]
    return np.rint(white * np.stack(planes, axis=-1).clip(0, 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_luma_network_upscales_rgb_by_its_luma(bundles: dict[int, Path], dtype: npt.DTypeLike) -> None:
    rgb = noise(3, dtype)
    with open_session(bundles[1], "onnxruntime", io=FrameFormat.FLOAT_NCHW) as session:
        frame = Upscaler(session).upscale(rgb)
    assert frame.dtype == rgb.dtype
    levels = np.abs(frame - luma_reference(rgb))
    assert levels.max() <= (1 if dtype == np.uint8 else 4)  # of 255, or of 65,535: tiles are blended in float32


def test_an_8_bit_picture_in_the_uint8_graph_differs_by_the_rounding_of_its_luma(bundles: dict[int, Path]) -> None:
    rgb = noise(3)
    wanted = luma_reference(rgb)
    out = np.empty(wanted.shape, np.uint8)
    with open_frame_session(bundles[1], "onnxruntime") as session:
        assert Upscaler(session).upscale(rgb, out=out) is out
    assert np.abs(out - wanted).max() <= 2
    assert np.abs(out - pytorch_tutorial(rgb).astype(int)).mean() < 2  # PIL's rounding alone darkens by 1.3 levels


def pytorch_tutorial(rgb: Samples) -> Samples:
    """RGB upscaled as in PyTorch's tutorial, by PIL, which cuts off fractions in every step."""
    y, cb, cr = Image.fromarray(rgb).convert("YCbCr").split()
    network_y = frame_from_batch(upscaled(1, batch_from_frame(np.asarray(y)[..., np.newaxis])))[..., 0]
    size = (network_y.shape[1], network_y.shape[0])
    chroma = [plane.resize(size, Image.Resampling.BICUBIC) for plane in (cb, cr)]
    return np.asarray(Image.merge("YCbCr", [Image.fromarray(network_y), *chroma]).convert("RGB"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", SCALES)
def test_gray_stays_gray(bundles: dict[int, Path], channels: int, dtype: npt.DTypeLike) -> None:
    gray = noise(1, dtype)
    with open_frame_session(bundles[channels], "onnxruntime") as session:
        frame = Upscaler(session).upscale(gray)
    rgb = np.repeat(gray, 3, axis=2)
    batch = batch_from_frame({1: gray, 3: rgb, 4: with_alpha(gray, None)}[channels])
    colours = upscaled(channels, batch)[0, :3]
    luma = colours[0] if channels == 1 else np.tensordot([0.299, 0.587, 0.114], colours, axes=1)
    assert (frame.shape[2], frame.dtype) == (1, gray.dtype)
    assert np.abs(frame[..., 0] / np.iinfo(gray.dtype).max - luma).max() < 2 / 255


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_network_with_four_channels_upscales_alpha_with_the_colours(
    bundles: dict[int, Path], dtype: npt.DTypeLike
) -> None:
    rgba = noise(4, dtype)
    rgba[..., 3] = np.maximum(rgba[..., 3], 1)
    picture = Picture(rgba[..., :3].copy(), rgba[..., 3].copy())
    white = np.iinfo(rgba.dtype).max
    with open_frame_session(bundles[4], "onnxruntime") as session:
        upscaler = Upscaler(session)
        result, opaque = upscaler.upscale_picture(picture), upscaler.upscale(picture.pixels)
        gray = upscaler.upscale_picture(Picture(rgba[..., :1].copy(), picture.alpha))
    assert result.alpha is not None and gray.is_gray and gray.alpha is not None
    wanted = upscaled(4, batch_from_frame(rgba))[0].transpose(1, 2, 0)
    assert np.abs(with_alpha(result.pixels, result.alpha) / white - wanted).max() < 1.01 / 255
    wanted = upscaled(4, batch_from_frame(with_alpha(picture.pixels, None)))[0, :3].transpose(1, 2, 0)
    assert np.abs(opaque / white - wanted).max() < 1.01 / 255


@pytest.mark.parametrize("channels", [1, 3])
def test_other_networks_refuse_frames_with_alpha(bundles: dict[int, Path], channels: int) -> None:
    with (
        open_frame_session(bundles[channels], "onnxruntime") as session,
        raises(FrameError, found=4, wanted=channels),
    ):
        Upscaler(session).upscale(noise(4))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_hidden_colours_have_no_effect(bundles: dict[int, Path], channels: int) -> None:
    rgba = noise(4)
    rgba[:, :7, 3] = 0
    pixels, alpha = rgba[..., :3].copy(), rgba[..., 3].copy()
    magenta = np.where(alpha[..., np.newaxis] > 0, pixels, np.array([255, 0, 255], np.uint8))
    with open_frame_session(bundles[channels], "onnxruntime") as session:
        of_noise, of_magenta = (Upscaler(session).upscale_picture(Picture(p, alpha)) for p in (pixels, magenta))
    assert of_noise.alpha is not None and of_magenta.alpha is not None
    assert np.array_equal(of_noise.pixels, of_magenta.pixels)
    assert np.array_equal(of_noise.alpha, of_magenta.alpha)


def test_a_picture_of_scale_1_keeps_its_size_in_tiles(bundles: dict[int, Path]) -> None:
    rgb = noise(3)
    with open_frame_session(bundles[3], "onnxruntime") as session:
        frame = Upscaler(session).upscale(rgb)
    assert np.abs(frame / 255 - upscaled(3, batch_from_frame(rgb))[0].transpose(1, 2, 0)).max() < 1.01 / 255


def test_the_psnr_of_a_luma_network_is_that_of_its_luma(bundles: dict[int, Path], tmp_path: Path) -> None:
    original = resize_bicubic(noise(3), SCALES[1])
    write_picture(tmp_path / "hr.png", Picture(original))
    with open_session(bundles[1], "onnxruntime", io=FrameFormat.FLOAT_NCHW) as session:
        pairs = [PairFiles(tmp_path / "hr.png")]
        (scores,) = score_upscalers([Upscaler(session).upscale], pairs, SCALES[1], lambda done, total: None)
    wanted = luma_reference(downscale_bicubic(original, SCALES[1]))
    assert scores.psnr_y_db == pytest.approx(psnr_y_db(wanted.astype(np.uint8), original, SCALES[1]), abs=0.02)


def test_graphs_of_both_frame_formats_are_compared_on_the_same_luma(bundles: dict[int, Path]) -> None:
    floats, frames = (str(bundles[1] / name) for name in ("model.onnx", "model.uint8.onnx"))
    plan = ComparePlan(bundles[1].parent / "waves.png", patches=2)
    report = compare_models(floats, frames, plan, ComparisonOptions())
    assert report.psnr_db > 90
    assert report.layers.first_apart is None
    with raises(UsageError, found=2, wanted=3):  # scales
        compare_models(floats, str(bundles[4] / "model.onnx"), ComparePlan(), ComparisonOptions())


def test_a_card_that_contradicts_the_graph_is_refused(bundles: dict[int, Path], tmp_path: Path) -> None:
    shutil.copytree(bundles[1], tmp_path / "changed.sredge")
    manifest = tmp_path / "changed.sredge" / "manifest.json"
    document = json.loads(manifest.read_text())
    document["card"].update(input_channels=3, output_channels=3)
    for artifact in document["artifacts"]:
        artifact["shape"][1] = 3
    manifest.write_text(json.dumps(document))
    with raises(TileError, found=(1, 1, 20, 28), wanted=(1, 3, 20, 28)):
        open_session(tmp_path / "changed.sredge", "onnxruntime", io=FrameFormat.FLOAT_NCHW)


@pytest.mark.parametrize("channels", SCALES)
@pytest.mark.parametrize("pixel_format", [PixelFormat.RGB, PixelFormat.I420])
def test_a_video_frame_is_upscaled_as_a_picture(
    bundles: dict[int, Path], channels: int, pixel_format: PixelFormat
) -> None:
    rgb = VideoFrame((noise(3),), PixelFormat.RGB, RGB_COLOUR)
    frame = reformatted(rgb, pixel_format)
    with open_frame_session(bundles[channels], "onnxruntime") as session:
        upscaler = NetworkFrameUpscaler(session)
        result = upscaler.finish(upscaler.infer(upscaler.prepare(frame)), frame)
        wanted = frame_from_rgb(Upscaler(session).upscale(rgb_from_frame(frame)), frame)
    assert (result.format, result.height) == (pixel_format, SCALES[channels] * SIZE[0])
    for plane, expected in zip(result.planes, wanted.planes, strict=True):
        assert np.array_equal(plane, expected)


@pytest.mark.parametrize("channels", SCALES)
def test_a_stream_has_the_size_of_its_scale(bundles: dict[int, Path], channels: int) -> None:
    with stream("test:48x32@30", bundles[channels], engine=EngineChoice("onnxruntime"), fallback="bicubic") as frames:
        frame = next(iter(frames))
    assert (frame.width, frame.height) == (48 * SCALES[channels], 32 * SCALES[channels])
