"""`sr-edge stream`: what it writes, shows and counts; signals; and each kind of bad input as one line."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import av
import pytest

from sr_edge.camera.media.codecs import CodecVerdict
from sr_edge.camera.pipeline.statistics import StreamReport, StreamStatistics
from sr_edge.cli.run.stream_display import live_line, summary
from sr_edge.frames import Region
from sr_edge.runtimes.measure.sensors import Readings
from sr_edge.upscaler.reuse import FrameReuse, ReuseStatistics
from tests.camera.clips import HEIGHT, WIDTH, read_clip, times_of, write_clip
from tests.camera.fakes import TIMEOUT_S, eventually
from tests.camera.test_network import camera, free_port
from tests.command_line import SrEdge

SR_EDGE = Path(sys.executable).with_name("sr-edge")
COUNT = 8
ON = ("--runtime", "onnxruntime")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", range(0, 3000 * COUNT, 3000), audio_s=0.2)


def stream_in_a_process(*arguments: str | Path, **settings: Any) -> subprocess.CompletedProcess[Any]:
    """Runs the command in a process of its own, whose standard input and output are pipes."""
    command = [str(SR_EDGE), "stream", *map(str, arguments), "--runtime", "onnxruntime"]
    return subprocess.run(command, capture_output=True, check=False, **{"text": True, **settings})


def error_of(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if line.startswith("sr-edge: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


def test_a_file_into_a_file(sr_edge: SrEdge, clip: Path, bundle: Path, tmp_path: Path) -> None:
    out, figures = tmp_path / "out.mp4", tmp_path / "figures.json"
    done = sr_edge("stream", bundle, clip, out, *ON, "--stats-json", figures, "--json")
    assert done.code == 0, done.stderr
    assert times_of(read_clip(out)) == times_of(read_clip(clip))
    document = json.loads(done.stdout)
    report = document["stream"]
    assert (report["frames_in"], report["frames_out"], report["dropped"]) == (COUNT, COUNT, 0)
    assert document["policy"] == "block"
    assert document["session"]["ran"] == "fp32"
    assert set(report["latency"]) == {"count", "mean_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms"}
    written = json.loads(figures.read_text(encoding="utf-8"))
    assert (written["policy"], written["session"]) == (document["policy"], document["session"])
    assert {name: written[name] for name in report if not name.endswith(("_c", "_w"))} == {
        name: value for name, value in report.items() if not name.endswith(("_c", "_w"))
    }
    assert (report["input_size"], report["output_size"]) == ([WIDTH, HEIGHT], [2 * WIDTH, 2 * HEIGHT])
    assert (
        report["reuse"]["tiles"] > 0 and report["reused_share"] == report["reuse"]["reused"] / report["reuse"]["tiles"]
    )


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ((), "tiles reused ("),
        (("--reuse-memory", "1K"), "no tiles reused: those of one frame need "),
        (("--reuse", "off"), None),
    ],
)
def test_the_summary_says_what_was_reused(
    sr_edge: SrEdge, clip: Path, bundle: Path, options: tuple[str, ...], line: str | None
) -> None:
    done = sr_edge("stream", bundle, clip, "null", *ON, *options)
    assert done.code == 0, done.stderr
    lines = [text for text in done.stdout.splitlines() if "reused" in text]
    assert len(lines) == (line is not None)
    assert all(str(line) in text for text in lines)
    assert max(map(len, lines), default=0) <= 80
    assert sum("no tiles are reused" in text for text in done.stderr.splitlines()) == (
        options[:1] == ("--reuse-memory",)
    )


def test_nv12_frames_are_converted_in_the_graph(sr_edge: SrEdge, clip: Path, bundle: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    done = sr_edge("stream", bundle, clip, "null", *ON, "--nv12", "--stats-json", figures)
    assert done.code == 0, done.stderr
    assert json.loads(figures.read_text(encoding="utf-8"))["events"] == []
    limited = write_clip(tmp_path / "clip.mkv", [0, 3000], codec="ffv1", pixel_format="yuv444p")
    done = sr_edge("stream", bundle, limited, "null", *ON, "--nv12", "--stats-json", figures)
    assert done.code == 0, done.stderr
    (event,) = json.loads(figures.read_text(encoding="utf-8"))["events"]
    assert "yuv444p" in event


def test_figures_that_find_no_room_do_not_cost_the_summary(clip: Path, bundle: Path, tmp_path: Path) -> None:
    program = """
import resource, signal, sys
from sr_edge.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
sys.exit(main())
"""
    figures = tmp_path / "figures.json"
    arguments = ["stream", bundle, clip, "null", "--runtime", "onnxruntime", "--stats-json", figures]
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert os.strerror(errno.EFBIG) in error_of(done)
    assert "frames in, " in done.stdout
    assert not figures.exists()


def test_figures_that_may_not_be_written(bundle: Path, tmp_path: Path, bound_by_rights: list[str]) -> None:
    figures = tmp_path / "figures.json"
    figures.touch(mode=0o000)
    command = [*bound_by_rights, str(SR_EDGE), "stream", str(bundle), "test:64x48@30", "null"]
    done = subprocess.run([*command, "--stats-json", str(figures)], capture_output=True, text=True, check=False)
    assert str(figures) in error_of(done)


def test_standard_input_is_called_so(bundle: Path) -> None:
    done = stream_in_a_process(bundle, "-", "null", input="")
    assert error_of(done).startswith("sr-edge: standard input: ")


def test_raw_frames_in_and_out(bundle: Path) -> None:
    frame = bytes(range(256)) * (WIDTH * HEIGHT * 3 // 2 // 256)
    raw = f"nv12:{WIDTH}x{HEIGHT}@30"
    done = stream_in_a_process(bundle, "-", "-", "--raw", raw, input=frame * 3, text=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) == 3 * 4 * len(frame)
    assert done.stdout[: 4 * len(frame)] == done.stdout[-4 * len(frame) :]
    assert b"3 frames in, 3 out" in done.stderr


def test_options_reach_the_loop(sr_edge: SrEdge, clip: Path, bundle: Path) -> None:
    patient = ("--policy", "drop-late 1000000", "--fallback", "bicubic", "--max-latency-ms", "1000000")
    done = sr_edge("stream", bundle, clip, "null", *ON, "--roi", "0,0,32,24", "--every", "4", *patient, "--json")
    assert done.code == 0, done.stderr
    report = json.loads(done.stdout)["stream"]
    assert (report["bicubic_frames"], report["fallback_frames"], report["frames_out"]) == (COUNT - COUNT // 4, 0, COUNT)
    counts = {name: times["count"] for name, times in report["latencies"].items()}
    assert counts == {"model": COUNT // 4, "bicubic": COUNT - COUNT // 4}
    assert (report["stages"]["infer"]["count"], report["stages"]["bicubic"]["count"]) == tuple(counts.values())


def started_stream(*arguments: str | Path) -> subprocess.Popen[str]:
    """A stream in a process of its own that has upscaled its first frame."""
    command = [str(SR_EDGE), "stream", *map(str, arguments), "--runtime", "onnxruntime"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "errors": "replace"}
    process: subprocess.Popen[str] = subprocess.Popen(command, **pipes)
    assert process.stderr is not None
    while (line := process.stderr.readline()) and not line.startswith("in "):
        pass
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
def test_a_signal_ends_it_as_the_end_of_the_source_does(bundle: Path, tmp_path: Path, number: int) -> None:
    out, figures = tmp_path / "out.mp4", tmp_path / "figures.json"
    with started_stream(bundle, "test:64x48@30", out, "--stats-json", figures) as process:
        process.send_signal(number)
        shown, said = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, said
    assert "64x48 -> 128x96" in shown
    assert len(read_clip(out)) == json.loads(figures.read_text(encoding="utf-8"))["frames_out"] > 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"])
def test_a_second_signal_ends_it_at_once(bundle: Path, number: int, code: int) -> None:
    """Nobody reads the output: the stream cannot end by itself."""
    with started_stream(bundle, "test:64x48@30", "-") as process:
        process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.6)
        process.send_signal(number)
        assert process.wait(TIMEOUT_S) == code
        process.communicate()


def test_a_duration_ends_it_as_the_end_of_the_source_does(sr_edge: SrEdge, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    done = sr_edge("stream", bundle, "test:64x48@30", out, *ON, "--duration", "0.5", "--json")
    assert done.code == 0, done.stderr
    assert 0 < json.loads(done.stdout)["stream"]["frames_out"] == len(read_clip(out))


@pytest.mark.parametrize("duration", ["0", "-1", "nan", "inf", "1e30", "soon"])
def test_nonsense_is_no_duration(sr_edge: SrEdge, bundle: Path, duration: str) -> None:
    done = sr_edge("stream", bundle, "test:64x48@30", "null", "--duration", duration)
    assert done.code == 2
    assert "--duration" in done.error


def test_the_loss_of_a_camera_is_among_the_figures(bundle: Path, tmp_path: Path) -> None:
    url, figures = f"rtsp://127.0.0.1:{free_port()}/live", tmp_path / "figures.json"
    listening = ("--read", "rtsp_flags=listen", "--read", "listen_timeout=3", "--give-up-s", "0")
    command: list[str | Path] = [SR_EDGE, "stream", bundle, url, "null", *listening, "--stats-json", figures]
    with camera(url) as sender:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        with process:
            eventually(lambda: figures.exists() and json.loads(figures.read_text(encoding="utf-8"))["frames_out"] > 0)
            sender.kill()
            _, said = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert f"sr-edge: {url}: " in said
    events = json.loads(figures.read_text(encoding="utf-8"))["events"]
    assert events[0] == f"{url} was lost: the stream ended; reconnecting"
    assert events[0] in said


BAD: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    (("absent.mp4", "null"), ("absent.mp4",)),
    (("", "null"), ("source", "/dev/video0")),
    (("empty.mp4", "null"), ("empty.mp4", "0 bytes")),
    (("text.mp4", "null"), ("text.mp4: Invalid data",)),
    (("/dev/video99", "null"), ("/dev/video99", "camera")),
    (("rtsp://me:hunter2@127.0.0.1:1/x", "null"), ("rtsp://***@127.0.0.1:1/x: Connection refused",)),
    (("srt+x://me:hunter2@h/x", "null"), ("srt+x://***@h/x: ", "/dev/video0")),
    (("CLIP", "out.txt"), ("out.txt", ".mp4 .mov")),
    (("CLIP", "absent/out.mp4"), ("absent",)),
    (("CLIP", "CLIP"), ("clip.mp4", "source", "sink")),
    (("CLIP", "null", "--stats-json", "CLIP"), ("--stats-json", "clip.mp4", "source")),
    (("CLIP", "out.mp4", "--stats-json", "./out.mp4"), ("--stats-json", "out.mp4", "sink")),
    (("link.mp4", "null", "--stats-json", "CLIP"), ("--stats-json", "clip.mp4", "source")),
    (("CLIP", "null", "--fallback", "text.mp4", "--stats-json", "text.mp4"), ("--stats-json", "text.mp4", "fallback")),
    (("CLIP", "null", "--policy", "newest"), ("policy 'newest'", "latest", "block", "drop-late")),
    (("CLIP", "null", "--roi", "1,1,4,4"), ("1,1,4,4", "0,0,4,4", "yuv420p")),
    (("CLIP", "null", "--roi", "0,0,400,4"), ("0,0,400,4", "64x48")),
    (("CLIP", "null", "--max-latency-ms", "50"), ("--max-latency-ms", "--fallback")),
    (("CLIP", "null", "--reuse", "sometimes"), ("'sometimes'", "off, exact, or a number of decibels")),
    (("CLIP", "null", "--reuse", "-1"), ("'-1'", "off, exact, or a number of decibels")),
    (("CLIP", "null", "--reuse", "900"), ("900 dB", "at most")),
    (("CLIP", "null", "--reuse-memory", "lots"), ("'lots'", "256M")),
    (("CLIP", "null", "--reuse", "off", "--reuse-memory", "1G"), ("--reuse-memory", "--reuse off")),
    (("CLIP", "null", "--fallback", "absent.sredge"), ("absent.sredge",)),
    (("CLIP", "null", "--fallback", "bicubic", "--max-latency-ms", "0"), ("latency", "0 ms")),
    (("gst:videotestsrc", "null"), ("PyGObject", "docs/camera.md")),
    (("CLIP", "-", "--json"), ("--json", "--stats-json FILE")),
    (("-", "null", "--raw", "nv12"), ("'nv12'", "FORMAT:WIDTHxHEIGHT@RATE")),
    (("CLIP", "null", "--read", "framerate"), ("'framerate'", "NAME=VALUE")),
    (("CLIP", "null", "--read", "framrate=30"), ("framrate; ", "framerate?")),
    (("CLIP", "null", "--read", "crf=30"), ("crf; ", "video_size")),
    (("test:64x48@30", "null", "--read", "framerate=30"), ("(framerate)", "test:64x48@30")),
    (("gst:videotestsrc", "null", "--read", "framerate=30"), ("(framerate)", "gst:videotestsrc")),
    (("-", "null", "--raw", "nv12:4x4@30", "--read", "framerate=30"), ("(framerate)", " -,")),
    (("CLIP", "null", "--encode", "crf=30"), ("encoder", "null")),
    (("CLIP", "null", "--codec", "libx265"), ("encoder", "null")),
    (("CLIP", "null", "--codec", "libx264"), ("encoder", "null")),
    (("CLIP", "-", "--pixel-format", "yuv444p"), ("encoder", "sink -")),
    (("CLIP", "out.mp4", "--encode", "crf=18", "--encode", "crf=20"), ("'crf=20'", "second time")),
    (("CLIP", "null", "--pixel-format", "yuv444p"), ("encoder", "null")),
    (("CLIP", "out.mp4", "--pixel-format", "yuv999p"), ("'yuv999p'", "yuv444p")),
    (("CLIP", "out.mp4", "--pixel-format", "rgb24"), ("rgb24", "libx264", "--pixel-format yuv420p")),
    (("gst:videotestsrc", "null", "--deinterlace"), ("--deinterlace", "gst:videotestsrc")),
    (("CLIP", "null", "--rate", "0"), ("'0'", "30000/1001")),
    (("CLIP", "null", "--rate", "10"), (" 10 ", " 30,", "clip.mp4")),
    (("test:64x48@30", "null", "--rate", "10"), ("--rate 10", "test:64x48@30")),
    (("CLIP", "out.mp4", "--timecode"), ("--timecode", "live", "clip.mp4")),
    (("test:64x48@30", "null", "--timecode"), ("--timecode", ".mp4, .mov, .mkv")),
    (("CLIP", "null", "--decoder", "hevc"), ("clip.mp4", "h264", "hevc")),
    (("CLIP", "null", "--decoder", "h264_nosuch"), ("decoder h264_nosuch",)),
    (("-", "null", "--raw", "nv12:4x4@30", "--decoder", "h264"), ("--decoder", " - ")),
    (("CLIP", "out.mp4", "--codec", "mpeg4", "--encode", "crf=18"), ("mpeg4", "crf")),
    (("CLIP", "out.mp4", "--codec", "h266"), ("encoder h266", "libx264", "libx265")),
    (("CLIP", "out.mp4", "--encode", "crff=20"), ("libx264", "crff")),
    (("CLIP", "out.mp4", "--encode", "crf=999"), ("libx264", "crf=999", "from 0 to 51")),
    (("CLIP", "out.mp4", "--encode", "preset=nonsense"), ("libx264", "nonsense")),
    (("CLIP", "rtsp://127.0.0.1:1/x"), ("rtsp://127.0.0.1:1/x: Connection refused",)),
    (("lavfi:testsrc2=size=64x48,format=rgb4", "null"), ("pixel format rgb4", "yuv420p")),
]


@pytest.mark.parametrize(("arguments", "values"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input(
    clip: Path,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    values: tuple[str, ...],
    capfd: pytest.CaptureFixture[str],
) -> None:
    from sr_edge.cli.app import app
    from sr_edge.cli.failures import run_command

    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_bytes(b"hello, I am a text file " * 50)
    (tmp_path / "link.mp4").symlink_to(clip)
    given = [str(clip) if argument == "CLIP" else argument for argument in arguments]
    code = run_command(app, ["stream", str(bundle), *given, "--runtime", "onnxruntime"])
    assert code in (1, 2)
    said = capfd.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith("sr-edge: ")]
    assert len(lines) == 1
    assert [value for value in values if value not in lines[0]] == [], lines[0]
    if "--json" in given:
        assert json.loads(said.out).keys() == {"error"}
    else:
        assert said.out == "", "no summary of a stream that did nothing"
    assert "hunter2" not in lines[0]
    assert len(read_clip(clip)) == COUNT


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (("stream", "MODEL", "CLIP", "out.mp4", "--codec", "h266"), "h266"),
        (("stream", "MODEL", "CLIP", "out.mp4", "--encode", "crf=999"), "crf=999"),
        (("stream", "MODEL", "CLIP", "out.mp4", "--encode", "preset=nonsense"), "nonsense"),
        (("stream", "MODEL", "CLIP", "out.txt"), "out.txt"),
        (("stream", "MODEL", "CLIP", "nfs://host/x"), "nfs://"),
        (("stream", "MODEL", "CLIP", "absent/out.mp4"), "absent"),
        (("stream", "MODEL", "test:64x48@30", "null", "--rate", "10"), "--rate 10"),
        (("stream", "MODEL", "test:64x48@30", "out.ts", "--timecode"), "--timecode"),
        (("stream", "MODEL", "CLIP", "null", "--decoder", "h264_nosuch"), "h264_nosuch"),
        (("stream", "MODEL", "absent.mp4", "null"), "absent.mp4"),
        (("stream", "MODEL", "nfs://host/x", "null"), "nfs://"),
        (("preview", "MODEL", "CLIP", "--port", "0", "--decoder", "h264_nosuch"), "h264_nosuch"),
        (("preview", "MODEL", "absent.mp4", "--port", "0"), "absent.mp4"),
        (("preview", "MODEL", "test:64x48@30", "--port", "0", "--rate", "10"), "--rate 10"),
        (("preview", "MODEL", "CLIP", "--port", "0", "--rate", "0"), "'0'"),
        (("upscale", "MODEL", "CLIP", "out.mp4", "--decoder", "h264_nosuch"), "h264_nosuch"),
        (("upscale", "MODEL", "CLIP", "out.mp4", "--codec", "h266"), "h266"),
        (("upscale", "MODEL", "CLIP", "out.mp4", "--codec", "h264", "--encode", "crf=999"), "crf=999"),
        (("upscale", "MODEL", "CLIP", "out.mp4", "--codec", "libx264", "--crf", "999"), "crf=999"),
        (("upscale", "MODEL", "CLIP", "out.mp4", "--codec", "h265", "--encode", "preset=nonsense"), "nonsense"),
        (("upscale", "MODEL", "CLIP", "out.avi"), "out.avi"),
        (("upscale", "MODEL", "absent.mp4", "out.mp4"), "absent.mp4"),
    ],
    ids=" ".join,
)
def test_what_is_wrong_without_a_model_is_refused_before_it_is_read(
    sr_edge: SrEdge,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    value: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "model.onnx"
    model.write_bytes(b"no model")
    places = {"MODEL": model, "CLIP": clip}
    done = sr_edge(*(places.get(argument, argument) for argument in arguments))
    assert done.code in (1, 2)
    assert value in done.error and "model.onnx" not in done.error, done.error
    assert list(tmp_path.iterdir()) == [model]


@pytest.mark.parametrize(
    ("size", "part", "refused"),
    [
        ("8200x16", (), "16400x32"),
        ("64x48", ("--codec", "mpeg4", "--roi", "0,0,64,48"), ""),
        ("8200x16", ("--roi", "0,0,64,16"), ""),
        ("8200x16", ("--roi", "0,0,8196,16"), "16392x32"),
    ],
)
def test_a_scale_that_the_sink_does_not_support_is_refused_before_the_model_runs(
    sr_edge: SrEdge, bundle: Path, tmp_path: Path, size: str, part: tuple[str, ...], refused: str
) -> None:
    figures = tmp_path / "figures.json"
    graph = f"lavfi:color=size={size}:rate=2:duration=1,format=yuv420p"
    done = sr_edge("stream", bundle, graph, tmp_path / "out.mp4", *ON, "--stats-json", figures, *part)
    stages = json.loads(figures.read_text(encoding="utf-8"))["stages"]
    if refused:
        assert (done.code, done.stdout, "infer" in stages) == (1, "", False)
        assert f" {refused}," in done.error
        assert "libx264" in done.error
        assert "16384" in done.error
        assert not (tmp_path / "out.mp4").exists()
    else:
        assert (done.code, stages["infer"]["count"]) == (0, 2), done.stderr


def test_a_hardware_encoder_that_does_not_work_is_refused_before_the_model_runs(
    sr_edge: SrEdge, bundle: Path, clip: Path, tmp_path: Path, absent_encoder: CodecVerdict
) -> None:
    figures = tmp_path / "figures.json"
    out = tmp_path / "out.mp4"
    done = sr_edge("stream", bundle, clip, out, *ON, "--codec", absent_encoder.name, "--stats-json", figures)
    assert (done.code, done.stdout) == (1, "")
    assert absent_encoder.name in done.error and absent_encoder.reason in done.error
    assert "infer" not in json.loads(figures.read_text(encoding="utf-8"))["stages"]
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


def test_a_recording_with_codec_decoder_and_timecode(sr_edge: SrEdge, bundle: Path, clip: Path, tmp_path: Path) -> None:
    out, before = tmp_path / "out.mkv", datetime.now(timezone.utc)
    options = ("--pace", "--policy", "block", "--decoder", "h264", "--codec", "mpeg4", "--timecode")
    done = sr_edge("stream", bundle, clip, out, *ON, *options)
    assert done.code == 0, done.stderr
    with av.open(out) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
        created = datetime.fromisoformat(container.metadata["creation_time"].replace("Z", "+00:00"))
        timecode = container.streams.video[0].metadata["TIMECODE"]
    assert before - timedelta(milliseconds=1) <= created <= datetime.now(timezone.utc)
    assert timecode.rpartition(":")[0] == f"{created:%H:%M:%S}"


def test_a_model_that_hangs_does_not_keep_the_process(bundle: Path, tmp_path: Path) -> None:
    """The engine never comes back, and its threads are none that the interpreter would leave behind."""
    figures = tmp_path / "figures.json"
    program = f"""
import functools, json, pathlib, sys, threading
import onnxruntime
import sr_edge.camera
figures = pathlib.Path({str(figures)!r})
run = onnxruntime.InferenceSession.run_with_iobinding
def hanging(self, *arguments):
    if figures.exists() and json.loads(figures.read_text(encoding="utf-8"))["frames_out"]:
        threading.Event().wait()
    run(self, *arguments)
onnxruntime.InferenceSession.run_with_iobinding = hanging
sr_edge.camera.LoopOptions = functools.partial(sr_edge.camera.LoopOptions, stage_timeout_s=0.5)
sys.argv = ["sr-edge", "stream", {str(bundle)!r}, "test:64x48@30", {str(tmp_path / "out.mp4")!r}]
sys.argv += ["--runtime", "onnxruntime", "--roi", "0,0,40,32", "--stats-json", str(figures)]
from sr_edge.cli import main
main()
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
        env=environment,
    )
    assert done.returncode == 1, done.stderr
    assert error_of(done).startswith("sr-edge: the model (onnxruntime fp32) ")
    assert "frames in" in done.stdout, "what it did until then is shown all the same"


def a_report(upscalers: tuple[str, ...] = ("model",)) -> StreamReport:
    statistics = StreamStatistics()
    for upscaler in upscalers:
        statistics.record_input(1.0)
        statistics.record_stage("infer", 8.0)
        statistics.record_output(12.0, upscaler)
    statistics.record_sizes((640, 360), (1280, 720))
    statistics.increment("failed")
    report = statistics.report(dropped=2, queued=1, reconnections=1)
    return replace(report, recent_fps_in=30.0, recent_fps_out=30.0)


def test_the_live_line_and_the_summary() -> None:
    assert "in 0.0/s out 0.0/s | dropped 2" in live_line(StreamStatistics().report(dropped=2))
    line = live_line(a_report(), Readings(54.4, 11.26))
    assert "dropped 2 failed 1 | latency p50 12 p95 12 ms | model 8 ms | queue 1" in line
    assert "infer" not in line
    assert "| infer 8." in live_line(a_report(), with_stages=True)
    assert line.endswith("| queue 1 | 54 °C | 11.3 W")
    text = summary(a_report())
    assert text.startswith("1 frames in, 1 out in ")
    assert "2 dropped, 1 failed" in text
    assert "model: 1 of 1 frames\nmodel latency ms: p50 12.0, p95 12.0, p99 12.0, longest 12.0" in text
    assert text.endswith("the source was opened again 1 times")


def test_frames_of_the_model_and_bicubic_ones_are_apart() -> None:
    report = a_report(("model", "bicubic", "bicubic"))
    assert "model 1 of 3, p50 12 ms | bicubic 2 of 3, p50 12 ms" in live_line(report)
    lines = summary(report).splitlines()
    assert [line for line in lines if " of " in line] == ["model: 1 of 3 frames", "bicubic: 2 of 3 frames"]
    assert max(map(len, lines)) <= 80


def test_the_share_of_reused_tiles_has_room_in_80_columns() -> None:
    statistics = StreamStatistics()
    statistics.record_stage("infer", 8.0)
    statistics.record_output(111.0)
    reuse = FrameReuse(
        4, (Region(0, 0, 4, 4),) * 3, ReuseStatistics(tiles=4, reused=3, memory_bytes=2**20, most_bytes=2**28)
    )
    statistics.record_reuse(reuse)
    report = replace(statistics.report(), recent_fps_in=30.0, recent_fps_out=30.0)
    assert live_line(report, Readings(), 79).endswith("| latency p50 111 p95 111 ms | reused 75% | model 8 ms")
    assert "3 of 4 tiles reused (75%), memory 1024 KiB of 256 MiB" in summary(report)


def test_placed_tiles_count_as_computed() -> None:
    statistics = StreamStatistics()
    statistics.record_output(111.0)
    whole, counts = (
        Region(0, 0, 4, 4),
        ReuseStatistics(tiles=8, reused=7, placed=1, memory_bytes=2**20, most_bytes=2**28),
    )
    statistics.record_reuse(FrameReuse(8, (whole,) * 8, counts, placed=(whole,)))
    report = statistics.report()
    assert report.reused_share == report.recent_reused_share == 7 / 8
    assert report.reuse == counts
    assert "7 of 8 tiles reused (88%), 1 placed around changed areas, memory 1024 KiB of 256 MiB" in summary(report)


def test_a_narrow_line_shows_the_slowest_stages() -> None:
    statistics = StreamStatistics()
    for name, duration_ms in (("wait", 1.0), ("prepare", 2.0), ("infer", 90.0), ("finish", 3.0)):
        statistics.record_stage(name, duration_ms)
    report = replace(statistics.report(), recent_fps_in=30.0, recent_fps_out=30.0)
    for width, names in ((40, ["infer"]), (50, ["infer", "finish"]), (None, ["wait", "prepare", "infer", "finish"])):
        stages = live_line(report, width=width, with_stages=True).split(" | ")[-1 if width else -3]
        assert stages.removesuffix(" ms").split()[::2] == names


@pytest.mark.parametrize("with_stages", [False, True])
@pytest.mark.parametrize("width", [20, 40, 60, 79, 120])
def test_the_live_line_fits_and_cuts_no_part(width: int, with_stages: bool) -> None:
    report, readings = a_report(("model", "bicubic")), Readings(54.4, 11.26)
    parts = live_line(report, readings, width, with_stages).split(" | ")
    assert len(" | ".join(parts)) <= width
    whole = live_line(report, readings, with_stages=with_stages).split(" | ")
    assert parts == [part for part in whole if part in parts], "no part is cut, and their order is kept"
    assert parts[0] == "in 30.0/s out 30.0/s"


def test_a_narrow_terminal_gets_one_line(bundle: Path) -> None:
    """The command runs on a pseudo-terminal of 60 columns; no line that is replaced is longer than that."""
    main, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    command = [str(SR_EDGE), "stream", str(bundle), "test:64x48@30", "null", *ON, "--duration", "1.2"]
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    with subprocess.Popen(
        command, stderr=terminal, stdout=subprocess.PIPE, env={**environment, "TERM": "xterm"}
    ) as done:
        done.communicate(timeout=TIMEOUT_S)
    os.close(terminal)
    with os.fdopen(main, "rb") as screen, suppress(OSError):  # the end of a closed terminal is an error
        shown = screen.read1(1 << 16).decode()
    lines = [line for line in shown.split("\r\x1b[K") if line.startswith("in ")]
    assert lines
    assert max(map(len, lines)) < 60
