"""The options of a build: sizes, GPU, workspace, DLA, compatibility and the timing cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sr_edge.errors import (
    EngineError,
    RuntimeUnavailable,
    SrEdgeError,
    TileError,
    UnknownNameError,
    UsageError,
)
from sr_edge.runtimes.tensorrt.api import TensorRTLibrary, rtx_compute_capabilities
from sr_edge.runtimes.tensorrt.builder import build_engine
from sr_edge.runtimes.tensorrt.options import (
    SIZES_FORM,
    BuildOptions,
    Compatibility,
    SizeRange,
    compatibility_named,
)
from sr_edge.runtimes.tensorrt.store import notes_from_build
from sr_edge.spec import TileSpec
from tests.expected_errors import raises
from tests.runtimes.tensorrt.builds import FP16, INT8, SM86, built
from tests.runtimes.tensorrt.fake_tensorrt import DataType, FakeTensorRt, convolution_and_shuffle


def test_a_dynamic_graph_takes_one_tile_or_a_range(rtx: TensorRTLibrary, toys: Any) -> None:
    assert built(rtx, toys.dynamic(), tile=TileSpec(16, 24)).plan
    assert built(rtx, toys.dynamic(), sizes=SizeRange.parse("16,24,32x64")).plan
    with raises(UsageError, found=None, wanted=SIZES_FORM):
        built(rtx, toys.dynamic())
    with raises(UsageError, found="16x16,24x24,32x32"):
        built(rtx, toys.plain(), sizes=SizeRange.parse("16,24,32"))


@pytest.mark.parametrize("capability", ["8.7", "9.0"])
def test_a_gpu_that_it_does_not_build_for(rtx: TensorRTLibrary, toys: Any, capability: str) -> None:
    with raises(UsageError, found=capability, wanted=tuple(rtx_compute_capabilities(rtx))) as caught:
        build_engine(rtx, toys.plain(), BuildOptions(compute_capability=capability))
    assert "7.5, 8.0, 8.6" in str(caught.value.remedy)


def test_the_workspace_is_capped_and_stated(rtx: TensorRTLibrary, toys: Any) -> None:
    events: list[str] = []
    options = BuildOptions(compute_capability=SM86, workspace_bytes=64 << 20)
    engine = build_engine(rtx, toys.plain(), options, on_event=events.append)
    assert engine.workspace_bytes == 64 << 20
    assert "at least 0.1 MiB of device memory; the workspace is limited to 64 MiB (as requested)" in events[0]
    engine = build_engine(
        rtx, toys.plain(), BuildOptions(compute_capability=SM86), free_bytes=1 << 30, on_event=events.append
    )
    assert engine.workspace_bytes == 512 << 20
    assert "limited to 512 MiB (half of the 1,024 MiB that are free)" in events[1]


def test_a_workspace_that_is_too_small(rtx: TensorRTLibrary, toys: Any) -> None:
    with raises(EngineError, found=toys.plain().name) as caught:
        built(rtx, toys.plain(), workspace_bytes=1000)
    assert "--workspace" in str(caught.value.remedy)
    assert "workspace limit" in caught.value.problem and ".cpp" not in caught.value.problem  # TensorRT's own words


@pytest.mark.parametrize(
    ("choices", "found"),
    [
        ({"timing_cache": Path("times")}, Path("times")),
        ({"compatible": (Compatibility.VERSION,)}, Compatibility.VERSION),
        ({"compatible": (Compatibility.HARDWARE,)}, Compatibility.HARDWARE),
    ],
)
def test_what_rtx_has_not_is_refused_before_the_start(
    rtx: TensorRTLibrary, toys: Any, choices: dict[str, Any], found: object
) -> None:
    with raises(UsageError, found=found):
        build_engine(rtx, toys.plain(), BuildOptions(**choices))


def test_rtx_does_not_build_for_dla(rtx: TensorRTLibrary, toys: Any) -> None:
    with raises(UsageError, found=rtx.name, wanted="tensorrt 11.4.1 or newer"):
        build_engine(rtx, toys.half(), dla_options())


def test_tensorrt_builds_for_its_own_gpu_only(toys: Any) -> None:
    with raises(UsageError, found=SM86):
        built(FakeTensorRt().library(), toys.plain())


def dla_options(core: int = 0) -> BuildOptions:
    return BuildOptions(precision=FP16, dla_core=core)


def test_dla_names_the_layers_that_fell_back(toys: Any) -> None:
    trt = FakeTensorRt(network=convolution_and_shuffle(DataType.HALF), dla_cores=2, gpu_only=("shuffle0",))
    events: list[str] = []
    engine = build_engine(trt.library("11.4.1"), toys.half(), dla_options(1), on_event=events.append)
    config = trt.configs[0]
    assert (config.default_device_type, config.DLA_core) == ("DLA", 1)
    assert "GPU_FALLBACK" in config.flags
    assert engine.gpu_fallback_layers == ("shuffle0",)
    assert events[-1] == "1 of 2 layers fall back from DLA to the GPU: shuffle0"
    assert "1 of 2 layers fall back" in notes_from_build(engine).note


def test_dla_is_refused_below_its_version_and_without_a_core(toys: Any) -> None:
    half = convolution_and_shuffle(DataType.HALF)
    with raises(UsageError, found="tensorrt 10.3.0", wanted="tensorrt 11.4.1 or newer"):
        build_engine(FakeTensorRt(network=half).library("10.3.0"), toys.half(), dla_options())
    with raises(RuntimeUnavailable, found=1, wanted=range(1)):
        build_engine(FakeTensorRt(network=half, dla_cores=1).library("11.4.1"), toys.half(), dla_options(1))
    with raises(UsageError, found=INT8, wanted=FP16):
        BuildOptions(precision=INT8, dla_core=0)


def test_fp32_is_never_tf32(toys: Any) -> None:
    trt = FakeTensorRt()
    build_engine(trt.library(), toys.plain(), BuildOptions(optimization_level=5))
    assert trt.configs[0].flags == set()
    assert trt.configs[0].builder_optimization_level == 5


def test_compatibility_where_the_version_has_it(toys: Any) -> None:
    trt = FakeTensorRt()
    build_engine(trt.library(), toys.plain(), BuildOptions(compatible=tuple(Compatibility)))
    assert trt.configs[0].flags == {"VERSION_COMPATIBLE"}
    assert trt.configs[0].hardware_compatibility_level == "AMPERE_PLUS"


def test_the_timing_cache_is_read_and_extended(toys: Any, tmp_path: Path) -> None:
    trt, file = FakeTensorRt(), tmp_path / "times"
    for _ in range(2):
        build_engine(trt.library(), toys.plain(), BuildOptions(timing_cache=file))
    assert file.read_bytes() == b"+measured+measured"
    assert [config.cache for config in trt.configs] == [b"", b"+measured"]


@pytest.mark.parametrize("content", [b"damaged", b"of another device"])
def test_a_timing_cache_that_cannot_be_used_is_replaced_with_a_message(
    toys: Any, tmp_path: Path, content: bytes
) -> None:
    trt, file, events = FakeTensorRt(), tmp_path / "times", list[str]()
    file.write_bytes(content)
    build_engine(trt.library(), toys.plain(), BuildOptions(timing_cache=file), on_event=events.append)
    assert file.read_bytes() == b"+measured"
    assert any(f"{file} is damaged or was made by another TensorRT" in line for line in events)


def test_a_failed_build_leaves_the_timing_cache_alone(toys: Any, tmp_path: Path) -> None:
    file = tmp_path / "times"
    file.write_bytes(b"measured")
    trt = FakeTensorRt(plan=None)
    with pytest.raises(EngineError):
        build_engine(trt.library(), toys.plain(), BuildOptions(timing_cache=file))
    assert file.read_bytes() == b"measured"


@pytest.mark.parametrize(
    ("make", "error", "found"),
    [
        (lambda: BuildOptions(optimization_level=6), UsageError, 6),
        (lambda: BuildOptions(workspace_bytes=0), UsageError, 0),
        (lambda: BuildOptions(workspace_bytes=2 << 50), UsageError, 2 << 50),
        (lambda: BuildOptions(compute_capability="sm86"), UsageError, "sm86"),
        (lambda: SizeRange.parse("64,96"), TileError, "64,96"),
        (lambda: SizeRange.parse("64,32,96"), TileError, "64x64,32x32,96x96"),
        (lambda: SizeRange.parse("16,24,32").require(TileSpec(16, 33)), TileError, TileSpec(16, 33)),
        (lambda: compatibility_named("always"), UnknownNameError, "always"),
    ],
)
def test_wrong_choices(make: Any, error: type[SrEdgeError], found: object) -> None:
    with raises(error, found=found):
        make()
