"""The page in Chromium: pixels, slider, statistics, switching between engines, and no external requests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from sr_edge.camera.preview.access import Access
from sr_edge.image_files import read_picture
from sr_edge.runtimes import Session
from tests.camera.preview.running_preview import (
    HEIGHT,
    STREAM_INFO,
    WIDTH,
    Pixels,
    before_and_after,
    psnr_db,
    running_stream,
    serving,
    write_image,
)

pytestmark = pytest.mark.services

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
LIMIT_MS = 60_000
READ_CANVAS = """canvas => Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is absent")
    if CHROMIUM is None:
        pytest.skip("chromium is absent; `make setup-browser` installs it")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image(tmp_path_factory.mktemp("images") / "images")


@pytest.fixture(scope="module")
def address(bundle: Path, images: Path) -> Iterator[str]:
    with running_stream(bundle, images) as stream, serving(stream, STREAM_INFO, Access("127.0.0.1", "")) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """The open page with images; fails if it logs an error or sends a request to another host."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    errors: list[str] = []
    hosts: set[str] = set()
    opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    opened.goto(address, wait_until="domcontentloaded")
    opened.wait_for_selector("html[data-frames]", state="attached", timeout=LIMIT_MS)
    yield opened
    opened.close()
    assert errors == []
    assert hosts <= {urlsplit(address).netloc, ""}


def click_option(page: Any, name: str, value: str) -> None:
    """Clicks the label of a radio button."""
    page.locator(f'label:has(input[name="{name}"][value="{value}"])').click()


def canvas_pixels(page: Any, name: str) -> Pixels:
    rgba = page.eval_on_selector(f"#{name}", READ_CANVAS)
    return np.array(rgba, np.uint8).reshape(2 * HEIGHT, 2 * WIDTH, 4)[..., :3]


def screenshot(page: Any, folder: Path) -> Pixels:
    """The visible images, with the divider and the labels over them."""
    file = folder / "view.png"
    page.locator("#view").screenshot(path=file)
    return read_picture(file).pixels.astype(np.uint8)


def test_both_canvases_show_the_right_pixels(page: Any, images: Path, session: Session) -> None:
    before, after = before_and_after(images, session)
    click_option(page, "interpolation", "nearest")
    assert psnr_db(canvas_pixels(page, "after"), after) > 35
    assert psnr_db(canvas_pixels(page, "before"), before.repeat(2, 0).repeat(2, 1)) > 35
    click_option(page, "interpolation", "smooth")
    assert psnr_db(canvas_pixels(page, "before"), before.repeat(2, 0).repeat(2, 1)) < 35


def test_the_slider_divides_before_from_after(page: Any, images: Path, session: Session, tmp_path: Path) -> None:
    before, after = before_and_after(images, session)
    click_option(page, "interpolation", "nearest")
    click_option(page, "zoom", "1")
    expected = {"before": before.repeat(2, 0).repeat(2, 1), "after": after}
    for share in (0.25, 0.75):
        box = page.locator("#slider").bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 0.8 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + share * box["width"], box["y"] + 0.8 * box["height"], steps=5)
        page.mouse.up()
        seen = screenshot(page, tmp_path)
        assert seen.shape == after.shape
        divider = round(share * seen.shape[1])
        assert looks_like(seen[:, : divider - 20], "before", expected, slice(0, divider - 20))
        assert looks_like(seen[:, divider + 20 :], "after", expected, slice(divider + 20, None))


def looks_like(seen: Pixels, name: str, images: dict[str, Pixels], columns: slice) -> bool:
    """Whether the rows below the labels show the named image, and clearly not the other one."""
    rows = slice(48, None)
    likeness_db = {key: psnr_db(seen[rows], image[rows, columns]) for key, image in images.items()}
    other = "after" if name == "before" else "before"
    return likeness_db[name] > 35 and likeness_db[name] > likeness_db[other] + 6


def test_the_slider_can_be_moved_by_keys(page: Any) -> None:
    page.locator("#slider").focus()
    before = float(page.locator("#slider").input_value())
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert float(page.locator("#slider").input_value()) == before + 5
    assert page.locator("#divider").evaluate("divider => divider.style.left") == "50.5%"


def test_statistics_and_graphs_are_updated(page: Any) -> None:
    page.wait_for_selector("#rate path.first", state="attached", timeout=LIMIT_MS)
    page.wait_for_selector("#latency path.second", state="attached", timeout=LIMIT_MS)
    assert page.locator("#state-text").inner_text() == "Live"
    assert float(page.locator("#rate b").inner_text()) > 0
    assert page.locator("#latency b").inner_text().endswith(" ms")
    assert "160 × 90 → 320 × 180" in page.locator("#stream-info").inner_text()


def test_the_engine_is_changed_by_a_click(page: Any) -> None:
    running = page.locator("html").get_attribute("data-engine")
    other = next(option.label for option in STREAM_INFO.engines if option.label != running)
    click_option(page, "engine", other)
    page.wait_for_selector(f'html[data-engine="{other}"]', state="attached", timeout=LIMIT_MS)
    page.wait_for_selector(f'input[value="{other}"]:checked', state="attached", timeout=LIMIT_MS)


def test_a_lost_connection_is_reported(browser: Any, bundle: Path, images: Path) -> None:
    with running_stream(bundle, images) as stream, browser.new_page() as page:
        with serving(stream, STREAM_INFO, Access("127.0.0.1", "")) as port:
            page.goto(f"http://127.0.0.1:{port}/", wait_until="domcontentloaded")
            page.wait_for_selector('#state[data-state="live"]', timeout=LIMIT_MS)
        page.wait_for_selector('#state[data-state="lost"]', timeout=LIMIT_MS)
        assert "Is it still running?" in page.locator("#notice").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_overflows_the_window(browser: Any, address: str, width: int, scheme: str) -> None:
    with browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme) as page:
        page.goto(address, wait_until="domcontentloaded")
        page.wait_for_selector("html[data-frames]", state="attached", timeout=LIMIT_MS)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        background = page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
        assert (background == "rgb(16, 19, 21)") is (scheme == "dark")
