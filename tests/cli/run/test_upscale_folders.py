"""Folders and single pictures of any format: what becomes of each file is in the summary and in the JSON document."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from sr_edge.image_files import read_picture
from tests.command_line import SrEdge

SIZE = 30
ON_ORT = ("--runtime", "onnxruntime")


def picture() -> Image.Image:
    rows, columns = np.indices((SIZE, SIZE))
    waves = 127 + 120 * np.sin(rows / 5)[..., None] * np.cos(columns[..., None] / 6 + np.arange(3))
    return Image.fromarray(waves.astype(np.uint8))


def animation(path: Path) -> None:
    frames = [picture().rotate(10 * index).convert("P") for index in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)


def test_a_folder_of_mixed_files(sr_edge: SrEdge, bundle: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.jpg", "b.jfif", "c.bmp", "d.gif", "e.ppm"):
        picture().save(folder / name)
    picture().convert("CMYK").save(folder / "f.tif")
    (folder / "g.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    (folder / "notes.txt").write_text("no picture")
    outcome = sr_edge("upscale", bundle, folder, out, *ON_ORT)
    assert outcome.code == 0, outcome.stderr
    names = {"a.jpg", "b.jfif", "c.png", "d.png", "e.png", "f.tif"}
    assert {path.name for path in out.iterdir()} == names
    assert all(read_picture(path).width == 2 * SIZE for path in out.iterdir())
    assert "2 files are not pictures: g.heic, notes.txt" in outcome.stdout
    assert "CMYK was converted" in outcome.stdout and "(1 picture)" in outcome.stdout
    document = json.loads(sr_edge("upscale", bundle, folder, out, *ON_ORT, "--no-resume", "--json").stdout)
    assert [Path(path).name for path in document["not_pictures"]] == ["g.heic", "notes.txt"]
    notes = {Path(file["source"]).name: file["notes"] for file in document["files"]}
    assert notes["a.jpg"] == []
    assert len(notes["c.bmp"]) == len(notes["f.tif"]) == 1


def test_a_picture_that_cannot_be_written_in_its_format_becomes_png(
    sr_edge: SrEdge, bundle: Path, tmp_path: Path
) -> None:
    picture().save(tmp_path / "a.bmp")
    (tmp_path / "out").mkdir()
    outcome = sr_edge("upscale", bundle, tmp_path / "a.bmp", tmp_path / "out", *ON_ORT)
    assert outcome.code == 0, outcome.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]
    assert "a.png" in outcome.stdout
    assert sr_edge("upscale", bundle, tmp_path / "a.bmp", tmp_path / "b.png", *ON_ORT).code == 0
    assert read_picture(tmp_path / "b.png").width == 2 * SIZE


def test_a_file_that_is_no_image_is_not_taken_for_a_video_with_a_wrong_name(
    sr_edge: SrEdge, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    (tmp_path / "b.psd").write_bytes(b"8BPS" + bytes(40))
    for name, remedy in (("a.heic", "pillow-heif"), ("b.psd", "PNG")):
        outcome = sr_edge("upscale", bundle, tmp_path / name, tmp_path / "out.png")
        assert outcome.code == 2
        assert name in outcome.error and remedy in outcome.error


def test_an_animation_is_a_video_and_never_silently_its_first_picture(
    sr_edge: SrEdge, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    animation(tmp_path / "in" / "a.gif")
    to_picture = sr_edge("upscale", bundle, tmp_path / "in" / "a.gif", tmp_path / "a.png", *ON_ORT)
    assert to_picture.code == 1 and "3 pictures" in to_picture.error
    of_folder = sr_edge("upscale", bundle, tmp_path / "in", tmp_path / "out", *ON_ORT)
    assert of_folder.code == 1 and "3 pictures" in of_folder.error
    to_video = sr_edge("upscale", bundle, tmp_path / "in" / "a.gif", tmp_path / "a.mkv", *ON_ORT)
    assert to_video.code == 0, to_video.stderr
    assert (tmp_path / "a.mkv").exists()


def test_options_for_videos_are_refused_for_a_picture_of_any_format(
    sr_edge: SrEdge, bundle: Path, tmp_path: Path
) -> None:
    picture().save(tmp_path / "a.bmp")
    outcome = sr_edge("upscale", bundle, tmp_path / "a.bmp", tmp_path / "b.png", "--crf", "20")
    assert outcome.code == 2
    assert "--crf" in outcome.error
