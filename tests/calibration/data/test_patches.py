"""Patches from folders, pictures and videos: their size, variety and reproducibility, and errors for bad sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sr_edge.calibration import calibration_patches, held_out_pairs, held_out_patches
from sr_edge.calibration.data.patches import held_out_count
from sr_edge.errors import CalibrationError, FrameError
from sr_edge.spec import TileSpec
from tests.expected_errors import raises

TILE = TileSpec(16, 24)


def save_noise(path: Path, height: int, width: int, level: int = 255, mode: str = "RGB") -> None:
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    pixels = np.random.default_rng(height * width).integers(0, level + 1, shape).astype(np.uint8)
    Image.fromarray(pixels, mode=None).save(path)


def cut_short(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_noise(tmp_path / "a.png", 40, 50)
    save_noise(tmp_path / "b.png", 20, 30)
    save_noise(tmp_path / "c.png", 64, 64, level=100)
    return tmp_path


def test_patches_have_the_tiles_shape_and_lie_in_zero_to_one(folder: Path) -> None:
    patches = calibration_patches(folder, TILE)
    assert len(patches) == 40
    for patch in patches:
        assert patch.shape == (1, 3, 16, 24)
        assert patch.dtype == np.float32
        assert patch.min() >= 0.0
        assert patch.max() <= 1.0


def test_every_picture_gives_its_share(folder: Path) -> None:
    dark = [patch.max() <= 100 / 255 for patch in calibration_patches(folder, TILE)]
    assert 13 <= sum(dark) <= 14


def test_patches_differ_and_the_seed_reproduces_them(folder: Path) -> None:
    patches = calibration_patches(folder, TILE)
    assert len({patch.tobytes() for patch in patches}) == len(patches)
    np.testing.assert_array_equal(patches, calibration_patches(folder, TILE, seed=0))
    assert not np.array_equal(patches, calibration_patches(folder, TILE, seed=1))


def test_a_patch_is_a_mirrored_piece_of_its_picture(tmp_path: Path) -> None:
    save_noise(tmp_path / "only.png", 40, 50)
    picture = np.asarray(Image.open(tmp_path / "only.png"))
    windows = np.lib.stride_tricks.sliding_window_view(picture, (16, 24, 3))[:, :, 0]
    pieces = {
        np.ascontiguousarray(window[::vertical, ::horizontal]).tobytes()
        for window in windows.reshape(-1, 16, 24, 3)
        for vertical in (1, -1)
        for horizontal in (1, -1)
    }
    for patch in calibration_patches(tmp_path, TILE, count=5):
        pixels = np.rint(patch[0].transpose(1, 2, 0) * 255).astype(np.uint8)
        assert np.ascontiguousarray(pixels).tobytes() in pieces


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 100), (100, 3), (16, 24)])
def test_pictures_smaller_than_the_tile_are_reflected(tmp_path: Path, height: int, width: int) -> None:
    save_noise(tmp_path / "small.png", height, width)
    patches = calibration_patches(tmp_path, TILE, count=3)
    values = set(np.asarray(Image.open(tmp_path / "small.png")).ravel().tolist())
    for patch in patches:
        assert patch.shape == (1, 3, 16, 24)
        assert set(np.rint(patch * 255).astype(int).ravel().tolist()) <= values


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_gray_and_transparent_pictures_become_rgb(tmp_path: Path, mode: str) -> None:
    save_noise(tmp_path / "picture.png", 30, 30, mode=mode)
    patch = calibration_patches(tmp_path, TILE, count=1)[0]
    assert patch.shape == (1, 3, 16, 24)
    assert (mode == "L") == bool(np.array_equal(patch[:, 0], patch[:, 1]))


def test_one_picture_will_do(folder: Path) -> None:
    assert len(calibration_patches(folder / "a.png", TILE, count=7)) == 7


def test_more_pictures_than_patches_are_thinned_evenly(tmp_path: Path) -> None:
    for index in range(10):
        save_noise(tmp_path / f"{index}.png", 20, 30, level=10 * index + 1)
    brightest = [patch.max() * 255 for patch in calibration_patches(tmp_path, TILE, count=5)]
    np.testing.assert_allclose(brightest, [1, 21, 41, 61, 81], atol=0.5)


def test_a_missing_source_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with raises(CalibrationError, found=missing, wanted="a folder of pictures, a picture or a video"):
        calibration_patches(missing, TILE)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    with raises(CalibrationError, found=tmp_path, wanted=("PNG", "JPEG", "TIFF", "WebP")):
        calibration_patches(tmp_path, TILE)


def test_a_damaged_picture_is_named(folder: Path) -> None:
    cut_short(folder / "b.png")
    with raises(FrameError, found=folder / "b.png"):
        calibration_patches(folder, TILE)


class TestWarnings:
    def test_sound_pictures_raise_none(self, folder: Path) -> None:
        warnings: list[str] = []
        patches = calibration_patches(folder, TILE, warn=warnings.append)
        held_out_patches(folder, TILE, warn=warnings.append)
        assert warnings == []
        np.testing.assert_array_equal(patches, calibration_patches(folder, TILE))

    @pytest.mark.parametrize("damaged", ["a.png", "b.png", "c.png"])
    def test_a_damaged_picture_is_skipped_by_name_and_the_others_give_its_share(
        self, folder: Path, damaged: str
    ) -> None:
        cut_short(folder / damaged)
        warnings: list[str] = []
        patches = calibration_patches(folder, TILE, warn=warnings.append)
        assert len(patches) == 40
        assert len(held_out_patches(folder, TILE, count=9, warn=warnings.append)) == 9
        assert [f"/{damaged} is damaged" in warning for warning in warnings] == [True, False] * 2
        assert warnings[1] == "1 of 3 pictures was skipped"

    def test_all_damaged_is_an_error(self, folder: Path) -> None:
        for path in folder.iterdir():
            cut_short(path)
        with raises(CalibrationError, found=folder, wanted="pictures that can be read") as caught:
            calibration_patches(folder, TILE, warn=lambda _: None)
        assert all(part in caught.value.problem for part in ("a.png", "b.png", "c.png", "3 of 3"))

    def test_pictures_smaller_than_the_patch_are_counted(self, folder: Path) -> None:
        save_noise(folder / "d.png", 1, 30)
        save_noise(folder / "e.png", 9, 9)
        warnings: list[str] = []
        calibration_patches(folder, TILE, warn=warnings.append)
        assert warnings == ["2 of 5 pictures were smaller than 16x24 (smallest 1x30) and padded by reflection"]

    def test_copies_of_pictures_are_counted(self, folder: Path) -> None:
        for name in "de":
            (folder / f"{name}.png").write_bytes((folder / "a.png").read_bytes())
        warnings: list[str] = []
        calibration_patches(folder, TILE, warn=warnings.append)
        assert warnings == ["only 3 different pictures among 5"]


def test_a_file_that_is_neither_picture_nor_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no picture")
    with raises(CalibrationError, found=path, wanted="a picture or a video"):
        calibration_patches(path, TILE)


class TestHeldOut:
    def test_they_are_other_pieces_of_the_same_pictures(self, folder: Path) -> None:
        seen = {patch.tobytes() for patch in calibration_patches(folder, TILE)}
        held_out = held_out_patches(folder, TILE)
        assert len(held_out) == held_out_count(TILE)
        assert sum(held.patch.tobytes() in seen for held in held_out) < len(held_out) / 10
        again = held_out_patches(folder, TILE)
        assert all(np.array_equal(a.patch, b.patch) for a, b in zip(held_out, again, strict=True))

    def test_where_there_are_more_pictures_than_patches_they_come_from_others(self, tmp_path: Path) -> None:
        for level in range(8):
            Image.fromarray(np.full((20, 30, 3), 20 * level, np.uint8)).save(tmp_path / f"{level}.png")
        calibrated = {round(float(p.mean()) * 255) for p in calibration_patches(tmp_path, TILE, count=4)}
        levels = {round(float(held.patch.mean()) * 255) for held in held_out_patches(tmp_path, TILE, count=4)}
        assert calibrated == {0, 40, 80, 120}
        assert levels == {20, 60, 100, 140}

    def test_few_large_tiles_show_as_much_as_many_small_ones(self) -> None:
        assert held_out_count(TileSpec(64, 64)) == 16
        assert held_out_count(TileSpec(32, 32)) == 64
        assert held_out_count(TileSpec(360, 640)) == 8

    def test_a_pair_is_one_place_of_both_pictures(self) -> None:
        small = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
        large = small.repeat(3, axis=0).repeat(3, axis=1)
        tiny = np.zeros((8, 8, 3), np.uint8)
        held_out = held_out_pairs([("a", small, large), ("tiny", tiny, tiny)], TILE, count=5)
        assert len(held_out) == 5
        for held in held_out:
            assert held.original is not None
            assert held.picture == "a"
            np.testing.assert_array_equal(held.patch.repeat(3, axis=2).repeat(3, axis=3), held.original)

    def test_every_picture_has_its_turn(self) -> None:
        pairs = [(str(n), np.full((20, 30, 3), n, np.uint8), np.full((20, 30, 3), n, np.uint8)) for n in range(9)]
        assert {held.picture for held in held_out_pairs(pairs, TILE, count=4)} == set("012345678")

    def test_only_small_pictures_are_refused_by_name(self) -> None:
        tiny = np.zeros((8, 9, 3), np.uint8)
        with raises(CalibrationError, found={"tiny": TileSpec(8, 9)}, wanted=TILE):
            held_out_pairs([("tiny", tiny, tiny)], TILE)


def test_networks_of_luma_alone_get_one_channel(folder: Path) -> None:
    colour, gray = (calibration_patches(folder, TILE, count=3, channels=n) for n in (3, 1))
    for rgb, luma in zip(colour, gray, strict=True):
        assert luma.shape == (1, 1, 16, 24)
        expected = 0.299 * rgb[0, 0] + 0.587 * rgb[0, 1] + 0.114 * rgb[0, 2]
        np.testing.assert_allclose(luma[0, 0], expected, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_networks_with_four_channels_get_alpha_or_an_opaque_one(tmp_path: Path, mode: str) -> None:
    save_noise(tmp_path / "picture.png", 30, 30, mode=mode)
    (patch,), (rgb,) = (calibration_patches(tmp_path, TILE, count=1, channels=channels) for channels in (4, 3))
    assert patch.shape == (1, 4, 16, 24)
    assert np.array_equal(patch[:, :3], rgb)
    assert (patch[:, 3] == 1.0).all() == (not mode.endswith("A"))
    (held,) = held_out_patches(tmp_path, TILE, count=1, channels=4)
    assert held.patch.shape == (1, 4, 16, 24)


def test_no_patches_are_refused(folder: Path) -> None:
    with raises(CalibrationError, found=0, wanted=1):
        calibration_patches(folder, TILE, count=0)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty frames of flat gray that brightens from 0 to 245; one key frame at the start."""
    av = pytest.importorskip("av")
    path = tmp_path_factory.mktemp("video") / "ramp.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 48, 32
        stream.pix_fmt = "yuv420p"
        for index in range(50):
            pixels = np.full((32, 48, 3), 5 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


class TestVideo:
    def test_patches_come_from_the_whole_length(self, video: Path) -> None:
        levels = [float(patch.mean()) * 255 for patch in calibration_patches(video, TILE, count=10)]
        np.testing.assert_allclose(levels, [25 * index for index in range(10)], atol=8)

    def test_a_cut_video_is_refused(self, video: Path, tmp_path: Path) -> None:
        path = tmp_path / "cut.mp4"
        path.write_bytes(video.read_bytes()[:500])
        with raises(CalibrationError, found=path, wanted="a picture or a video"):
            calibration_patches(path, TILE)

    def test_a_sound_file_is_refused(self, tmp_path: Path) -> None:
        av = pytest.importorskip("av")
        path = tmp_path / "tone.wav"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        with raises(CalibrationError, found=path, wanted="a video stream"):
            calibration_patches(path, TILE)
