"""Codecs by name: which are of the hardware, what a trial of each says, and what a crash or a hang takes down."""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction

import av
import pytest

from sr_edge.camera.media.codecs import (
    CodecKind,
    CodecTrial,
    CodecVerdict,
    hardware_codecs,
    is_hardware,
    require_works,
    try_codecs,
    video_codec,
)
from sr_edge.camera.media.encoder_settings import encodable_format, rate_control, require_encoder, require_opens
from sr_edge.camera.media.frame import PixelFormat
from sr_edge.errors import StreamError, UsageError
from tests.expected_errors import raises

DRIVER = """
import json, os, signal, sys, time
for trial in json.load(sys.stdin):
    if trial["name"] == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if trial["name"] == "exits":
        sys.exit(3)
    if trial["name"] == "hangs":
        time.sleep(3600)
    reason = "no device" if trial["name"] == "fails" else ""
    print(json.dumps({"works": not reason, "reason": reason}), flush=True)
"""
"""Stands in for the program that tries codecs."""


def encoder(name: str, **changes: object) -> CodecTrial:
    return CodecTrial(name, CodecKind.ENCODER, **changes)  # type: ignore[arg-type]


def decoder(name: str) -> CodecTrial:
    return CodecTrial(name, CodecKind.DECODER)


def test_a_driver_that_crashes_or_hangs_takes_down_no_other_trial() -> None:
    names = ["works", "crashes", "fails", "hangs", "exits", "also-works"]
    verdicts = try_codecs([encoder(name) for name in names], [sys.executable, "-c", DRIVER], limit_s=1.0)
    assert [(verdict.name, verdict.works) for verdict in verdicts] == [
        ("works", True),
        ("crashes", False),
        ("fails", False),
        ("hangs", False),
        ("exits", False),
        ("also-works", True),
    ]
    reasons = {verdict.name: verdict.reason for verdict in verdicts}
    assert "signal 11" in reasons["crashes"]
    assert reasons["fails"] == "no device"
    assert "within 1 s" in reasons["hangs"]
    assert "exit code 3" in reasons["exits"]


def test_software_codecs_pass_their_trial_and_wrong_options_do_not() -> None:
    trials = [
        encoder("libx264", width=64, height=48),
        encoder("mpeg4"),
        encoder("libx264", options={"crff": "20"}),
        encoder("libx264", pixel_format="rgb24"),
        decoder("h264"),
        decoder("mjpeg"),
        decoder("cinepak"),
    ]
    verdicts = try_codecs(trials)
    assert [verdict.works for verdict in verdicts] == [True, True, False, False, True, True, None]
    assert "crff" in verdicts[2].reason
    assert verdicts[-1].reason


def test_hardware_codecs_are_those_that_ffmpeg_marks() -> None:
    trials = hardware_codecs()
    assert all(is_hardware(av.Codec(trial.name, trial.kind.mode)) for trial in trials)
    names = {trial.name for trial in trials}
    assert not names & {"libx264", "libx265", "h264", "hevc", "mpeg4", "mjpeg"}
    for trial in trials:
        declared = {video_format.name for video_format in av.Codec(trial.name, trial.kind.mode).video_formats or ()}
        assert trial.kind is CodecKind.DECODER or not declared or trial.pixel_format in declared


@pytest.mark.parametrize("name", ["h264_nvencc", "h264", "aac", ""])
def test_a_name_that_is_no_video_encoder(name: str) -> None:
    with raises(StreamError, found=name) as caught:
        video_codec(name, CodecKind.ENCODER, "out.mp4")
    assert isinstance(caught.value.wanted, list)
    assert "libx264" in caught.value.wanted


def test_a_hardware_encoder_without_its_hardware_is_refused_with_the_reason(absent_encoder: CodecVerdict) -> None:
    with raises(StreamError, found=absent_encoder.reason) as caught:
        require_works(encoder(absent_encoder.name), "out.mp4")
    assert absent_encoder.name in caught.value.problem
    with raises(StreamError, found=absent_encoder.reason):
        require_opens(absent_encoder.name, PixelFormat.NV12, (64, 48), {}, "out.mp4")


@pytest.mark.parametrize(("codec", "options"), [("libx265", {"crff": "20"}), ("mpeg4", {"crf": "20"})])
def test_an_option_that_the_encoder_lacks(codec: str, options: dict[str, str]) -> None:
    with raises(StreamError, found=sorted(options)):
        require_opens(codec, PixelFormat.I420, (64, 48), options, "out.mp4")


@pytest.mark.parametrize(
    ("codec", "option", "value", "most"),
    [
        ("libx264", "crf", "999", 51),
        ("libx264", "crf", "-3", 51),
        ("libx264", "qp", "100", 81),
        ("libx264", "bf", "17", 16),
        ("libx265", "crf", "51.5", 51),
        ("libsvtav1", "crf", "64", 63),
        ("libvpx-vp9", "crf", "64", 63),
    ],
)
def test_a_value_out_of_its_range_is_refused_with_the_range(codec: str, option: str, value: str, most: int) -> None:
    """x264 takes the largest value instead, in silence; other encoders refuse some of them without a reason."""
    requirements: list[Callable[[], None]] = [
        lambda: require_encoder(codec, {option: value}, "out.mp4"),
        lambda: require_opens(codec, PixelFormat.I420, (64, 48), {option: value}, "out.mp4"),
    ]
    for require in requirements:
        with raises(UsageError, found=value, wanted=range(most + 1)):
            require()
    require_encoder(codec, {option: str(most)}, "out.mp4")


@pytest.mark.parametrize(
    ("codec", "options", "reason"),
    [
        ("libx264", {"preset": "nonsense"}, "nonsense"),
        ("libx264", {"crff": "20"}, "no option crff"),
        ("libsvtav1", {"preset": "99"}, "out of range [-2 - 13]"),
        ("mpeg4", {"qmin": "99"}, "out of range [-1 - 69]"),
    ],
)
def test_options_are_refused_before_the_frames_are_known(codec: str, options: dict[str, str], reason: str) -> None:
    with raises(StreamError, found=options) as caught:
        require_encoder(codec, options, "out.mp4")
    assert reason in caught.value.problem


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx265", {"profile": "main10"}),  # for 10 bits only
        ("libx264", {"profile": "high422"}),
        ("mjpeg", {"qmin": "2"}),  # refuses frames in the limited range, whatever the options
        ("dvvideo", {"threads": "1"}),  # takes a few sizes only
        ("libx264", {"g": "10", "preset": "fast"}),
    ],
)
def test_options_that_some_frames_need_are_not_refused_beforehand(codec: str, options: dict[str, str]) -> None:
    require_encoder(codec, options, "out.mp4")


@pytest.mark.parametrize("options", [{"crf": "abc"}, {"preset": "nonsense"}])
def test_a_refused_value_is_not_blamed_on_the_machine(options: dict[str, str]) -> None:
    with raises(StreamError, found=options, wanted="options that it accepts"):
        require_opens("libx264", PixelFormat.I420, (64, 48), options, "out.mp4")


@pytest.mark.parametrize(
    ("codec", "given", "encoded"),
    [
        ("libx264", PixelFormat.NV12, PixelFormat.NV12),
        ("mpeg4", PixelFormat.NV12, PixelFormat.I420),
        ("h264_qsv", PixelFormat.I420, PixelFormat.NV12),
        ("hevc_qsv", PixelFormat.I420_10, PixelFormat.P010),
        ("h264_qsv", PixelFormat.RGB, PixelFormat.NV12),
        ("h264_qsv", PixelFormat.GRAY, PixelFormat.NV12),
        ("h264_v4l2m2m", PixelFormat.NV12, PixelFormat.I420),
        ("h264_v4l2m2m", PixelFormat.RGB, PixelFormat.I420),
    ],
)
def test_the_format_is_one_that_the_encoder_takes(codec: str, given: PixelFormat, encoded: PixelFormat) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"{codec}: not in this build of FFmpeg")
    assert encodable_format(given, 64, 48, codec, "out.mp4") is encoded


@pytest.mark.parametrize(
    ("codec", "options", "added"),
    [
        ("libx264", {}, {"crf": "18"}),
        ("libx264", {"b": "1M"}, {}),
        ("libx265", {"crf": "30"}, {}),
        ("mpeg4", {}, {"b": str(640 * 360 * 30 // 5)}),
        ("mpeg4", {"qscale": "2"}, {}),
        ("ffv1", {}, {}),
        ("mjpeg", {}, {"b": str(640 * 360 * 30 * 2)}),
    ],
)
def test_quality_is_a_rate_factor_or_a_bit_rate_for_the_size(
    codec: str, options: dict[str, str], added: dict[str, str]
) -> None:
    assert rate_control(codec, options, 640, 360, Fraction(30)) == added
