"""An upscaler takes every kind of picture and gives back the kind that it got, with the pixels of `sr-edge upscale`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageCms

from sr_edge.errors import FrameError, UnknownNameError, UsageError
from sr_edge.frames import Picture
from sr_edge.image_files import image_from_picture, read_picture, write_picture
from sr_edge.upscaler import Upscaler, upscale_file
from tests.expected_errors import raises
from tests.upscaler.blurring import BlurringSession, noise


class Pair(NamedTuple):
    left: npt.NDArray[np.uint8]
    right: torch.Tensor


SHAPES = [(20, 30), (20, 30, 1), (20, 30, 3), (20, 30, 4), (2, 20, 30, 3), (3, 7, 5, 4)]
DTYPES = ["uint8", "uint16", "float32", "float64", "float16", ">u2"]


@pytest.fixture
def upscaler() -> Upscaler:
    return Upscaler(BlurringSession())


def as_type(integers: npt.NDArray[np.uint16], dtype: str) -> npt.NDArray[Any]:
    if "float" in dtype:
        return (integers / 65535).astype(dtype)
    return (integers >> 8).astype(dtype) if dtype == "uint8" else integers.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_array_keeps_its_type_layout_and_rank(upscaler: Upscaler, shape: tuple[int, ...], dtype: str) -> None:
    array = as_type(noise(np.uint16, *shape), dtype)
    before = array.copy()
    upscaled = upscaler(array)
    rows = 1 if len(shape) == 4 else 0
    wanted = (*shape[:rows], 2 * shape[rows], 2 * shape[rows + 1], *shape[rows + 2 :])
    assert (upscaled.shape, upscaled.dtype) == (wanted, array.dtype)
    np.testing.assert_array_equal(array, before)
    assert not np.shares_memory(upscaled, array)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_are_computed_as_16_bit_samples(upscaler: Upscaler, dtype: str) -> None:
    integers = noise(np.uint16, 20, 30, 3)
    upscaled = upscaler(as_type(integers, dtype))
    np.testing.assert_allclose(upscaled * 65535, upscaler(integers), atol=0.01)


def test_a_batch_is_its_pictures(upscaler: Upscaler) -> None:
    batch = noise(np.uint8, 3, 20, 30, 3)
    np.testing.assert_array_equal(upscaler(batch), np.stack([upscaler(each) for each in batch]))


@pytest.mark.parametrize("channels", [3, 4])
def test_blue_first_is_red_first_reversed(upscaler: Upscaler, channels: int) -> None:
    rgb = noise(np.uint8, 20, 30, channels)
    order = [2, 1, 0, 3][:channels]
    np.testing.assert_array_equal(upscaler(rgb[..., order], order="bgr"), upscaler(rgb)[..., order])
    gray = rgb[..., 0]
    np.testing.assert_array_equal(upscaler(gray, order="bgr"), upscaler(gray))
    tensor = torch.from_numpy(rgb.copy()).permute(2, 0, 1)
    assert torch.equal(upscaler(tensor[order], order="bgr"), upscaler(tensor)[order])


def test_an_array_need_not_be_contiguous_or_writable(upscaler: Upscaler) -> None:
    large = noise(np.uint8, 60, 40, 3)
    large.setflags(write=False)
    view = large[::-3, 5:35][..., ::-1]
    np.testing.assert_array_equal(upscaler(view), upscaler(view.copy()))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(20, 30), (1, 20, 30), (3, 20, 30), (4, 20, 30), (2, 3, 20, 30)], ids=str)
def test_a_tensor_keeps_its_type_and_layout(upscaler: Upscaler, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    levels = torch.from_numpy(noise(np.uint8, *shape))
    tensor = levels if dtype is torch.uint8 else (levels / 255).to(dtype)
    upscaled = upscaler(tensor)
    assert isinstance(upscaled, torch.Tensor)
    assert (upscaled.dtype, tuple(upscaled.shape)) == (dtype, (*shape[:-2], 40, 60))
    if dtype is torch.uint8 and len(shape) == 3:
        hwc = upscaler(tensor.permute(1, 2, 0).numpy())
        np.testing.assert_array_equal(upscaled.permute(1, 2, 0).numpy(), hwc)


@pytest.mark.parametrize(
    ("mode", "result"),
    [
        *((mode, mode) for mode in ("L", "LA", "RGB", "RGBA", "I;16", "I")),
        *(("1", "L"), ("P", "RGB"), ("CMYK", "RGB"), ("YCbCr", "RGB")),
    ],
)
def test_a_pil_image_stays_one(upscaler: Upscaler, mode: str, result: str) -> None:
    if mode.startswith("I"):
        image = Image.fromarray(noise(np.uint16, 20, 30).astype(np.int32 if mode == "I" else np.uint16))
    else:
        colours = noise(np.uint8, 20, 30, 4 if mode in ("LA", "RGBA") else 3)
        image = Image.fromarray(colours).convert(mode)
    upscaled = upscaler(image)
    assert isinstance(upscaled, Image.Image)
    assert (upscaled.mode, upscaled.size) == (result, (60, 40))


def test_a_pil_image_is_turned_upright_and_keeps_profile_and_resolution(upscaler: Upscaler, tmp_path: Path) -> None:
    image = Image.fromarray(noise(np.uint8, 20, 30, 3))
    exif = image.getexif()
    exif[274], exif[271] = 6, "a camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(tmp_path / "turned.png", exif=exif, dpi=(300, 300), icc_profile=profile)
    with Image.open(tmp_path / "turned.png") as opened:
        upscaled = upscaler(opened)
    assert upscaled.size == (40, 60)
    assert upscaled.info["icc_profile"] == profile
    assert upscaled.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert dict(upscaled.getexif()) == {271: "a camera"}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_kind_has_the_pixels_that_the_command_writes(
    upscaler: Upscaler, channels: int, dtype: type, tmp_path: Path
) -> None:
    """`upscale_file` is what `sr-edge upscale` runs."""
    pixels = noise(dtype, 20, 30, 3 if channels > 2 else 1)
    alpha = noise(dtype, 20, 30) if channels in (2, 4) else None
    source, target = tmp_path / "small.png", tmp_path / "large.png"
    write_picture(source, Picture(pixels, alpha))
    upscale_file(upscaler, source, target)
    written = read_picture(target)
    colours = written.pixels if alpha is None else np.repeat(written.pixels, 3 // written.pixels.shape[2], 2)
    samples = colours if written.alpha is None else np.dstack([colours, written.alpha])
    wanted = samples[..., 0] if channels == 1 else samples
    for given in (source, str(source)):
        np.testing.assert_array_equal(upscaler(given), wanted)
    if channels != 2:
        np.testing.assert_array_equal(upscaler(np.dstack([pixels, *([] if alpha is None else [alpha])])), samples)
    if dtype is np.uint8 or channels == 1:
        with Image.open(source) as image:
            np.testing.assert_array_equal(np.asarray(upscaler(image)), np.asarray(image_from_picture(written)))


def test_a_list_gives_a_list_and_a_tuple_a_tuple(upscaler: Upscaler) -> None:
    array, image = noise(np.uint8, 20, 30, 3), Image.new("L", (9, 8))
    upscaled = upscaler([array, image])
    assert isinstance(upscaled, list)
    np.testing.assert_array_equal(upscaled[0], upscaler(array))
    assert isinstance(upscaled[1], Image.Image)
    assert isinstance(upscaler((array,)), tuple)
    assert upscaler([]) == []


def test_a_picture_stays_a_picture(upscaler: Upscaler) -> None:
    assert isinstance(upscaler(Picture(noise(np.uint8, 8, 9, 3))), Picture)


ZEROS = np.zeros((8, 9, 3), np.float32)
NAN = np.where(np.arange(9)[:, np.newaxis] == 4, np.float32(np.nan), ZEROS)
META = torch.zeros(3, 8, 9, device="meta")
REFUSED: list[tuple[str, object, object]] = [
    ("one axis", np.zeros(9, np.uint8), (9,)),
    ("five axes", np.zeros((1, 1, 8, 9, 3), np.uint8), (1, 1, 8, 9, 3)),
    ("channels first", np.zeros((3, 8, 9), np.uint8), (3, 8, 9)),
    ("two channels", np.zeros((8, 9, 2), np.uint8), (8, 9, 2)),
    ("empty", np.zeros((0, 9, 3), np.uint8), (0, 9, 3)),
    ("empty batch", np.zeros((0, 8, 9, 3), np.uint8), (0, 8, 9, 3)),
    ("objects", np.full((8, 9), None), "object"),
    ("bool", np.zeros((8, 9), bool), "bool"),
    ("int64", np.zeros((8, 9), np.int64), "int64"),
    ("complex", np.zeros((8, 9), complex), "complex128"),
    ("masked", np.ma.zeros((8, 9), np.uint8), "MaskedArray"),
    ("NaN", NAN, "NaN"),
    ("infinite", ZEROS + np.inf, (np.inf, np.inf)),
    ("0-255 as float", ZEROS + 200, (200.0, 200.0)),
    ("negative", ZEROS - 1, (-1.0, -1.0)),
    ("another device", META, "meta"),
    ("gradient", torch.zeros(3, 8, 9, requires_grad=True), "requires_grad"),
    ("sparse", torch.zeros(3, 8, 9).to_sparse(), "torch.sparse_coo"),
    ("tensor with channels last", torch.zeros(8, 9, 3), (8, 9, 3)),
    ("empty tensor", torch.zeros(3, 0, 9), (3, 0, 9)),
    ("int64 tensor", torch.zeros(3, 8, 9, dtype=torch.int64), "int64"),
    ("bool tensor", torch.zeros(3, 8, 9, dtype=torch.bool), "bool"),
    ("complex tensor", torch.zeros(3, 8, 9, dtype=torch.complex64).conj(), "complex64"),
    ("8-bit floats", torch.zeros(3, 8, 9).to(torch.float8_e4m3fn), "float8_e4m3fn"),
    ("matrix", np.zeros((8, 9), np.uint8).view(np.matrix), "matrix"),
    ("empty path", "", ""),
    ("float image", Image.new("F", (9, 8)), "F"),
    ("image of large samples", Image.fromarray(np.full((8, 9), 70_000, np.int32)), (70_000, 70_000)),
    ("empty image", Image.new("L", (0, 8)), (8, 0)),
    ("bytes", b"", "bytes"),
    ("nothing", None, "NoneType"),
    ("number", 1.0, "float"),
    ("missing file", Path("no-such.png"), Path("no-such.png")),
    ("list in a list", [[ZEROS]], "list"),
]


@pytest.mark.parametrize(("picture", "found"), [pytest.param(*each, id=name) for name, *each in REFUSED])
def test_what_is_no_picture_is_refused_with_a_remedy(upscaler: Upscaler, picture: object, found: object) -> None:
    with raises(FrameError, found=found) as caught:
        upscaler(picture)
    assert caught.value.remedy


def test_a_tensor_that_torch_negates_when_it_is_read_has_its_values(upscaler: Upscaler) -> None:
    tensor = torch.full((3, 8, 9), -0.5j).conj().imag
    assert tensor.is_neg()
    assert torch.equal(upscaler(tensor), upscaler(torch.full((3, 8, 9), 0.5)))


def test_a_named_tuple_of_pictures_keeps_its_names(upscaler: Upscaler) -> None:
    pair = Pair(np.zeros((8, 9), np.uint8), torch.zeros(3, 8, 9))
    upscaled = upscaler(pair)
    assert type(upscaled) is Pair
    assert (upscaled.left.shape, tuple(upscaled.right.shape)) == ((16, 18), (3, 16, 18))


def test_an_error_in_a_list_says_which_picture(upscaler: Upscaler) -> None:
    with raises(FrameError, found="bool") as caught:
        upscaler([ZEROS, np.zeros((8, 9), bool)])
    assert "picture 1 " in caught.value.problem


def test_rounding_errors_beyond_0_and_1_are_no_other_values(upscaler: Upscaler) -> None:
    np.testing.assert_array_equal(upscaler(ZEROS - np.float32(1e-7)), upscaler(ZEROS))
    np.testing.assert_array_equal(upscaler(ZEROS + np.float32(1 + 1e-6)), upscaler(ZEROS + 1))


def test_an_order_is_refused_where_it_is_unknown_or_has_no_effect(upscaler: Upscaler, tmp_path: Path) -> None:
    with raises(UnknownNameError, found="gbr", wanted=["rgb", "bgr"]):
        upscaler(ZEROS, order="gbr")
    for picture in (Image.new("RGB", (9, 8)), tmp_path / "picture.png"):
        with raises(UsageError, found="bgr"):
            upscaler(picture, order="bgr")


def test_a_path_is_no_session() -> None:
    with raises(UsageError, found="str"):
        Upscaler("tiny-x2.sredge")  # type: ignore[arg-type]


def test_an_array_is_upscaled_without_importing_torch_or_pillow() -> None:
    code = """
import sys
from tests.upscaler.blurring import BlurringSession, noise
from sr_edge.upscaler import Upscaler
upscaler = Upscaler(BlurringSession())
upscaler([noise("uint8", 8, 9, 3), noise("uint16", 8, 9)])
try:
    upscaler(object())
except Exception as error:
    assert type(error).__name__ == "FrameError"
print(*({"torch", "PIL"} & sys.modules.keys()))
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root)
    assert (done.stdout, done.stderr) == ("\n", "")
