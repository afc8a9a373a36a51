"""The program of worker processes, called without Ray."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sr_edge
from sr_edge.bundle import Bundle, sha256_of
from sr_edge.cluster.items import JoinItem, PictureItem, VideoItem, VideoPart
from sr_edge.cluster.job import BatchOptions, job_plan
from sr_edge.cluster.node import close_session, pack_bundle
from sr_edge.cluster.storage.listing import SourceFile
from sr_edge.cluster.storage.locations import Location, exists, stamp
from sr_edge.cluster.storage.media_kinds import Kind
from sr_edge.cluster.work import (
    FilesDone,
    JoinWork,
    PartDone,
    PartsLost,
    PartWork,
    PictureWork,
    Result,
    VideoDivided,
    VideoWork,
    Work,
)
from sr_edge.cluster.worker import Worker
from sr_edge.model_sources import ChosenEngine
from sr_edge.spec import Precision

av = pytest.importorskip("av")

from sr_edge.camera import NetworkFrameUpscaler, plan_video, upscale_video  # noqa: E402

ENGINE = ChosenEngine("onnxruntime", Precision.FP32, Precision.FP32, "cpu", threads=1)


class Process:
    """A worker with the archive of its bundle, which counts the frames that it reports."""

    def __init__(self, bundle: Bundle, archive: bytes, target: Path) -> None:
        self.target = Location(str(target))
        self.worker = Worker(job_plan(bundle, ENGINE, BatchOptions(), self.target))
        self.frames: list[int] = []
        self._archive = archive

    def run(self, work: Work) -> Result:
        return self.worker.run(work, lambda: self._archive, self.frames.append)

    def files(self, work: Work) -> FilesDone:
        result = self.run(work)
        assert isinstance(result, FilesDone)
        return result


@pytest.fixture(scope="module")
def archive(bundle: Bundle) -> Iterator[bytes]:
    yield pack_bundle(bundle)
    close_session()


@pytest.fixture
def process(bundle: Bundle, archive: bytes, tmp_path: Path) -> Process:
    return Process(bundle, archive, tmp_path / "target")


def source_file(path: Path) -> SourceFile:
    found = stamp(Location(str(path)))
    assert found is not None
    kind = Kind.PICTURE if path.suffix == ".png" else Kind.VIDEO
    name = path.name.replace(".avi", ".mkv")  # as a listing does, since AVI cannot be written
    return SourceFile(Location(str(path.parent)), path.name, f"below/{name}", kind, found)


def write_video(path: Path, frames: int, codec: str = "libx264") -> Path:
    """Writes a video whose picture seldom changes, so that upscaling it takes little time."""
    noise = np.random.default_rng(5).integers(0, 256, (32, 32, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"threads": "1", "g": "60"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for number in range(frames):
            picture = np.roll(noise, number // 125, axis=0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def in_one_piece(process: Process, path: Path, result: Path) -> bytes:
    model = process.worker.plan.model
    with sr_edge.open_upscaler(
        "convnet-tiny", model.scale, runtime=ENGINE.runtime, precision=ENGINE.precision, threads=1
    ) as upscaler:
        upscale_video(plan_video(path, result, upscaler.scale), NetworkFrameUpscaler(upscaler.session, 3))
    return result.read_bytes()


def test_pictures_are_those_of_upscale_file(process: Process, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for number, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 30, 3), np.uint8)).save(path)
    result = process.files(PictureWork(PictureItem("pictures", tuple(map(source_file, paths)))))
    assert result.precision == "fp32"
    with sr_edge.open_upscaler("convnet-tiny", 2, runtime="onnxruntime", precision="fp32", threads=1) as upscaler:
        for path, each in zip(paths, result.files, strict=True):
            sr_edge.upscale_file(upscaler, path, tmp_path / "one.png")
            written = process.target.join(each.file.name).path
            assert written.read_bytes() == (tmp_path / "one.png").read_bytes()
            assert (each.error, each.source_sha256) == ("", sha256_of(path))
            assert each.target_bytes == written.stat().st_size


def test_a_damaged_picture_is_a_result_with_an_error(process: Process, tmp_path: Path) -> None:
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    file = source_file(tmp_path / "damaged.png")
    (each,) = process.files(PictureWork(PictureItem("a", (file,)))).files
    assert each.error
    assert each.source_sha256 == sha256_of(tmp_path / "damaged.png")
    assert not exists(process.target.join(file.name))


def test_a_source_that_was_only_touched_keeps_its_result(process: Process, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"it is not even decoded")
    file = source_file(tmp_path / "a.png")
    result = process.target.join(file.name).path
    result.parent.mkdir(parents=True)
    result.write_bytes(b"12345")
    finished = {file.name: sha256_of(tmp_path / "a.png")}
    (each,) = process.files(PictureWork(PictureItem("a", (file,)), finished)).files
    assert (each.is_kept, each.target_bytes, each.error) == (True, 5, "")
    (each,) = process.files(VideoWork(VideoItem(file), finished)).files
    assert (each.is_kept, each.target_bytes, each.error) == (True, 5, "")


@pytest.mark.parametrize(("name", "codec", "has_reason"), [("a.mp4", "libx264", False), ("a.avi", "mpeg4", True)])
def test_a_video_that_is_short_or_cannot_be_sought_is_upscaled_in_one_piece(
    process: Process, tmp_path: Path, name: str, codec: str, has_reason: bool
) -> None:
    path = write_video(tmp_path / name, 30, codec)
    (each,) = process.files(VideoWork(VideoItem(source_file(path)))).files
    assert (each.error, each.frames) == ("", 30)
    assert any("in one piece" in note for note in each.notes) is has_reason
    assert process.frames[-1] == 30
    result = process.target.join(each.file.name).path
    assert result.read_bytes() == in_one_piece(process, path, tmp_path / f"one{result.suffix}")


def test_the_parts_of_a_video_are_joined_to_the_video_of_one_piece(process: Process, tmp_path: Path) -> None:
    path = write_video(tmp_path / "film.mp4", 1250)
    file = source_file(path)
    divided = process.run(VideoWork(VideoItem(file)))
    assert isinstance(divided, VideoDivided)
    assert [(part.first, part.end) for part in divided.parts] == [(0, 600), (600, 1250)]
    results = [process.run(PartWork(part, divided.encoding)) for part in reversed(divided.parts)]
    summaries = tuple(each.summary for each in results if isinstance(each, PartDone) and each.summary)
    join = JoinWork(JoinItem(file, 2, divided.parts[0].staging), divided.encoding, summaries, divided.source_sha256)
    segment = next(divided.parts[0].staging.path.glob("*.mp4"))
    content = segment.read_bytes()
    segment.write_bytes(b"damaged")
    lost = process.run(join)
    assert isinstance(lost, PartsLost)
    assert len(lost.parts) == 1
    segment.write_bytes(content)
    (each,) = process.files(join).files
    assert (each.error, each.frames, each.source_sha256) == ("", 1250, sha256_of(path))
    result = process.target.join(file.name).path
    assert result.read_bytes() == in_one_piece(process, path, tmp_path / "one.mp4")
    assert not divided.parts[0].staging.path.exists()


def test_a_video_that_changed_after_it_was_divided_is_inexact(process: Process, tmp_path: Path) -> None:
    path = write_video(tmp_path / "film.mp4", 1250)
    divided = process.run(VideoWork(VideoItem(source_file(path))))
    assert isinstance(divided, VideoDivided)
    path.write_bytes(path.read_bytes() + bytes(100))
    part: VideoPart = divided.parts[1]
    done = process.run(PartWork(part, divided.encoding))
    assert isinstance(done, PartDone)
    assert (done.summary, done.is_inexact) == (None, True)
