"""The printed trtexec command, word by word, and `export --for`."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from sr_edge.bundle import ArtifactKind, open_bundle
from sr_edge.errors import NotDeployable
from sr_edge.export.checks.rules import require_deployable
from sr_edge.export.checks.tensorrt_releases import TENSORRT_RELEASES, find_release
from sr_edge.serving.trtexec import TrtexecFiles, build_trtexec_command
from sr_edge.spec import ActivationType, FrameFormat, TileSpec
from tests.expected_errors import raises

SrEdge = Callable[..., Any]
"""The fixture of conftest.py; it gives code, stdout, stderr and the one error line."""


def command_of(sr_edge: SrEdge, *arguments: str | Path) -> list[str]:
    outcome = sr_edge("export-trtexec", *arguments)
    assert outcome.code == 0, outcome.stderr
    return shlex.split(outcome.stdout)


def test_the_command_names_the_bundles_own_file(sr_edge: SrEdge, bundle: Path) -> None:
    words = command_of(sr_edge, bundle, "--precision", "int8", "--float-precision", "fp16", "--workspace", "512")
    assert words == [
        "trtexec",
        f"--onnx={bundle / 'model.int8-fp16.onnx'}",
        "--saveEngine=model.int8-fp16.plan",
        "--stronglyTyped",
        "--noTF32",
        "--timingCacheFile=timing.cache",
        "--memPoolSize=workspace:512",
        "--useCudaGraph",
    ]


@pytest.mark.parametrize("release", [release.name for release in TENSORRT_RELEASES])
def test_strong_types_are_asked_for_before_11_only(release: str, sr_edge: SrEdge, bundle: Path) -> None:
    words = command_of(sr_edge, bundle, "--for", release)
    assert ("--stronglyTyped" in words) == (find_release(release).version < (11, 0))
    assert not {"--fp16", "--int8", "--best"} & set(words)


@pytest.fixture
def older_bundle(bundle: Path, tmp_path: Path) -> Path:
    """As one from before TensorRT's graphs of uint8 frames were written."""
    older = Path(shutil.copytree(bundle, tmp_path / "older.sredge"))
    document = json.loads((older / "manifest.json").read_text())
    document["artifacts"] = [artifact for artifact in document["artifacts"] if artifact["io"] != "uint8"]
    for file in document["sizes"].keys() - {artifact["file"] for artifact in document["artifacts"]}:
        if file.endswith(".uint8.onnx"):
            del document["sizes"][file]
    (older / "manifest.json").write_text(json.dumps(document))
    return older


def test_uint8_frames_are_put_around_a_graph_that_is_written_out(
    sr_edge: SrEdge, older_bundle: Path, tmp_path: Path
) -> None:
    graph = tmp_path / "my model.onnx"
    words = command_of(
        sr_edge, older_bundle, "--precision", "int8", "--float-precision", "fp16", "--io", "uint8", "-o", graph
    )
    assert words[1] == f"--onnx={graph}"
    source = onnx.load(graph).graph.input[0].type.tensor_type
    assert source.elem_type == onnx.TensorProto.UINT8
    assert [dim.dim_value for dim in source.shape.dim] == [1, 24, 24, 3]


def test_json_has_the_words(sr_edge: SrEdge, bundle: Path) -> None:
    assert json.loads(sr_edge("export-trtexec", bundle, "--json").stdout)["command"][0] == "trtexec"


def test_the_bundles_own_files_stay(sr_edge: SrEdge, bundle: Path) -> None:
    before = (bundle / "model.onnx").read_bytes()
    outcome = sr_edge("export-trtexec", bundle, "--io", "uint8", "-o", bundle / "model.onnx")
    assert outcome.code == 2 and str(bundle / "model.onnx") in outcome.error and "-o" in outcome.error
    assert (bundle / "model.onnx").read_bytes() == before


def test_an_archive_needs_a_place_for_the_graph(sr_edge: SrEdge, bundle: Path, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "tiny"), "zip", bundle))
    outcome = sr_edge("export-trtexec", archive)
    assert outcome.code == 2 and str(archive) in outcome.error and "-o " in outcome.error
    assert command_of(sr_edge, archive, "-o", tmp_path / "model.onnx")[1] == f"--onnx={tmp_path / 'model.onnx'}"


def test_a_graph_that_must_be_made_first_needs_a_place(sr_edge: SrEdge, bundle: Path, older_bundle: Path) -> None:
    arguments = ("--precision", "int8", "--io", "uint8")
    assert command_of(sr_edge, bundle, *arguments)[1] == f"--onnx={bundle / 'model.int8.uint8.onnx'}"
    outcome = sr_edge("export-trtexec", older_bundle, *arguments)
    assert outcome.code == 2 and str(older_bundle) in outcome.error and "-o " in outcome.error


def test_an_unknown_release_is_wrong_usage(sr_edge: SrEdge, bundle: Path) -> None:
    outcome = sr_edge("export-trtexec", bundle, "--for", "tensorrt-8.6")
    assert outcome.code == 2 and "tensorrt-10.3" in outcome.error


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_dynamic_graph_gets_the_bundles_size(channels: int) -> None:
    shape = f"float[1,{channels},height,width]"
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g ({shape} input) => ({shape} output) {{ output = Relu(input) }}'
    )
    files = TrtexecFiles(Path("a.onnx"), Path("a.plan"), Path("t.cache"))
    release = find_release("tensorrt-10.3")
    words = build_trtexec_command(model, files, release, TileSpec(24, 32), FrameFormat.FLOAT_NCHW)
    assert f"--optShapes=input:1x{channels}x24x32" in words


def test_export_for_a_release_takes_what_its_parser_takes(sr_edge: SrEdge, tmp_path: Path) -> None:
    tiny = ("convnet-tiny", "--scale", "2", "--random-weights", "--tile", "24")
    assert sr_edge("export", *tiny, "--for", "tensorrt-10.3", "-o", tmp_path / "model.onnx").code == 0
    refused = sr_edge("export", *tiny, "--for", "tensorrt-8.6", "-o", tmp_path / "other.onnx")
    assert refused.code == 2 and "tensorrt-10.3" in refused.error
    assert not (tmp_path / "other.onnx").exists()


def test_every_graph_of_a_bundle_is_for_the_targets_that_read_its_activation_type(bundle: Path) -> None:
    from sr_edge.export import check_graph
    from sr_edge.export.checks.targets import readers_of

    with open_bundle(bundle) as opened:
        graphs = [item for item in opened.manifest.artifacts if item.kind is ArtifactKind.ONNX]
        for item in graphs:
            readers = readers_of(item.activation_type)
            assert check_graph(opened.file(item), readers, intended=readers) == (), item.file
        unsigned = [item for item in graphs if item.activation_type is ActivationType.UINT8]
        assert unsigned
        for item in unsigned:
            with raises(NotDeployable, wanted=(TENSORRT_RELEASES[0].name,)):
                require_deployable(opened.file(item), [TENSORRT_RELEASES[0].name])
