"""Every variant of TIFF is read right, as a second reader confirms where there is one; the others are refused."""

from __future__ import annotations

import dataclasses
import io
from itertools import product
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from sr_edge.errors import FrameError
from sr_edge.image_files import read_picture
from tests.expected_errors import raises
from tests.image_files.tiff_variants import TiffVariant

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, CMYK, YCBCR, LAB = 0, 1, 2, 3, 4, 5, 6, 8
ASSOCIATED, UNASSOCIATED = 1, 2
HEIGHT, WIDTH = 13, 18

Samples = npt.NDArray[Any]


def smooth(channels: int, dtype: type[np.generic], largest: float) -> Samples:
    rows, columns = np.indices((HEIGHT, WIDTH))
    waves = [(np.sin(rows / 5 + index) + np.cos(columns / 7 + 2 * index) + 2) / 4 for index in range(channels)]
    shares = np.stack(waves, axis=-1)
    return shares.astype(dtype) if dtype is np.float32 else np.rint(shares * largest).astype(dtype)


def read_by_opencv(path: Path) -> Samples:
    """The second reader; its colours are in the order BGR."""
    samples = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert samples is not None
    return samples


def read(path: Path, variant: TiffVariant) -> Samples:
    """Colours and alpha as one array."""
    path.write_bytes(variant.encoded())
    picture = read_picture(path)
    assert picture.alpha is None or picture.alpha.dtype == picture.pixels.dtype
    return picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])


STORAGES = [
    {
        "order": order,
        "is_big": is_big,
        "is_planar": is_planar,
        "tile": tile,
        "deflate": predictor > 1,
        "predictor": predictor,
    }
    for order, is_big, is_planar, tile, predictor in product(
        "<>", (False, True), (False, True), (None, (16, 16)), (1, 2)
    )
]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK])
def test_colours_are_the_same_however_they_are_stored(
    tmp_path: Path, photometric: int, dtype: type[np.unsignedinteger[Any]]
) -> None:
    largest = int(np.iinfo(dtype).max)
    stored = smooth({RGB: 3, CMYK: 4}.get(photometric, 1), dtype, largest)
    share = stored / largest
    if photometric == WHITE_IS_ZERO:
        share = 1 - share
    expected = (1 - share[..., :3]) * (1 - share[..., 3:]) if photometric == CMYK else share
    for storage in STORAGES:
        result = read(tmp_path / "picture.tif", TiffVariant(stored, photometric, **storage))  # type: ignore[arg-type]
        assert result.dtype == dtype, storage
        np.testing.assert_allclose(result, expected * largest, atol=1, err_msg=str(storage))


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_associated_alpha_is_divided_out_and_unassociated_is_kept(
    tmp_path: Path, dtype: type[np.unsignedinteger[Any]], channels: int
) -> None:
    largest = int(np.iinfo(dtype).max)
    straight = smooth(channels, dtype, largest)
    straight[0, :3, -1] = 0
    photometric = RGB if channels == 4 else BLACK_IS_ZERO
    kept = read(tmp_path / "straight.tif", TiffVariant(straight, photometric, extra=UNASSOCIATED))
    np.testing.assert_array_equal(kept, straight)
    opacity = straight[..., -1:] / largest
    premultiplied = np.concatenate([np.rint(straight[..., :-1] * opacity).astype(dtype), straight[..., -1:]], axis=2)
    divided = read(tmp_path / "premultiplied.tif", TiffVariant(premultiplied, photometric, extra=ASSOCIATED))
    np.testing.assert_allclose(divided * opacity, straight * opacity, atol=1)
    assert (divided[0, :3] == 0).all()


@pytest.mark.parametrize("fill_order", [1, 2])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO, RGB])
@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8, 10, 12, 16])
def test_any_number_of_bits_is_scaled_to_8_or_16(tmp_path: Path, bits: int, photometric: int, fill_order: int) -> None:
    steps = (1 << bits) - 1
    dtype = np.uint8 if bits <= 8 else np.uint16
    stored = smooth(3 if photometric == RGB else 1, dtype, steps)
    result = read(tmp_path / "packed.tif", TiffVariant(stored, photometric, bits=bits, fill_order=fill_order))
    share = stored / steps
    expected = 1 - share if photometric == WHITE_IS_ZERO else share
    np.testing.assert_allclose(result, expected * (255 if bits <= 8 else 65535), atol=0.51)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes(tmp_path: Path, bits: int) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (3, 1 << bits))
    indices = smooth(1, np.uint8, (1 << bits) - 1)
    tags = {320: (3, [int(value) * 257 for value in colours.ravel()])}
    variant = TiffVariant(indices, PALETTE, bits=bits, tags=tags)
    result = read(tmp_path / "palette.tif", variant)
    np.testing.assert_array_equal(result, colours.T[indices[..., 0]])
    np.testing.assert_array_equal(result, np.asarray(Image.open(tmp_path / "palette.tif").convert("RGB")))


@pytest.mark.parametrize("horizontal", [1, 2, 4])
@pytest.mark.parametrize("vertical", [1, 2])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_ycbcr_with_and_without_subsampling(
    tmp_path: Path, dtype: type[np.unsignedinteger[Any]], vertical: int, horizontal: int
) -> None:
    largest = int(np.iinfo(dtype).max)
    luma = smooth(1, dtype, largest)[..., 0]
    tall, wide = -(-HEIGHT // vertical), -(-WIDTH // horizontal)
    chroma = smooth(2, dtype, largest)[:tall, :wide]
    padded = np.pad(luma, [(0, -HEIGHT % vertical), (0, -WIDTH % horizontal)], mode="edge")
    lumas = padded.reshape(tall, vertical, wide, horizontal).transpose(0, 2, 1, 3).reshape(tall, wide, -1)
    units = np.concatenate([lumas, chroma], axis=2)
    variant = TiffVariant(
        np.zeros((HEIGHT, WIDTH, 3), dtype),
        YCBCR,
        rows_per_strip=HEIGHT,
        raw_segments=[units.astype(units.dtype.newbyteorder("<")).tobytes()],
        tags={530: (3, [horizontal, vertical])},
    )
    result = read(tmp_path / "ycbcr.tif", variant).astype(float)
    full = chroma.repeat(vertical, 0).repeat(horizontal, 1)[:HEIGHT, :WIDTH].astype(float) - (largest + 1) // 2
    red, blue = luma + 1.402 * full[..., 1], luma + 1.772 * full[..., 0]
    green = (luma - 0.299 * red - 0.114 * blue) / 0.587
    np.testing.assert_allclose(result, np.clip(np.dstack([red, green, blue]), 0, largest), atol=1)
    if dtype == np.uint8:
        by_opencv = read_by_opencv(tmp_path / "ycbcr.tif")[..., ::-1]
        np.testing.assert_allclose(result, by_opencv, atol=2)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_floating_point_from_0_to_1_becomes_16_bits(tmp_path: Path, channels: int, order: Literal["<", ">"]) -> None:
    stored = smooth(channels, np.float32, 1)
    variant = TiffVariant(stored, RGB if channels > 1 else BLACK_IS_ZERO, order=order)
    result = read(tmp_path / "float.tif", dataclasses.replace(variant, extra=UNASSOCIATED if channels == 4 else None))
    np.testing.assert_array_equal(result, np.rint(stored.astype(np.float64) * 65535))
    if order == "<" and channels != 4:
        by_opencv = read_by_opencv(tmp_path / "float.tif").reshape(stored.shape)
        np.testing.assert_array_equal(by_opencv[..., ::-1] if channels == 3 else by_opencv, stored)


@pytest.mark.parametrize(("least", "most"), [(0, 255), (-1, 1), (0, np.nan)])
def test_other_floating_point_ranges_are_refused(tmp_path: Path, least: float, most: float) -> None:
    stored = np.full((HEIGHT, WIDTH, 1), least, np.float32)
    stored[3, 4] = most
    with raises(FrameError, wanted=(0.0, 1.0)):
        read(tmp_path / "float.tif", TiffVariant(stored, BLACK_IS_ZERO))


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg", "group4"])
@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "CMYK"])
def test_compressions_that_pillow_writes(tmp_path: Path, mode: str, compression: str) -> None:
    if (compression == "group4") > (mode == "1") or (compression == "jpeg" and mode in ("1", "RGBA")):
        pytest.skip(f"Pillow does not write {mode} with {compression}")
    largest = 255
    shape = (HEIGHT, WIDTH, len(mode)) if len(mode) > 1 else (HEIGHT, WIDTH)
    stored = smooth(len(mode), np.uint8, largest).reshape(shape)
    image = Image.fromarray(stored > 128) if mode == "1" else Image.fromarray(stored, mode)
    image.save(tmp_path / "saved.tif", compression=compression)
    picture = read_picture(tmp_path / "saved.tif")
    reference = image.convert("L") if mode == "1" else Image.open(tmp_path / "saved.tif").convert(mode)
    expected = np.asarray(reference.convert("RGB") if mode == "CMYK" else reference).reshape(HEIGHT, WIDTH, -1)
    result = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
    np.testing.assert_allclose(result.astype(int), expected, atol=1)


@pytest.mark.parametrize("channels", [3, 4])
def test_webp_strips(tmp_path: Path, channels: int) -> None:
    stored = smooth(channels, np.uint8, 255)
    segment = io.BytesIO()
    Image.fromarray(stored).save(segment, "WEBP", lossless=True, exact=True)
    variant = TiffVariant(
        stored,
        RGB,
        rows_per_strip=HEIGHT,
        raw_segments=[segment.getvalue()],
        tags={259: (3, [50001])},
        extra=UNASSOCIATED if channels == 4 else None,
    )
    np.testing.assert_array_equal(read(tmp_path / "webp.tif", variant), stored)


@pytest.mark.parametrize(
    "variant",
    [
        TiffVariant(smooth(3, np.uint8, 255), LAB),
        TiffVariant(smooth(1, np.uint8, 1), MASK, bits=1),
        TiffVariant(smooth(1, np.uint8, 255), 32803),
        TiffVariant(smooth(3, np.uint8, 255), RGB, tags={258: (3, [5, 6, 5])}),
        TiffVariant(smooth(1, np.uint8, 255), BLACK_IS_ZERO, tags={259: (3, [34712])}),
        TiffVariant(smooth(1, np.uint8, 255), BLACK_IS_ZERO, tags={254: (4, [1])}),
        TiffVariant(smooth(4, np.uint8, 255), CMYK, tags={332: (3, [2])}),
        TiffVariant(smooth(3, np.uint8, 255), YCBCR, is_planar=True),
    ],
    ids=["lab", "mask", "raw", "mixed-bits", "jpeg2000", "preview", "inks", "planar-chroma"],
)
def test_what_is_not_read_is_refused_in_one_line(tmp_path: Path, variant: TiffVariant) -> None:
    with raises(FrameError, found=tmp_path / "refused.tif"):
        read(tmp_path / "refused.tif", variant)


@pytest.mark.parametrize(("kind", "bits"), [(1, 32), (2, 8), (2, 16), (5, 64)])
def test_other_kinds_of_samples_are_refused(tmp_path: Path, kind: int, bits: int) -> None:
    stored = np.zeros((HEIGHT, WIDTH, 1), f"u{bits // 8}")
    with raises(FrameError, found=bits, wanted=(8, 16)):
        read(tmp_path / "refused.tif", TiffVariant(stored, BLACK_IS_ZERO, tags={339: (3, [kind])}))


def test_several_pages_are_counted_and_refused(tmp_path: Path) -> None:
    with raises(FrameError, found=2, wanted=1):
        read(tmp_path / "pages.tif", TiffVariant(smooth(1, np.uint8, 255), BLACK_IS_ZERO, pages=2))


@pytest.mark.parametrize("seed", range(40))
def test_damage_is_an_error_of_one_line_or_has_no_effect_on_the_layout(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    file = bytearray(TiffVariant(smooth(3, np.uint8, 255), RGB, deflate=bool(seed % 2), is_big=seed % 3 == 0).encoded())
    for place in random.integers(0, 240, 6):
        file[place] = int(random.integers(256))
    path = tmp_path / "damaged.tif"
    path.write_bytes(bytes(file))
    try:
        read_picture(path)
    except FrameError as error:
        assert "\n" not in str(error)


def test_what_is_written_is_read_by_other_readers(tmp_path: Path) -> None:
    from sr_edge.frames import Picture
    from sr_edge.image_files import write_picture

    pixels = smooth(3, np.uint16, 65535)
    write_picture(tmp_path / "deep.tif", Picture(pixels))
    np.testing.assert_array_equal(read_by_opencv(tmp_path / "deep.tif")[..., ::-1], pixels)
    write_picture(tmp_path / "plain.tif", Picture((pixels >> 8).astype(np.uint8)))
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO((tmp_path / "plain.tif").read_bytes()))), pixels >> 8
    )
