"""The page in Chromium: pixels, boundary, statistics, switching between engines, and its layout at four widths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sr_edge.camera.preview.access import Access
from sr_edge.camera.preview.engines import EngineOption
from sr_edge.image_files import read_picture
from sr_edge.runtimes import Session
from sr_edge.spec import Precision
from tests.camera.preview.conftest import OpenPage
from tests.camera.preview.running_preview import (
    HEIGHT,
    STREAM_INFO,
    WIDTH,
    Pixels,
    before_and_after,
    psnr_db,
    running_stream,
    serving,
)

pytestmark = pytest.mark.services

LIMIT_MS = 60_000
MIN_TOUCH_PX = 40
READ_CANVAS = """canvas => Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data)"""
CONTROL_HEIGHTS = """() => Array.from(document.querySelectorAll("main button, select, .segments span"))
    .filter(control => control.checkVisibility()).map(control => [control.textContent.trim(), control.offsetHeight])"""


def click_option(page: Any, name: str, value: str) -> None:
    """Clicks the label of a radio button."""
    page.locator(f'label:has(input[name="{name}"][value="{value}"])').click()


def canvas_pixels(page: Any, name: str) -> Pixels:
    rgba = page.eval_on_selector(f"#pane .{name}", READ_CANVAS)
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
        box = page.locator("#view").bounding_box()
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
    assert page.locator("#pane .divider").evaluate("divider => divider.style.left") == "50.5%"


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


@pytest.mark.parametrize("width", [320, 390, 768, 1440])
def test_all_precisions_of_a_runtime_fit_into_the_window(
    open_page: OpenPage, bundle: Path, images: Path, width: int
) -> None:
    labels = [(kind, Precision.FP32) for kind in Precision]
    labels += [(Precision.INT8, kind) for kind in (Precision.BF16, Precision.FP16)]
    engines = (*STREAM_INFO.engines, *(EngineOption("tensorrt-rtx", *pair) for pair in labels))
    info = replace(STREAM_INFO, engines=engines, recommended=engines[-2])
    with (
        running_stream(bundle, images) as stream,
        serving(stream, info, Access("127.0.0.1", "")) as port,
        open_page(f"http://127.0.0.1:{port}/", viewport={"width": width, "height": 800}, has_touch=True) as page,
    ):
        assert page.locator("#engines input").count() == len(engines)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for button in page.locator("#engines label, #toolbar button").all():
            box = button.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= width and box["height"] >= MIN_TOUCH_PX


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 768, 1440])
def test_nothing_overflows_the_window(open_page: OpenPage, width: int, scheme: str) -> None:
    is_phone = width < 600
    with open_page(
        viewport={"width": width, "height": 800}, color_scheme=scheme, has_touch=is_phone, is_mobile=is_phone
    ) as page:
        running = page.locator("html").get_attribute("data-engine")  # another test may have changed it
        other = next(option.label for option in STREAM_INFO.engines if option.label != running)
        for compared in ("", other):
            page.select_option("#compared", compared)
            page.wait_for_function(
                "shown => document.querySelectorAll('.pane:not([hidden])').length == shown", arg=2 if compared else 1
            )
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.keyboard.press("?")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.keyboard.press("Escape")
        page.select_option("#compared", "")
        background = page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
        assert (background == "rgb(16, 19, 21)") is (scheme == "dark")
        if is_phone:
            assert [control for control in page.evaluate(CONTROL_HEIGHTS) if control[1] < MIN_TOUCH_PX] == []
