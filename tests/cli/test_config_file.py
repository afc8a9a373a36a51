"""`--config` and `--save-config`: what is written is read back, and each fault of a file is one line."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import tomlkit
import typer

from sr_edge.cli.app import CONFIGURABLE, app, command_name
from tests.command_line import SrEdge

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def written(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def stream_config(bundle: Path, tmp_path: Path) -> Path:
    return written(
        tmp_path / "stream.toml",
        "[stream]",
        f"model = {json.dumps(str(bundle))}",
        'source = "test:64x48@30"',
        'sink = "null"',
        'runtime = "onnxruntime"',
        "duration = 0.3",
        "json = true",
    )


def test_a_command_runs_by_its_file_alone_and_the_command_line_overrides_it(
    sr_edge: SrEdge, stream_config: Path
) -> None:
    done = sr_edge("stream", "--config", stream_config)
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["session"]["slots"] == 2
    done = sr_edge("stream", "--config", stream_config, "--slots", "1", "--every", "2")
    assert json.loads(done.stdout)["session"]["slots"] == 1
    assert json.loads(done.stdout)["stream"]["bicubic_frames"] > 0


def test_what_is_saved_is_read_back(
    sr_edge: SrEdge, bundle: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths are relative to the folder of the file, wherever the command is started."""
    for folder in ("work", "configs", "elsewhere"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Path("tiny.sredge").symlink_to(bundle)
    Path("in").symlink_to(pictures)
    config = Path("../configs/upscale.toml")
    given = ("upscale", "tiny.sredge", "in", "out", "--runtime", "onnxruntime", "--no-resume")
    done = sr_edge(*given, "--threads", "1", "--save-config", config)
    assert done.code == 0, done.stderr
    table = tomlkit.parse(config.read_text(encoding="utf-8"))
    assert table == {
        "upscale": {
            "model": "../work/tiny.sredge",
            "in": "../work/in",
            "out": "../work/out",
            "runtime": "onnxruntime",
            "resume": False,
            "threads": 1,
        }
    }
    picture = Path("out/waves0.png").read_bytes()
    shutil.rmtree("out")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert sr_edge("upscale", "--config", "../configs/upscale.toml").code == 0
    assert (tmp_path / "work" / "out" / "waves0.png").read_bytes() == picture


def test_addresses_and_names_are_no_paths_and_secrets_are_for_the_owner(
    sr_edge: SrEdge, bundle: Path, tmp_path: Path
) -> None:
    config = tmp_path / "configs" / "stream.toml"
    config.parent.mkdir()
    address = "rtsp://me:hunter2@127.0.0.1:1/x?token=abc"
    done = sr_edge("stream", bundle, address, "null", "--fallback", "bicubic", "--save-config", config)
    assert done.code == 1 and "hunter2" not in done.stderr
    table = tomlkit.parse(config.read_text(encoding="utf-8"))["stream"]
    assert (table["source"], table["sink"], table["fallback"]) == (address, "null", "bicubic")
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    done = sr_edge("stream", "--config", config)
    assert done.code == 1
    assert "hunter2" not in done.stderr and "abc" not in done.error


def test_switches_lists_and_numbers_keep_their_types(sr_edge: SrEdge, bundle: Path, tmp_path: Path) -> None:
    config = tmp_path / "bench.toml"
    words = ("--runs", "1", "--no-memory", "--runtimes", "onnxruntime", "--precisions", "fp32", "--warm-up", "0")
    assert sr_edge("bench", bundle, *words, "--save-config", config).code == 0
    table = tomlkit.parse(config.read_text(encoding="utf-8"))["bench"]
    assert (table["runs"], table["memory"], table["warm-up"]) == (1, False, 0)
    done = sr_edge("bench", "--config", config, "--json")
    assert json.loads(done.stdout)["rounds"] == 1


FAULTS: list[tuple[str, tuple[str, ...]]] = [
    ("[deploy]\nmax-drop = 0.1", ("'max-drop'", "max-drop-db?")),
    ("[deploy]\nmax_drop_db = 0.1", ("max-drop-db?",)),
    ("[deploy]\nconfig = 'x.toml'", ("'config'",)),
    ("[deploy]\nscale = '2'", ("scale", "whole number")),
    ("[deploy]\nscale = 2.5", ("scale", "whole number")),
    ("[deploy]\nscale = true", ("scale", "whole number")),
    ("[deploy]\nmemory = 1", ("memory", "true or false")),
    ("[deploy]\ntile = 96", ("tile", "text in quotes")),
    ("[deploy]\nexclude = 'head*'", ("exclude", "list")),
    ("[deploy]\nexclude = [1]", ("exclude", "list")),
    ("[deploy]\nscale = [2]", ("scale", "whole number")),
    ("[deploy]\nscale = 1979-05-27", ("scale", "whole number")),
    ("[deploy]\nimages = ''", ("--images", "empty")),
    ("[deploy]\nruns = 0", ("--runs",)),
    ("[deploy]\nmax-drop-db = nan", ("--max-drop-db", "NaN")),
    ("[bench]\nruns = 3", ("sr-edge bench", "sr-edge deploy")),
    ("[deplou]\nruns = 3", ("'deplou'", "deploy?")),
    ("runs = 3", ("'runs'", "[deploy]")),
    ("deploy = 3", ("[deploy]",)),
    ("[deploy", ("TOML",)),
    ("[deploy]\nruns = 3\nruns = 4", ("TOML",)),
    ("a = " + "[" * 5000, ("TOML",)),
]


@pytest.mark.parametrize(("content", "values"), FAULTS, ids=[content[:40] for content, _ in FAULTS])
def test_each_fault_of_a_file_is_one_line(
    sr_edge: SrEdge, tmp_path: Path, content: str, values: tuple[str, ...]
) -> None:
    outcome = sr_edge("deploy", "missing.pth", "--config", written(tmp_path / "x.toml", content))
    assert outcome.code == 2
    assert [value for value in values if value not in outcome.error] == [], outcome.error


def test_files_that_are_none(sr_edge: SrEdge, tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    (tmp_path / "large.toml").write_bytes(b"#" * (1 << 21))
    for name in ("absent.toml", ".", "binary.toml", "large.toml"):
        outcome = sr_edge("deploy", "--config", tmp_path / name)
        assert (outcome.code, str(tmp_path / name) in outcome.error) == (2, True)
    assert sr_edge("deploy", "--config", "/dev/zero").code == 2
    assert sr_edge("deploy", "--config", "").code == 2


def test_nothing_is_saved_for_a_run_that_is_refused(sr_edge: SrEdge, bundle: Path, tmp_path: Path) -> None:
    for name in ("x.json", "x.toml"):
        config = tmp_path / name
        bad = () if name == "x.json" else ("--float-precision", "bf16")
        assert sr_edge("upscale", bundle, "in.png", tmp_path / "out.png", *bad, "--save-config", config).code == 2
        assert not config.exists()


def test_a_run_that_refuses_its_values_leaves_the_configuration_as_it_was(
    sr_edge: SrEdge, bundle: Path, tmp_path: Path
) -> None:
    new, old = tmp_path / "new.toml", written(tmp_path / "old.toml", "[stream]\n")
    for config in (new, old):
        words = ("--reuse", "bogus", "--save-config", config)
        assert sr_edge("stream", bundle, tmp_path / "in.mkv", "null", *words).code == 2
    assert not new.exists()
    assert old.read_text() == "[stream]\n"


def test_commands_with_many_options_have_both() -> None:
    configurable = {command_name(each) for each in CONFIGURABLE}
    assert {"deploy", "calibrate", "export", "stream", "bench", "train", "upscale"} <= configurable
    for name, command in COMMANDS.items():
        has_both = {"config", "save_config"} <= {each.name for each in command.params}
        assert has_both is (name in configurable)
