"""Small files that would take for ever or ask for all memory are refused at once, in a process that has little."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

LIMIT_BYTES = 6 << 30
RESIDENT_KIB = 2 << 20
TIMEOUT_S = 120

CODE = f"""
import json, resource, sys, time
from pathlib import Path
from sr_edge.errors import WeightsError
from sr_edge.models import load_model
resource.setrlimit(resource.RLIMIT_AS, ({LIMIT_BYTES}, {LIMIT_BYTES}))
said = {{}}
for path in map(Path, sys.argv[1:]):
    print(path, file=sys.stderr)
    try:
        load_model(None, None, path)
    except WeightsError as error:
        said[path.name] = str(error)
print(json.dumps([said, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


def expanded(dtype: torch.dtype) -> Any:
    return {"conv.weight": torch.zeros(1, dtype=dtype).expand(100_000, 160_000)}


def circle() -> Any:
    content: dict[str, Any] = {}
    content["model"] = content["state_dict"] = content
    return content


def shared_children() -> Any:
    """2 to the 60th dictionaries, by reference."""
    inner: dict[str, Any] = {"a": 1}
    for _ in range(25):
        inner = {"model": inner, "ema": inner, "net": inner}
    return inner


def deep() -> Any:
    inner: Any = {"a": torch.ones(1)}
    for _ in range(400):
        inner = {"model": inner}
    return inner


def sparse() -> Any:
    indices, values = torch.zeros(2, 1, dtype=torch.int64), torch.ones(1)
    return {"conv.weight": torch.sparse_coo_tensor(indices, values, (100_000, 160_000), check_invariants=True)}


SAVED: dict[str, Callable[[], Any]] = {
    "expanded half": lambda: expanded(torch.float16),
    "expanded float": lambda: expanded(torch.float32),
    "circle": circle,
    "shared children": shared_children,
    "deep": deep,
    "sparse": sparse,
    "meta": lambda: {"conv.weight": torch.empty(100_000, 160_000, device="meta")},
}


class Called:
    """Pickles as a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def nested_tuple_as_key() -> bytes:
    """A dictionary whose key is a tuple that takes 2 to the 60th steps to hash."""
    pair = b"\x85q\x00" + b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(60))
    return b"\x80\x02}(" + b")" + pair + b"K\x01u."


PICKLED: dict[str, Callable[[], bytes]] = {
    "bytearray": lambda: pickle.dumps({"a": Called(bytearray, 64 << 30)}, 2),
    "tensor": lambda: pickle.dumps({"a": Called(torch.FloatTensor, 100_000, 160_000)}, 2),
    "storage": lambda: pickle.dumps({"a": Called(torch.UntypedStorage, 64 << 30)}, 2),
    "key": nested_tuple_as_key,
    "long string": lambda: b"\x80\x04\x8d" + struct.pack("<Q", 64 << 30) + b"abc.",
}


def write_pickle(path: Path, data: bytes) -> None:
    """As an archive of torch, whose entry data.pkl it is."""
    with zipfile.ZipFile(path, "w") as entries:
        entries.writestr("archive/data.pkl", data)
        entries.writestr("archive/version", "3\n")


def write_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as entries, entries.open("archive/data.pkl", "w") as entry:
        for _ in range(300):
            entry.write(bytes(1 << 20))


def write_absent_storage(path: Path) -> None:
    """A tensor of 8 GB, of whose storage the archive holds 12 bytes."""
    torch.save({"conv.weight": torch.zeros(3)}, path)
    with zipfile.ZipFile(path) as entries:
        contents = {name: entries.read(name) for name in entries.namelist()}
    pickled = next(name for name in contents if name.endswith("data.pkl"))
    contents[pickled] = contents[pickled].replace(b"K\x03", b"J\xff\xff\xff\x7f")
    with zipfile.ZipFile(path, "w") as entries:
        for name, content in contents.items():
            entries.writestr(name, content)


def saved(make: Callable[[], Any], legacy: bool) -> Callable[[Path], None]:
    return lambda path: torch.save(make(), path, _use_new_zipfile_serialization=not legacy)


def pickled(make: Callable[[], bytes]) -> Callable[[Path], None]:
    return lambda path: write_pickle(path, make())


FILES: dict[str, Callable[[Path], None]] = {
    **{f"{kind}, zip": saved(make, legacy=False) for kind, make in SAVED.items()},
    **{f"{kind}, legacy": saved(make, legacy=True) for kind, make in SAVED.items()},
    **{kind: pickled(make) for kind, make in PICKLED.items()},
    "bomb": write_bomb,
    "absent storage": write_absent_storage,
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What `load_model` says of each file, in one process that has little memory and little time."""
    folder = tmp_path_factory.mktemp("files")
    for kind, write in FILES.items():
        write(folder / kind)
        assert (folder / kind).stat().st_size < 500_000
    command = [sys.executable, "-W", "ignore", "-c", CODE, *(str(folder / kind) for kind in FILES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    messages, peak_kib = json.loads(done.stdout)
    assert peak_kib < RESIDENT_KIB
    return dict(messages)


@pytest.mark.parametrize("kind", FILES)
def test_it_is_refused_in_one_line(said: dict[str, str], kind: str) -> None:
    assert kind in said[kind]
    assert "\n" not in said[kind]
