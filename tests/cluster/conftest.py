"""Object stores for tests: S3 by a server on this machine, and fsspec's store in memory; and a model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import sr_edge
from sr_edge.bundle import Bundle
from sr_edge.cluster.storage.locations import Location, file_system

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}

MODEL = Path(sr_edge.__file__).parent / "models" / "weights" / "convnet-tiny-x2.onnx"

_numbers = itertools.count()


@pytest.fixture(scope="session")
def bundle() -> Iterator[Bundle]:
    """The smallest bundled network, in fp32 only."""
    pytest.importorskip("onnxruntime")
    with sr_edge.open_model(MODEL) as opened:
        yield opened


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Starts a server of S3 on a free port of 127.0.0.1 and yields its address."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_settings(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points this process at the server, with credentials that it accepts."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def new_connections(s3_settings: None) -> Iterator[Callable[[], None]]:
    """Makes fsspec read the environment again, instead of using the connections that it has."""
    import s3fs

    yield s3fs.S3FileSystem.clear_instance_cache
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def s3(s3_settings: None) -> Location:
    """An empty bucket."""
    bucket = Location(f"s3://bucket-{next(_numbers)}")
    system, path = file_system(bucket)
    system.mkdir(path)
    return bucket


@pytest.fixture
def memory() -> Location:
    """An empty folder in fsspec's store in memory."""
    return Location(f"memory://folder-{next(_numbers)}")


@pytest.fixture(scope="session")
def tiny_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of three frames."""
    av = pytest.importorskip("av")
    path = tmp_path_factory.mktemp("video") / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"threads": "1"})
        stream.width = stream.height = 32
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
