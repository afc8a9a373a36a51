"""The hardware elements of GStreamer, with stand-ins for its tools: no test machine has the drivers."""

from __future__ import annotations

import sys
from pathlib import Path

from sr_edge.camera.media.codecs import CodecKind, CodecVerdict
from sr_edge.camera.sources.gst.hardware_elements import hardware_elements

INSPECT = """
import sys
kind = sys.argv[-1]
assert sys.argv[1] == "-t" and "Hardware" in kind
if "Encoder" in kind:
    print("nvcodec:  nvh264enc: NVENC H.264 Video Encoder")
    print("video4linux2:  v4l2h264enc: V4L2 H.264 Encoder")
    print("va:  vah265enc: VA-API H.265 Encoder")
else:
    print("nvcodec:  nvh264dec: NVDEC H.264 Decoder")
print()
print("Total count: 31 plugins, 245 features")
"""
LAUNCH = """
import os, signal, sys
if "nvh264enc" in sys.argv:
    sys.exit(0)
if "vah265enc" in sys.argv:
    os.kill(os.getpid(), signal.SIGSEGV)
sys.stderr.write("ERROR: from element v4l2h264enc0: no device\\nmore\\n")
sys.exit(1)
"""


def tool(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def test_encoders_are_tried_and_decoders_are_listed() -> None:
    verdicts = hardware_elements(tool(INSPECT), tool(LAUNCH))
    assert verdicts is not None
    assert [(verdict.name, verdict.kind, verdict.works) for verdict in verdicts] == [
        ("nvh264enc", CodecKind.ENCODER, True),
        ("v4l2h264enc", CodecKind.ENCODER, False),
        ("vah265enc", CodecKind.ENCODER, False),
        ("nvh264dec", CodecKind.DECODER, None),
    ]
    assert verdicts[1].reason == "ERROR: from element v4l2h264enc0: no device"
    assert "signal 11" in verdicts[2].reason
    assert isinstance(verdicts[3], CodecVerdict) and verdicts[3].reason


def test_a_machine_without_such_elements_or_without_gstreamer(tmp_path: Path) -> None:
    assert hardware_elements(tool(""), tool(LAUNCH)) == ()
    assert hardware_elements([str(tmp_path / "absent")], tool(LAUNCH)) is None
    assert hardware_elements(tool("import time; time.sleep(60)"), tool(LAUNCH), limit_s=0.1) is None
