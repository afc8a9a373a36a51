"""No message shows a user name, password or token of an address, in whatever form it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from sr_edge.printable import message_without_secrets, without_secrets


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://admin:p%40ss@10.0.0.7:554/main", "rtsp://***@10.0.0.7:554/main"),
        ("rtsp://admin@10.0.0.7/main", "rtsp://***@10.0.0.7/main"),
        ("http://host/live?token=abc&channel=2", "http://host/live?token=***&channel=2"),
        ("http://host/live?user=me&password=a/b", "http://host/live?user=***&password=***"),
        ("rtsp://a:b@c@host/x", "rtsp://***@host/x"),
        ("rtsp://admin:pa/ss@host/x", "rtsp://***@host/x"),
        ("rtsp://admin:pa ss#?@host/x", "rtsp://***@host/x"),
        ("rtsp:/admin:pass@host/x", "rtsp:/***@host/x"),
        (r"movie=rtsp\://admin\:pass@host/x", r"movie=rtsp\://***@host/x"),
        ("srt://host:9000?mode=caller&passphrase=abc", "srt://host:9000?mode=caller&passphrase=***"),
        ("udp://127.0.0.1:5000", "udp://127.0.0.1:5000"),
        (
            "rtspsrc location=rtsp://h/x user-id=me user-pw=a ! b",
            "rtspsrc location=rtsp://h/x user-id=*** user-pw=*** ! b",
        ),
        ("a@b.mp4", "a@b.mp4"),
    ],
)
def test_names_hold_no_secret(address: str, shown: str) -> None:
    assert without_secrets(address) == shown


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://admin:hunter2@host/x",
        "rtsp://admin:hunter2@host",
        "rtsp://admin:hunt er2@host/x",
        "rtsp://admin:hun'ter2@host/x",
        "rtsp://admin://hunter2@host/x",
        "http://host/x?token=hunter2&channel=1",
    ],
)
@pytest.mark.parametrize("spelling", [str, repr, Path, lambda text: Path(text).name, lambda text: repr(Path(text))])
def test_messages_about_an_address_that_was_taken_for_a_path(address: str, spelling: object) -> None:
    message = f"{spelling(address)} is absent; write me@home"  # type: ignore[operator]
    shown = message_without_secrets(message, ["--hr", address])
    assert "er2" not in shown
    assert shown.endswith(" is absent; write me@home")


def test_marks_after_an_address_stay() -> None:
    message = "cannot open 'http://h/x?token=abc', (http://h/y?key=def) and http://h/z?sig=ghi."
    shown = "cannot open 'http://h/x?token=***', (http://h/y?key=***) and http://h/z?sig=***."
    assert message_without_secrets(message) == shown


def test_what_holds_no_secret_stays() -> None:
    message = "cannot read '--set key=1'; give rtsp:// or test:320x180@30 or me@home"
    assert message_without_secrets(message, ["--set", "key=1", "a b.png", ""]) == message
