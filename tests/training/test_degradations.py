"""Every degradation is seeded, keeps pictures in register, and does what its paper says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sr_edge.errors import UnknownNameError
from sr_edge.frames import Uint8Frame
from sr_edge.image_files import list_pictures
from sr_edge.metrics import psnr_y_db
from sr_edge.models.registry import ARCHITECTURES, Architecture, find_architecture
from sr_edge.resize import downscale_bicubic, resize_bicubic
from sr_edge.training.data import CropSource, Originals, PairSet
from sr_edge.training.degradations import DEGRADATIONS, Degradation, find_degradation
from sr_edge.training.degradations.blind_gaussian import (
    BLIND_GAUSSIAN,
    TEST_SIGMA_PX,
    blur_and_downscale,
    gaussian8_sigmas_px,
)
from sr_edge.training.degradations.filters import (
    add_gaussian_noise,
    add_poisson_noise,
    blur,
    compress_jpeg,
    gaussian_kernel,
)
from sr_edge.training.degradations.realnet import PAIRED_REALNET, Chain, run_chain
from tests.expected_errors import raises

SET5_GAUSSIAN8_DB = {2: 30.36, 3: 27.53, 4: 25.87}
each = pytest.mark.parametrize("degradation", [*DEGRADATIONS, PAIRED_REALNET], ids=lambda actual: actual.name)


def waves(side: int = 96) -> Uint8Frame:
    """Smooth, and unlike any of its mirror images."""
    y, x = np.mgrid[:side, :side]
    planes = [127 + 60 * np.sin((x + colour * y) / 17) + 50 * np.cos(y / 23 + x / 41) for colour in range(3)]
    return np.stack(planes, -1).astype(np.uint8)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@each
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_low_resolution_pictures_are_seeded_and_lie_where_the_original_does(
    degradation: Degradation, scale: int
) -> None:
    hr = waves()
    first, again = (degradation.degrade(hr, scale, generator(5)) for _ in range(2))
    assert first.dtype == np.uint8 and np.array_equal(first, again)
    drawn = [degradation.degrade(hr, scale, generator(seed))[..., :3].astype(float) for seed in range(12)]
    clean = downscale_bicubic(hr, scale).astype(float)
    moved = {(y, x): np.roll(clean, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)}
    inner = (slice(2, -2), slice(2, -2))
    errors = {by: float(np.abs(np.mean(drawn, 0) - actual)[inner].mean()) for by, actual in moved.items()}
    assert min(errors, key=lambda by: errors[by]) == (0, 0)


@each
def test_test_pictures_are_always_the_same(degradation: Degradation) -> None:
    first, again = (degradation.test_pictures(waves(), 2, 3) for _ in range(2))
    assert list(first) == list(again)
    assert all(np.array_equal(first[version], again[version]) for version in first)
    assert {frame.shape for frame in first.values()} == {(48, 48, 3)}


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_gaussian8_has_eight_equally_spaced_sigmas(scale: int) -> None:
    sigmas = gaussian8_sigmas_px(scale)
    assert len(sigmas) == 8 and (sigmas[0], sigmas[-1]) == TEST_SIGMA_PX[scale]
    assert np.allclose(np.diff(sigmas), sigmas[1] - sigmas[0])
    assert len(BLIND_GAUSSIAN.test_pictures(waves(), scale, 0)) == 8


@pytest.mark.parametrize("scale", [2, 4])
def test_set5_of_gaussian8_enlarged_by_bicubic(shared_data: Path, scale: int) -> None:
    """At the first and the last sigma and between, the mean lies where the module says."""
    pairs = PairSet.from_folder(shared_data / "test" / "set5" / "hr", scale, BLIND_GAUSSIAN).pairs
    assert len(pairs) == 8 * len(list_pictures(shared_data / "test" / "set5" / "hr"))
    actual = [psnr_y_db(resize_bicubic(pair.lr, scale), pair.hr, scale) for pair in pairs]
    assert float(np.mean(actual)) == pytest.approx(SET5_GAUSSIAN8_DB[scale], abs=0.01)


def test_more_blur_leaves_less_detail() -> None:
    hr = generator().integers(0, 256, (64, 64, 3), dtype=np.uint8)
    contrasts = [float(blur_and_downscale(hr, 2, sigma).std()) for sigma in (0.2, 0.8, 1.6)]
    assert contrasts == sorted(contrasts, reverse=True) and contrasts[0] > 2 * contrasts[2]


def test_a_kernel_is_a_turned_gaussian() -> None:
    kernel = gaussian_kernel(21, 3.0, 1.0)
    assert kernel.shape == (21, 21) and kernel.sum() == pytest.approx(1.0, abs=1e-6)
    assert kernel[10, 13] == pytest.approx(kernel[10, 10] * np.exp(-0.5), rel=1e-5)
    assert np.allclose(gaussian_kernel(21, 3.0, 1.0, np.pi / 2), kernel.T, atol=1e-7)


def test_blur_is_the_convolution_with_a_mirrored_border() -> None:
    picture = generator().random((9, 8, 3), dtype=np.float32)
    kernel = gaussian_kernel(5, 1.5, 0.7, 0.4)
    padded = np.pad(picture, [(2, 2), (2, 2), (0, 0)], mode="reflect")
    wanted = sum(
        kernel[2 - r, 2 - c] * padded[2 + r : 11 + r, 2 + c : 10 + c] for r in range(-2, 3) for c in range(-2, 3)
    )
    assert np.allclose(blur(picture, kernel), wanted, atol=1e-6)


def test_noise_has_the_strength_asked_for() -> None:
    gray = np.full((200, 200, 3), 0.5, np.float32)
    gaussian = add_gaussian_noise(gray, 10.0, False, generator()) - gray
    assert gaussian.std() * 255 == pytest.approx(10.0, rel=0.02)
    shot = add_poisson_noise(gray, 2.0, False, generator()) - gray
    assert shot.std() * 255 == pytest.approx(2.0 * np.sqrt(127.5), rel=0.02)
    assert abs(float(shot.mean())) < 0.002


@pytest.mark.parametrize("add", [add_gaussian_noise, add_poisson_noise])
def test_gray_noise_is_the_same_in_all_channels(add: object) -> None:
    gray = np.full((16, 16, 3), 0.5, np.float32)
    actual = add(gray, 5.0, True, generator())  # type: ignore[operator]
    assert np.array_equal(actual[..., 0], actual[..., 1]) and not np.array_equal(actual[..., 0], gray[..., 0])


def test_jpeg_of_lower_quality_loses_more() -> None:
    picture = generator().random((32, 32, 3), dtype=np.float32)
    losses = [float(np.abs(compress_jpeg(picture, quality) - picture).mean()) for quality in (95, 60, 30)]
    assert losses == sorted(losses) and losses[0] > 0


def test_chains_hold_what_their_names_say() -> None:
    """The blur chain leaves a plain picture alone; the noise chain leaves sharp edges sharper than the blur chain."""
    plain = np.full((64, 64, 3), 120, np.uint8)
    assert all(np.array_equal(run_chain(plain, 2, Chain.BLUR, generator(s)), plain[::2, ::2]) for s in range(8))
    assert all(run_chain(plain, 2, chain, generator(3)).std() > 0.5 for chain in (Chain.NOISE, Chain.BOTH))


def test_realnets_pair_is_two_pictures_or_twice_the_same() -> None:
    drawn = [PAIRED_REALNET.degrade(waves(), 2, generator(seed)) for seed in range(16)]
    same = [np.array_equal(lr[..., :3], lr[..., 3:]) for lr in drawn]
    assert {lr.shape for lr in drawn} == {(48, 48, 6)} and 2 < sum(same) < 14


@pytest.mark.parametrize(
    ("name", "wanted"), [("labnet-tiny", "blind-gaussian"), ("realnet-tiny", "realnet"), ("convnet-tiny", "bicubic")]
)
def test_a_network_gets_its_papers_degradation_unless_told_otherwise(name: str, wanted: str) -> None:
    architecture, _ = find_architecture(name)
    assert find_degradation("", architecture).name == wanted
    assert find_degradation("bicubic", architecture).name == "bicubic"
    with raises(UnknownNameError, found="gaussian", wanted=[degradation.name for degradation in DEGRADATIONS]):
        find_degradation("gaussian", architecture)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda architecture: architecture.name)
def test_the_published_degradation_of_every_architecture_is_available(architecture: Architecture) -> None:
    assert find_degradation("", architecture).name == architecture.published_degradation


def test_only_realnet_is_given_pairs() -> None:
    assert find_degradation("realnet", find_architecture("realnet-tiny")[0]) is PAIRED_REALNET
    lr = find_degradation("realnet", find_architecture("labnet-tiny")[0]).degrade(waves(), 4, generator())
    assert lr.shape == (24, 24, 3)


def test_realnet_may_be_given_one_picture() -> None:
    one = find_degradation("realnet-one-picture", find_architecture("realnet-tiny")[0])
    assert one.degrade(waves(), 4, generator()).shape == (24, 24, 3)
    assert np.array_equal(one.test_pictures(waves(), 4, 3)[""], PAIRED_REALNET.test_pictures(waves(), 4, 3)[""])


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_drawn_crop_has_no_borders_of_its_own(scale: int) -> None:
    """What is learnt of a place is what the whole picture's reduction has there."""

    class Widest(type(BLIND_GAUSSIAN)):  # type: ignore[misc]
        def degrade(self, hr: Uint8Frame, scale: int, random: np.random.Generator) -> Uint8Frame:
            return blur_and_downscale(hr, scale, float(scale))

    hr = generator().integers(0, 256, (60 * scale, 60 * scale, 3), dtype=np.uint8)
    source = CropSource(Originals((("a", hr),), scale), Widest())
    lr, _ = source.batch(0, 8, 12, seed=1)
    whole = torch.from_numpy(blur_and_downscale(hr, scale, float(scale))).permute(2, 0, 1).float() / 255
    turned = [torch.rot90(f, k, (1, 2)) for f in (whole, whole.flip(2)) for k in range(4)]
    places = torch.cat(
        [frame.unfold(1, 12, 1).unfold(2, 12, 1).permute(1, 2, 0, 3, 4).flatten(0, 1) for frame in turned]
    )
    for crop in lr:
        assert (places - crop).abs().amax(dim=(1, 2, 3)).min() <= 1.01 / 255


def test_a_part_of_a_batch_is_what_the_whole_has_there() -> None:
    source = CropSource(Originals((("a", waves()),), 2), BLIND_GAUSSIAN)
    whole = source.batch(3, 4, 16, seed=1)
    parts = [source.batch(3, 4, 16, seed=1, part=slice(rank, None, 2)) for rank in range(2)]
    for half in range(2):
        assert torch.equal(whole[half][0::2], parts[0][half]) and torch.equal(whole[half][1::2], parts[1][half])
