"""`sr-edge upscale` with videos: its output, and the options that apply to videos only."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from sr_edge.camera.file.segments import frames_kept
from sr_edge.installation import how_to_install
from tests.camera.films import UNEVEN, Film, numbers_of, pts_of, shoot

SrEdge = Callable[..., Any]
"""The fixture of conftest.py; it gives code, stdout, stderr and the one error line."""

ON = ("--runtime", "onnxruntime")
SECOND_SEGMENT_IS_COMPLETE = re.compile(rb" (1[3-9]\d|[2-9]\d\d|1\d\d\d)/1500")


def test_a_video_becomes_a_video(sr_edge: SrEdge, bundle: Path, tmp_path: Path) -> None:
    source = shoot(tmp_path / "in.mp4", Film(UNEVEN, audio="aac"))
    outcome = sr_edge("upscale", bundle, source, tmp_path / "out.mp4", "--json", *ON)
    assert outcome.code == 0, outcome.stderr
    document = json.loads(outcome.stdout)
    assert document["session"]["ran"] == "fp32"
    assert document["video"].pop("reuse")["tiles"] > 0
    assert document["video"] == {
        "source": str(source),
        "target": str(tmp_path / "out.mp4"),
        "notes": [],
        "encoder": "libx264",
        "frames": 14,
        "resumed": 0,
        "width": 128,
        "height": 96,
        "format": "yuv420p",
        "copied": ["stream 1 (audio aac)"],
    }
    assert pts_of(tmp_path / "out.mp4") == pts_of(source)


@pytest.mark.parametrize(
    ("places", "argument"),
    [(("rtsp://me:geheim@h/x", "out.mp4"), "IN"), (("in.mp4", "rtsp://me:geheim@h/x.mp4"), "OUT")],
)
def test_an_address_is_sent_to_stream_and_not_printed(
    sr_edge: SrEdge, bundle: Path, places: tuple[str, str], argument: str
) -> None:
    outcome = sr_edge("upscale", bundle, *places, *ON)
    assert outcome.code == 2
    assert f"{argument} of `sr-edge upscale`" in outcome.error and "sr-edge stream" in outcome.error
    assert "geheim" not in outcome.stderr


def test_people_read_what_was_written_and_what_was_left_out(sr_edge: SrEdge, bundle: Path, tmp_path: Path) -> None:
    source = shoot(tmp_path / "in.mp4", Film(audio="aac"))
    outcome = sr_edge("upscale", bundle, source, tmp_path / "out.mp4", "--copy", "none", "--frames", "2:6", *ON)
    assert outcome.code == 0, outcome.stderr
    lines = outcome.stdout.splitlines()
    assert lines[0] == f"{source} -> {tmp_path / 'out.mp4'}: 4 frames of 128x96 yuv420p, libx264"
    assert lines[1].startswith("onnxruntime ")
    assert outcome.stderr.splitlines()[0] == "note: left out: stream 1 (audio aac)", "said before the work, and once"


@pytest.mark.parametrize("options", [(), ("--deinterlace",)])
def test_interlaced_video_is_reported_before_the_model_is_loaded(
    sr_edge: SrEdge, bundle: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    source = shoot(tmp_path / "in.mp4", Film(options={"x264-params": "tff=1"}))
    outcome = sr_edge("upscale", bundle, source, tmp_path / "out.mp4", *options, *ON, "--device", "nothing")
    assert outcome.code == 1
    assert "nothing" in outcome.error
    assert ("--deinterlace" in outcome.stderr) == (options == ())


def test_the_pixel_format_can_be_chosen(sr_edge: SrEdge, bundle: Path, tmp_path: Path) -> None:
    source = shoot(tmp_path / "in.mp4", Film(range(0, 6000, 3000)))
    outcome = sr_edge(
        "upscale", bundle, source, tmp_path / "out.mp4", "--pixel-format", "yuv444p", "--deinterlace", *ON
    )
    assert outcome.code == 0, outcome.stderr
    assert "2 frames of 128x96 yuv444p" in outcome.stdout


def test_a_folder_as_target_keeps_the_name(sr_edge: SrEdge, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    source = shoot(tmp_path / "in.mp4", Film())
    assert sr_edge("upscale", bundle, source, tmp_path / "large", *ON).code == 0
    assert pts_of(tmp_path / "large" / "in.mp4") == pts_of(source)


def test_codec_and_quality(sr_edge: SrEdge, bundle: Path, tmp_path: Path) -> None:
    source = shoot(tmp_path / "in.mp4", Film())
    for crf in ("12", "40"):
        done = sr_edge("upscale", bundle, source, tmp_path / f"{crf}.mkv", "--codec", "h265", "--crf", crf, *ON)
        assert ", libx265" in done.stdout
    assert (tmp_path / "12.mkv").stat().st_size > (tmp_path / "40.mkv").stat().st_size


def test_an_encoder_by_its_name_with_an_option(sr_edge: SrEdge, bundle: Path, tmp_path: Path) -> None:
    source, out = shoot(tmp_path / "in.mp4", Film(range(12), Fraction(1, 30))), tmp_path / "out.mp4"
    done = sr_edge("upscale", bundle, source, out, "--codec", "mpeg4", "--encode", "b=300k", "--json", *ON)
    assert done.code == 0, done.stderr
    video = json.loads(done.stdout)["video"]
    assert (video["encoder"], video["notes"]) == ("mpeg4", [])
    assert pts_of(out) == pts_of(source)


def test_a_decoder_by_its_name(sr_edge: SrEdge, bundle: Path, tmp_path: Path) -> None:
    source = shoot(tmp_path / "in.mp4", Film(range(12), Fraction(1, 30)))
    own, named = tmp_path / "own.mp4", tmp_path / "named.mp4"
    choices: list[tuple[Path, tuple[str, ...]]] = [(own, ()), (named, ("--decoder", "h264"))]
    for out, options in choices:
        done = sr_edge("upscale", bundle, source, out, *options, *ON)
        assert done.code == 0, done.stderr
    assert named.read_bytes() == own.read_bytes()


@pytest.mark.parametrize(("decoder", "value"), [("hevc", "h264 video"), ("h264_nosuch", "decoder h264_nosuch")])
def test_a_decoder_that_cannot_decode_the_video_is_refused(
    sr_edge: SrEdge, bundle: Path, tmp_path: Path, decoder: str, value: str
) -> None:
    source = shoot(tmp_path / "in.mp4", Film())
    done = sr_edge("upscale", bundle, source, tmp_path / "out.mp4", "--decoder", decoder, *ON)
    assert done.code == 1 and value in done.error
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    ("options", "values"),
    [
        (("--codec", "divx"), ("'divx'", "h264, h265, vp9, av1")),
        (("--codec", "libvorbis"), ("'libvorbis'", "h264, h265, vp9, av1")),
        (("--codec", "prores_ks"), ("prores_ks", ".mp4")),
        (("--encode", "crf"), ("'crf'", "NAME=VALUE")),
        (("--encode", "crf=5", "--encode", "crf=6"), ("'crf=6'", "second time")),
        (("--encode", "crf=5", "--crf", "6"), ("--crf 6", "crf=5")),
        (("--copy", "video"), ("'video'", "all, audio, none")),
        (("--frames", "10"), ("'10'", "FIRST:END")),
        (("--reuse", "often"), ("'often'", "off, exact, or a number of decibels")),
        (("--reuse", "0.05"), ("0.05 dB", "sr-edge deploy")),
        (("--reuse", "-1"), ("'-1'", "off, exact, or a number of decibels")),
        (("--reuse", "nan"), ("'nan'", "off, exact, or a number of decibels")),
        (("--crf", "90"), ("--crf 90", "h264", "51")),
        (("--codec", "libx264", "--crf", "999"), ("crf=999", "libx264", "51")),
        (("--encode", "crf=999"), ("crf=999", "libx264", "51")),
        (("--pixel-format", "yuv999p"), ("'yuv999p'", "yuv420p, nv12")),
        (("--pixel-format", "rgb24"), ("rgb24", "--pixel-format yuv420p")),
    ],
)
def test_values_that_are_refused(
    sr_edge: SrEdge, bundle: Path, tmp_path: Path, options: tuple[str, str], values: tuple[str, ...]
) -> None:
    source = shoot(tmp_path / "in.mp4", Film())
    outcome = sr_edge("upscale", bundle, source, tmp_path / "out.mp4", *options, *ON)
    assert outcome.code == 2
    assert [value for value in values if value not in outcome.error] == [], outcome.error
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize(
    "option",
    [
        ("--frames", "1:2"),
        ("--codec", "h264"),
        ("--crf", "20"),
        ("--encode", "crf=20"),
        ("--copy", "none"),
        ("--pixel-format", "yuv420p"),
        ("--deinterlace",),
        ("--reuse", "exact"),
        ("--reuse-memory", "1G"),
        ("--decoder", "h264"),
    ],
)
def test_options_of_videos_are_not_for_pictures(
    sr_edge: SrEdge, bundle: Path, pictures: Path, tmp_path: Path, option: tuple[str, ...]
) -> None:
    for source in (pictures, pictures / "waves0.png"):
        out = tmp_path / ("out" if source.is_dir() else "out.png")
        outcome = sr_edge("upscale", bundle, source, out, *option, *ON)
        assert outcome.code == 2
        assert option[0] in outcome.error and str(source) in outcome.error


def still_scene(path: Path) -> Path:
    """A video of 96x80 pixels with noise that stands still, before which a bright square moves."""
    noise = np.random.default_rng(0).integers(60, 200, (80, 96, 3)).astype(np.uint8)
    with av.open(path, "w") as out:
        video: Any = out.add_stream("libx264", rate=30, options={"crf": "30"})
        video.width, video.height, video.pix_fmt = 96, 80, "yuv420p"
        for number in range(9):
            picture = noise.copy()
            picture[4:12, 4 + 2 * number : 12 + 2 * number] = 250
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(video.encode(None))
    return path


def test_reuse_does_not_change_a_video(sr_edge: SrEdge, bundle: Path, tmp_path: Path) -> None:
    source = still_scene(tmp_path / "in.mp4")
    said = {}
    for name, options in {
        "off": ("--reuse", "off"),
        "exact": (),
        "little": ("--reuse-memory", "1K"),
    }.items():
        outcome = sr_edge("upscale", bundle, source, tmp_path / f"{name}.mp4", *options, *ON)
        assert outcome.code == 0, outcome.stderr
        said[name] = outcome.stdout
    written = [(tmp_path / f"{name}.mp4").read_bytes() for name in said]
    assert written[0] == written[1] == written[2]
    assert "of the tiles reused" in said["exact"]
    assert "reused" not in said["off"]
    assert "note: no tiles were reused: the tiles of one frame need" in said["little"]


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty (0 bytes)"), (b"\1\2\3" * 3000, "it is damaged, empty or not a video")]
)
def test_what_is_no_video_is_one_line(
    sr_edge: SrEdge, bundle: Path, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "in.mp4").write_bytes(content)
    outcome = sr_edge("upscale", bundle, tmp_path / "in.mp4", tmp_path / "out.mp4", *ON)
    assert outcome.code == 1
    assert message in outcome.error
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_ctrl_c_says_what_is_kept_and_the_same_command_goes_on(bundle: Path, tmp_path: Path) -> None:
    """In a process of its own: the signal comes when its first parts are there."""
    source = shoot(tmp_path / "in.mp4", Film(range(0, 1500 * 3000, 3000)))
    target = tmp_path / "out.mp4"
    command = [sys.executable, "-m", "sr_edge", "upscale", str(bundle), str(source), str(target), *ON]
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": "200"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) as running:
        assert running.stderr is not None
        said = b""
        while not SECOND_SEGMENT_IS_COMPLETE.search(said) and (more := os.read(running.stderr.fileno(), 4096)):
            said += more
        running.send_signal(signal.SIGINT)
        stderr = (said + running.stderr.read()).decode()
    assert running.returncode == 130, stderr
    kept = re.search(r"(\d+) frames are kept beside .*out\.mp4; run the same command to continue after them", stderr)
    assert kept is not None and int(kept[1]) == frames_kept(target) >= 120
    assert not target.exists()
    assert stderr.endswith("sr-edge: interrupted\n")
    assert sorted(path.suffix for path in (tmp_path / "out.mp4.segments").iterdir() if path.name.startswith(".")) == []


def test_progress_tells_how_many_frames_there_are(
    sr_edge: SrEdge, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = shoot(tmp_path / "in.mp4", Film(range(0, 12 * 3000, 3000)))  # its header has the number of frames
    monkeypatch.setenv("FORCE_COLOR", "1")
    outcome = sr_edge("upscale", bundle, source, tmp_path / "out.mkv", *ON)
    assert outcome.code == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", outcome.stderr)
    counts = [(int(done), int(total)) for done, total in re.findall(r"in\.mp4 [^\r]*? (\d+)/(\d+)", plain)]
    assert counts, plain
    assert {total for _, total in counts} == {12}, plain
    assert all(done < 12 for done, _ in counts), "a bar ends with its stage"
    assert numbers_of(tmp_path / "out.mkv") == list(range(12))


def test_pictures_do_not_need_the_library_of_videos(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    without = "import sys; sys.modules['av'] = None; from sr_edge.cli import main; main()"
    command = [sys.executable, "-c", without, "upscale", str(bundle)]
    picture = subprocess.run([*command, str(pictures / "waves0.png"), str(tmp_path / "out.png"), *ON], check=False)
    assert picture.returncode == 0
    source = shoot(tmp_path / "in.mp4", Film())
    video = subprocess.run([*command, source, tmp_path / "out.mp4", *ON], capture_output=True, text=True, check=False)
    assert video.returncode == 1
    advice = f"run: {how_to_install('camera')}"
    assert video.stderr == f"sr-edge: this command needs the package av, which is not installed; {advice}\n"
