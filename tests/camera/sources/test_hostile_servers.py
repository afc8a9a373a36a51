"""Opening a network source ends within its deadline, its requests and its memory, whatever the server does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # ships no types
import pytest

from sr_edge.camera import SourceOptions, open_source
from sr_edge.errors import StreamError
from tests.camera.clips import write_clip
from tests.camera.sources.hostile_servers import REPLIES, Reply, hostile_server, playlists_of_playlists, says_nothing

OPEN_S = 0.3
MAX_REQUESTS = 210
MAX_BYTES = 1 << 30


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: str(reply.__name__))
@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_server_that_never_comes_to_an_end_is_left(reply: Reply, scheme: str) -> None:
    before = psutil.Process().memory_info().rss
    with hostile_server(reply) as server:
        started_s = time.monotonic()
        with pytest.raises(StreamError) as caught:
            open_source(f"{scheme}://127.0.0.1:{server.port}/live.m3u8", SourceOptions(open_timeout_s=OPEN_S))
        assert time.monotonic() - started_s < OPEN_S + 5, "the deadline is not only that of the first connection"
        assert server.requests <= MAX_REQUESTS
        assert psutil.Process().memory_info().rss - before < MAX_BYTES
    assert "\n" not in str(caught.value)


def test_a_playlist_that_refers_to_itself_is_left(tmp_path: Path) -> None:
    (tmp_path / "a.m3u8").write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n")
    with pytest.raises(StreamError):
        open_source(str(tmp_path / "a.m3u8"), SourceOptions(open_timeout_s=OPEN_S))


def test_a_playlist_of_segments_is_played(tmp_path: Path) -> None:
    for name in ("a.ts", "b.ts"):
        write_clip(tmp_path / name, range(0, 18_000, 3000))
    lines = "".join(f"#EXTINF:0.2,\n{name}.ts\n" for name in "ab")
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n{lines}#EXT-X-ENDLIST\n")
    assert len(list(open_source(str(tmp_path / "list.m3u8")).frames())) == 12


@pytest.mark.services
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("reply", [says_nothing, playlists_of_playlists], ids=["silent", "playlists"])
@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_signal_ends_the_wait(number: int, reply: Reply, scheme: str) -> None:
    program = (
        "from sr_edge.cli.interrupts import exit_with_code_of, interruptible\n"
        "def program():\n"
        "    from sr_edge.camera import SourceOptions, open_source\n"
        "    import sys\n"
        "    print('opening', flush=True)\n"
        "    interruptible(lambda: open_source(sys.argv[1], SourceOptions(open_timeout_s=60)))\n"
        "exit_with_code_of(program)\n"
    )
    with hostile_server(reply) as server:
        url = f"{scheme}://127.0.0.1:{server.port}/live.m3u8"
        command = [sys.executable, "-c", program, url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.3)
            started_s = time.monotonic()
            process.send_signal(number)
            process.communicate(timeout=20)
            assert time.monotonic() - started_s < 2 or process.returncode == 1
