"""Makes the pictures of the documentation from the pictures in examples/: the preview page, a report, a Pareto curve.

Usage: python scripts/docs_content/pictures.py [--bundle FILE] [--only preview preview-loop report pareto worst-patch]

Needs Chromium (`make setup-browser`). The picture of the README is made by scripts/update_readme.py.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
EXAMPLES = ROOT / "examples" / "pictures"
FIGURES = ROOT / "docs" / "results" / "taylor-swinir-tiny-x2.json"
MODEL = ("convnet-tiny", "--scale", "2", "--images", str(EXAMPLES / "calibration"))
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
LIMIT_MS = 120_000
WINDOW = {"width": 1280, "height": 1110}
LOOP_WINDOW = {"width": 960, "height": 740}
LOOP_PX = (720, 555)
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "color_scheme": "dark"}
CROP_PX, CROPS = (176, 96), 60
FRAME_MS = 180
MAX_LOOP_BYTES = 1_000_000


def run_sr_edge(*arguments: str | Path) -> None:
    print("$ sr-edge", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "sr_edge", *map(str, arguments)], check=True, cwd=ROOT)


def write_moving_crops(folder: Path) -> None:
    """A folder of pictures, played as a video: a window that moves over the astronaut of examples/."""
    folder.mkdir()
    picture = Image.open(EXAMPLES / "hr" / "astronaut.png").convert("RGB")
    width, height = CROP_PX
    for number in range(CROPS):
        angle = 2 * math.pi * number / CROPS
        left, top = round(115 + 30 * math.sin(angle)), round(70 + 15 * math.sin(2 * angle))
        picture.crop((left, top, left + width, top + height)).save(folder / f"{number:03}.png")


@contextmanager
def served_preview(bundle: Path, source: Path) -> Iterator[str]:
    """The address of a running `sr-edge preview`."""
    command = [sys.executable, "-m", "sr_edge", "preview", bundle.name, source.name, "--port", "0"]
    if bundle.parent != source.parent:  # so that the page shows names without folders
        (source.parent / bundle.name).symlink_to(bundle.resolve())
    with subprocess.Popen(command, cwd=source.parent, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        if found is None:
            raise SystemExit("sr-edge preview has not started")
        try:
            yield found[0]
        finally:
            process.terminate()


@contextmanager
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        raise SystemExit("Chromium is absent; `make setup-browser` installs it")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def opened_page(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """A page of the preview that has shown some frames, so that its graphs are not empty."""
    page = browser.new_page(**options)
    page.set_default_timeout(LIMIT_MS)
    page.goto(address, wait_until="domcontentloaded")
    page.wait_for_function("() => Number(document.documentElement.dataset.frames) >= 5")
    page.wait_for_function("() => document.querySelectorAll('#rate path').length > 0")
    yield page
    page.context.close()


def screenshot(page: Any) -> Image.Image:
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def preview_pictures(folder: Path, bundle: Callable[[], Path]) -> None:
    """The preview page on a computer and on a phone."""
    write_moving_crops(folder / "astronaut")
    with served_preview(bundle(), folder / "astronaut") as address, chromium() as browser:
        with opened_page(browser, address, viewport=WINDOW) as page:
            page.wait_for_timeout(20_000)
            screenshot(page).save(IMAGES / "preview.jpg", quality=82)
        with opened_page(browser, address, **PHONE) as page:
            screenshot(page).save(IMAGES / "preview-phone.jpg", quality=85)


def preview_loop(folder: Path, bundle: Callable[[], Path]) -> None:
    """The boundary moves, the picture is enlarged, and a second engine is shown beside the first."""
    write_moving_crops(folder / "moving")
    with (
        served_preview(bundle(), folder / "moving") as address,
        chromium() as browser,
        opened_page(browser, address, viewport=LOOP_WINDOW) as page,
    ):
        write_loop(loop_frames(page), IMAGES / "preview.webp")


def loop_frames(page: Any) -> list[Image.Image]:
    frames = []

    def take(count: int = 1) -> None:
        for _ in range(count):
            page.wait_for_timeout(FRAME_MS)
            frames.append(screenshot(page).resize(LOOP_PX, Image.Resampling.LANCZOS))

    def move_boundary(shares: Sequence[float]) -> None:
        for share in shares:
            page.locator("#slider").evaluate(
                "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", 1000 * share
            )
            take()

    move_boundary([0.5, 0.4, 0.3, 0.2, 0.3, 0.45, 0.6, 0.7, 0.8, 0.65, 0.5])
    page.keyboard.press("2")
    take(4)
    page.select_option("#compared", index=1)
    take(2)
    page.wait_for_selector("#compared-pane .after", state="visible")
    take(5)
    page.keyboard.press("0")
    take(3)
    page.select_option("#compared", "")
    page.wait_for_selector("#compared-pane", state="hidden")
    take(2)
    return frames


def write_loop(frames: Sequence[Image.Image], file: Path) -> None:
    """Writes an animated WebP that repeats for ever.

    Raises:
        SystemExit: It is too large for the documentation.
    """
    frames[0].save(file, save_all=True, append_images=frames[1:], duration=FRAME_MS, loop=0, quality=60, method=2)
    if file.stat().st_size > MAX_LOOP_BYTES:
        raise SystemExit(f"{file} has {file.stat().st_size} bytes, more than {MAX_LOOP_BYTES}; take fewer frames")


def report_picture(folder: Path, bundle: Callable[[], Path]) -> None:
    """The report that notebooks show, of the figures in the README."""
    from sr_edge.bench import BenchReport
    from sr_edge.bundle.plain import from_plain

    report = from_plain(BenchReport, json.loads(FIGURES.read_text(encoding="utf-8")), FIGURES.name)
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1100, "height": 600})
        page.set_content(f"<body style='font: 14px system-ui, sans-serif'>{report._repr_html_()}</body>")
        size = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
        page.set_viewport_size({"width": max(size[0], 1100), "height": size[1]})
        small(screenshot(page)).save(IMAGES / "report.png", optimize=True)


def pareto_picture(folder: Path, bundle: Callable[[], Path]) -> None:
    run_sr_edge("calibrate", *MODEL, "--tile", "64x64", "-o", folder / "curve.int8.onnx")
    small(Image.open(folder / "curve.int8.pareto.png").convert("RGB")).save(IMAGES / "pareto.png", optimize=True)


def worst_patch_picture(folder: Path, bundle: Callable[[], Path]) -> None:
    made = bundle()
    run_sr_edge("compare", made, f"{made}@int8:openvino", "--patches", "4", "--picture", folder / "worst.png")
    Image.open(folder / "worst.png").convert("RGB").save(IMAGES / "worst_patch.png", optimize=True)


def small(picture: Image.Image) -> Image.Image:
    """A drawing with few colours, as a palette."""
    return picture.quantize(64)


PICTURES = {
    "preview": preview_pictures,
    "preview-loop": preview_loop,
    "report": report_picture,
    "pareto": pareto_picture,
    "worst-patch": worst_patch_picture,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="bundle of convnet-tiny x2; without it, one is deployed")
    parser.add_argument("--only", nargs="+", choices=list(PICTURES), default=list(PICTURES), help="pictures to make")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def bundle() -> Path:
            made = arguments.bundle or folder / "convnet-tiny-x2.sredge"
            if not made.exists():
                run_sr_edge("deploy", *MODEL, "--runs", "5", "-o", made)
            return made

        for choice in arguments.only:
            PICTURES[choice](folder, bundle)


if __name__ == "__main__":
    main()
