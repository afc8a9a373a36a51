"""Containers of video are recognised by their first bytes."""

from __future__ import annotations

import pytest

from sr_edge.files.headers import is_video_container


@pytest.mark.parametrize(
    "header",
    [
        b"\0\0\0\x20ftypisom",
        b"\0\0\0\x08wide\0\0\0\0mdat",
        b"\x1a\x45\xdf\xa3\x9f",
        b"RIFF\0\0\0\0AVI LIST",
        b"\0\0\x01\xba\x44",
        b"G" + bytes(187) + b"G" + bytes(60),
        bytes(4) + b"G" + bytes(191) + b"G" + bytes(50),
        b"OggS\0",
        b"FLV\x01\x05",
    ],
)
def test_a_container_is_recognised(header: bytes) -> None:
    assert is_video_container(header)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"G",
        b"GIF89a" + bytes(250),
        b"RIFF\0\0\0\0WEBPVP8 ",
        b"RIFF\0\0\0\0WAVEfmt ",
        b"\x89PNG\r\n\x1a\n",
        b"text\n" * 60,
    ],
)
def test_other_files_are_not(header: bytes) -> None:
    assert not is_video_container(header)
