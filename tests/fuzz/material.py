"""The valid files that the fuzzers damage: small, and written within a second."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from PIL import Image

from sr_edge.bundle import Artifact, ArtifactKind, GoldenFrame, Manifest, sha256_of, staging_folder, write_bundle
from sr_edge.frames import Picture
from sr_edge.image_files import write_picture
from sr_edge.spec import Control, FrameFormat, ModelCard, Precision, TileSpec
from tests.camera.clips import write_clip

TILE = TileSpec(16, 24)


def graph() -> bytes:
    """A network of one convolution that doubles height and width, with the control alpha."""
    height, width = TILE.height, TILE.width
    weights = np.zeros((12, 3, 3, 3), np.float32)
    weights[range(12), [channel // 4 for channel in range(12)], 1, 1] = 1.0
    nodes = [
        helper.make_node("Conv", ["input", "weights"], ["convolved"], pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["alpha", "gain"], ["offset"]),
        helper.make_node("Add", ["convolved", "offset"], ["features"]),
        helper.make_node("DepthToSpace", ["features"], ["output"], blocksize=2, mode="CRD"),
    ]
    tensor = helper.make_tensor_value_info
    network = helper.make_graph(
        nodes,
        "toy",
        [
            tensor("input", onnx.TensorProto.FLOAT, [1, 3, height, width]),
            tensor("alpha", onnx.TensorProto.FLOAT, [1]),
        ],
        [tensor("output", onnx.TensorProto.FLOAT, [1, 3, 2 * height, 2 * width])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.full(1, 0.01, np.float32), "gain")],
    )
    model = helper.make_model(network, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def bundle(out: Path) -> Path:
    card = ModelCard(
        "toy", 2, 336, licence="MIT", forms={"body": "direct"}, controls=(Control("alpha", 0.5, 0.0, 1.0),)
    )
    with staging_folder(out) as staging:
        (staging / "model.onnx").write_bytes(graph())
        pixels = np.arange(TILE.height * TILE.width * 3, dtype=np.uint8).reshape(TILE.height, TILE.width, 3)
        write_picture(staging / "in.png", Picture(pixels))
        write_picture(staging / "out.png", Picture(pixels.repeat(2, 0).repeat(2, 1)))
        fp32 = Precision.FP32
        artifact = Artifact(
            "model.onnx",
            ArtifactKind.ONNX,
            fp32,
            fp32,
            None,
            FrameFormat.FLOAT_NCHW,
            (1, 3, TILE.height, TILE.width),
            sha256_of(staging / "model.onnx"),
        )
        digests = sha256_of(staging / "in.png"), sha256_of(staging / "out.png")
        golden = GoldenFrame("in.png", "out.png", fp32, 20.0, *digests, {"alpha": 0.25})
        manifest = Manifest(card, TILE, (artifact,), (golden,), tools={"onnx": "1"}, created="2026-01-01")
        return write_bundle(out, manifest, staging)


def pictures() -> dict[str, bytes]:
    """The same small picture in every usual format, by suffix."""
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (12, 20, 3), np.uint8))
    encoded: dict[str, bytes] = {}
    all_options: dict[str, dict[str, Any]] = {
        ".png": {"dpi": (72, 72)},
        ".jpg": {"quality": 80, "exif": Image.Exif()},
        ".webp": {},
        ".tif": {"compression": "tiff_lzw"},
        ".bmp": {},
        ".gif": {},
    }
    for suffix, options in all_options.items():
        content = io.BytesIO()
        Image.registered_extensions()
        image.save(content, Image.EXTENSION[suffix], **options)
        encoded[suffix] = content.getvalue()
    return encoded


def clips(folder: Path) -> dict[str, bytes]:
    """The same short clip in several containers, by suffix."""
    times = range(0, 36_000, 3000)
    codecs = {".mp4": "libx264", ".mkv": "libx264", ".ts": "libx264", ".avi": "mpeg4"}
    for suffix, codec in codecs.items():
        base, ticks = (Fraction(1, 30), range(12)) if suffix == ".avi" else (Fraction(1, 90_000), times)
        write_clip(folder / f"clip{suffix}", ticks, codec=codec, time_base=base)
    return {suffix: (folder / f"clip{suffix}").read_bytes() for suffix in codecs}


def checkpoints(folder: Path) -> dict[str, bytes]:
    """The weights of a small network in every format of checkpoints, by suffix; none without torch."""
    try:
        import torch
        from safetensors.numpy import save
    except ImportError:
        return {}
    state = {name: torch.arange(24.0).reshape(2, 3, 2, 2) for name in ("head.weight", "tail.weight")}
    torch.save({"params_ema": state, "epoch": 3}, folder / "zip.pth")
    torch.save(state, folder / "old.pth", _use_new_zipfile_serialization=False)
    return {
        ".pth": (folder / "zip.pth").read_bytes(),
        ".pt": (folder / "old.pth").read_bytes(),
        ".safetensors": save({name: tensor.numpy() for name, tensor in state.items()}),
    }
