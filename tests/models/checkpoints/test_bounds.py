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
status = Path("/proc/self/status").read_text()  # unlike getrusage, without what the parent process had at its peak
print(json.dumps([said, int(status.partition("VmHWM:")[2].split()[0])]))
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


def keys(*names: str) -> Callable[[], Any]:
    return lambda: {name: torch.zeros(1) for name in names}


SAVED: dict[str, Callable[[], Any]] = {
    "expanded half": lambda: expanded(torch.float16),
    "expanded float": lambda: expanded(torch.float32),
    "circle": circle,
    "shared children": shared_children,
    "deep": deep,
    "sparse": sparse,
    "prefixes": keys("a." * 500 + "weight"),
    "long key": keys("a." * 100_000 + "weight"),
    "losses": keys("model.weight", "loss_" * 60_000 + "-.weight"),
    "copies": keys(*(f"x{index}_ema.weight" for index in range(2_000))),
    "sets": lambda: {f"set{index}": {"a." * 400 + "weight": torch.zeros(1)} for index in range(200)},
    "meta": lambda: {"conv.weight": torch.empty(100_000, 160_000, device="meta")},
}


class Called:
    """Pickles as a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


NESTED_TUPLE = b")\x85q\x00" + b"".join(
    b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(60)
)
"""Pushes a tuple that takes 2 to the 60th steps to hash or to print."""

SHARED_LIST = b"](" + 30_000 * b"N" + b"eq\x00"
"""Pushes a list of 30,000 elements and remembers it."""


def nested_tuple_as_key() -> bytes:
    return b"\x80\x02}(" + NESTED_TUPLE + b"K\x01u."


def storage(kind: bytes, key: bytes) -> bytes:
    """A persistent id of torch whose class and key are pushed by these opcodes."""
    return b"\x80\x02(U\x07storage" + kind + key + b"U\x03cpuK\x01tQ."


def elements_as_pairs() -> bytes:
    """An OrderedDict of 30,000 references to one list, each of which would be a pair."""
    pairs = b"](" + 30_000 * b"h\x00" + b"e"
    return b"\x80\x02" + SHARED_LIST + b"0ccollections\nOrderedDict\n" + pairs + b"\x85R."


def shared_arguments(function: bytes) -> bytes:
    """Calls of a function, all with one tuple of 30,000 elements."""
    arguments = b"(" + 30_000 * b"N" + b"tq\x00"
    return b"\x80\x02" + arguments + b"0" + function + b"q\x01](" + 100_000 * b"h\x01h\x00R" + b"e."


def long_class() -> bytes:
    """Calls of a class whose name is most of the file."""
    return b"\x80\x02cmodule\n" + 200_000 * b"a" + b"\nq\x00](" + 50_000 * b"h\x00)R" + b"e."


def long_key() -> bytes:
    """Mappings that share a key of 200,000 characters, in a list."""
    key = b"X" + struct.pack("<I", 200_000) + 200_000 * b"a" + b"q\x00"
    return b"\x80\x02" + key + b"0](" + 40_000 * b"}h\x00]s" + b"e."


def many_paths() -> bytes:
    """Lists in lists under long names, the innermost with many references to one list."""
    name = b"X" + struct.pack("<I", 1000) + 1000 * b"a" + b"q\x00"
    inner = b"]q\x010](" + 150_000 * b"h\x01" + b"e"
    return b"\x80\x02" + name + b"0" + 28 * b"}h\x00" + inner + 28 * b"s" + b"."


PICKLED: dict[str, Callable[[], bytes]] = {
    "bytearray": lambda: pickle.dumps({"a": Called(bytearray, 64 << 30)}, 2),
    "tensor": lambda: pickle.dumps({"a": Called(torch.FloatTensor, 100_000, 160_000)}, 2),
    "storage": lambda: pickle.dumps({"a": Called(torch.UntypedStorage, 64 << 30)}, 2),
    "key": nested_tuple_as_key,
    "storage key": lambda: storage(b"ctorch\nFloatStorage\n", NESTED_TUPLE),
    "storage class": lambda: storage(NESTED_TUPLE, b"U\x010"),
    "pairs": elements_as_pairs,
    "arguments": lambda: shared_arguments(b"cmodule\nClass\n"),
    "arguments of a builder": lambda: shared_arguments(b"ctorch._utils\n_rebuild_parameter\n"),
    "long class": long_class,
    "shared long key": long_key,
    "paths": many_paths,
    "long string": lambda: b"\x80\x04\x8d" + struct.pack("<Q", 64 << 30) + b"abc.",
}


def write_pickle(path: Path, data: bytes) -> None:
    """As an archive of torch, whose entry data.pkl it is."""
    with zipfile.ZipFile(path, "w") as entries:
        entries.writestr("archive/data.pkl", data)
        entries.writestr("archive/version", "3\n")


def write_legacy_keys(path: Path) -> None:
    """torch's older format, in which the key of a storage is a tuple that takes for ever to print."""
    parts: tuple[Any, ...] = (0x1950A86A20F9469CFC6C, 1001, {}, {})
    head = (pickle.dumps(part, 2) for part in parts)
    path.write_bytes(b"".join(head) + b"\x80\x02](" + NESTED_TUPLE + b"e.")


def write_compressed(path: Path) -> None:
    """A compressed storage of 60 MB, of which every tensor is a view."""
    shared = torch.zeros(15_000_000)
    torch.save({f"body.{index}.weight": shared[index : index + 1] for index in range(2_000)}, path)
    with zipfile.ZipFile(path) as entries:
        contents = {name: entries.read(name) for name in entries.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as entries:
        for name, content in contents.items():
            entries.writestr(name, content)


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
    "legacy keys": write_legacy_keys,
    "compressed": write_compressed,
    "absent storage": write_absent_storage,
}


@pytest.fixture(scope="session")
def messages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What `load_model` says of each file, in one process that has little memory and little time."""
    folder = tmp_path_factory.mktemp("files")
    for kind, write in FILES.items():
        write(folder / kind)
        assert (folder / kind).stat().st_size < 700_000
    command = [sys.executable, "-W", "ignore", "-c", CODE, *(str(folder / kind) for kind in FILES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    messages, peak_kib = json.loads(done.stdout)
    assert peak_kib < RESIDENT_KIB
    return dict(messages)


@pytest.mark.parametrize("kind", FILES)
def test_it_is_refused_in_one_line(messages: dict[str, str], kind: str) -> None:
    assert kind in messages[kind]
    assert "\n" not in messages[kind]
