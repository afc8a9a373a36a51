"""The controls of the page in Chromium: zoom, pause, snapshot, full screen, two engines, messages, and the keyboard."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sr_edge.bundle import open_bundle
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.preview.access import Access
from sr_edge.camera.preview.engines import EngineOption
from sr_edge.camera.preview.repeating_source import RepeatingSource
from sr_edge.camera.preview.server import StreamInfo
from sr_edge.camera.preview.stream import PreviewStream
from sr_edge.camera.preview.switching import SwitchableFrameUpscaler
from sr_edge.camera.protocols import Source
from sr_edge.camera.sources.open import open_source
from sr_edge.camera.sources.wrappers import PacedSource
from sr_edge.image_files import read_picture
from sr_edge.model_sources import open_session
from sr_edge.runtimes import Session
from sr_edge.spec import Precision
from tests.camera.clips import flat_frame
from tests.camera.fakes import ListSource
from tests.camera.preview.conftest import OpenPage
from tests.camera.preview.running_preview import ENGINES, STREAM_INFO, Pixels, before_and_after, psnr_db, serving

pytestmark = pytest.mark.services

LIMIT_S = 60
SMALL = {"viewport": {"width": 320, "height": 700}}
"""A window that is smaller than the enlarged image."""
THIRD = EngineOption("torch", Precision.FP32)
READ_VISIBLE = """view => {
  const canvas = view.querySelector(".after");
  const [x, y] = [-parseFloat(canvas.style.left), -parseFloat(canvas.style.top)];
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return { x, y, width: canvas.width, height: canvas.height, pixels: Array.from(pixels) };
}"""
RECORD_ENGINES = """() => {
  const html = document.documentElement;
  html.dataset.seen = html.dataset.engine;
  new MutationObserver(() => { html.dataset.seen += "," + html.dataset.engine; })
    .observe(html, { attributeFilter: ["data-engine"] });
}"""
FOCUS_STYLE = """() => {
  const focused = document.activeElement;
  const shown = focused.matches(".segments input") ? focused.nextElementSibling
    : focused.id === "slider" ? document.querySelector(".grip") : focused;
  const { outlineStyle, boxShadow } = getComputedStyle(shown);
  const isMarked = outlineStyle !== "none" || boxShadow.includes("inset") || boxShadow.includes("0px 0px 0px 4px");
  return [focused.id || focused.name, isMarked];
}"""


def frames_drawn(page: Any) -> int:
    return int(page.locator("html").get_attribute("data-frames"))


def wait_for_frames(page: Any, more: int) -> None:
    page.wait_for_function("count => document.documentElement.dataset.frames >= count", arg=frames_drawn(page) + more)


def offset(page: Any) -> list[str]:
    return list(page.locator("#pane .after").evaluate("canvas => [canvas.style.left, canvas.style.top]"))


def visible_pixels(page: Any, folder: Path) -> tuple[Pixels, Any]:
    """A screenshot of the picture, and what its canvas contains and which part of it is visible."""
    page.locator("#view").screenshot(path=folder / "view.png")
    return read_picture(folder / "view.png").pixels.astype(np.uint8), page.eval_on_selector("#view", READ_VISIBLE)


@pytest.mark.parametrize("zoom", [2, 4])
def test_an_enlarged_picture_has_sharp_pixels(open_page: OpenPage, zoom: int, tmp_path: Path) -> None:
    with open_page(**SMALL) as page:
        page.keyboard.press("p")
        page.keyboard.press(str(zoom))
        page.locator("#slider").focus()
        page.keyboard.press("Home")  # the boundary at the left border shows the output only
        seen, canvas = visible_pixels(page, tmp_path)
    output = np.array(canvas["pixels"], np.uint8).reshape(canvas["height"], canvas["width"], 4)[..., :3]
    expected = output.repeat(zoom, 0).repeat(zoom, 1)[int(canvas["y"]) :, int(canvas["x"]) :]
    inside = (slice(50, seen.shape[0] - 70), slice(40, None))  # below the labels, right of the boundary
    assert psnr_db(seen[inside], expected[: seen.shape[0], : seen.shape[1]][inside]) > 50


def test_an_enlarged_picture_is_moved_by_dragging_and_by_keys(open_page: OpenPage) -> None:
    with open_page(**SMALL) as page:
        page.keyboard.press("4")
        boundary = page.locator("#slider").input_value()
        start = offset(page)
        box = page.locator("#view").bounding_box()
        page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.8 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.8 * box["width"] - 60, box["y"] + 0.8 * box["height"] - 30, steps=4)
        page.mouse.up()
        dragged = offset(page)
        moved = [float(now[:-2]) - float(then[:-2]) for now, then in zip(dragged, start, strict=True)]
        assert moved == pytest.approx([-60, -30], abs=1)
        assert page.locator("#slider").input_value() == boundary
        page.locator("#stage").focus()
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowUp")
        assert offset(page) != dragged
        for _ in range(40):
            page.keyboard.press("ArrowRight")
        box = page.locator("#view").bounding_box()
        canvas = page.locator("#pane .after").bounding_box()
        assert canvas["x"] + canvas["width"] == pytest.approx(box["x"] + box["width"], abs=1), "not beyond the border"
        page.keyboard.press("0")
        assert offset(page) == ["0px", "0px"]


def test_reused_tiles_are_tinted(open_page: OpenPage) -> None:
    """The image stands still, so that all of its tiles are reused."""
    read_mean = """canvas => {
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      const samples = channel => data.filter((_, index) => index % 4 === channel);
      return [0, 1, 2].map(channel => samples(channel).reduce((a, b) => a + b) / (data.length / 4));
    }"""
    tint, strength = np.array([0, 200, 140]), 0.35
    with open_page() as page:
        wait_for_frames(page, 3)
        page.wait_for_selector("#show-reused", state="visible")
        page.keyboard.press("p")
        canvas, button = page.locator("#pane .after"), page.locator("#show-reused")
        plain = np.array(canvas.evaluate(read_mean))
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        tinted = np.array(canvas.evaluate(read_mean))
        page.keyboard.press("r")
        assert button.get_attribute("aria-pressed") == "false"
        assert np.array(canvas.evaluate(read_mean)) == pytest.approx(plain, abs=0.01)
        assert page.locator("#reused b").inner_text() == "100 %"
    assert tinted == pytest.approx((1 - strength) * plain + strength * tint, abs=1.5)


def test_a_paused_page_keeps_its_frame(page: Any) -> None:
    wait_for_frames(page, 1)
    page.locator("#pause").click()
    page.wait_for_timeout(500)
    paused = frames_drawn(page)
    page.wait_for_timeout(500)
    assert frames_drawn(page) == paused
    assert page.locator("#paused-tag").is_visible()
    for _ in range(4):
        page.keyboard.press("p")
    assert page.locator("#pause").inner_text() == "Resume"
    page.keyboard.press("p")
    wait_for_frames(page, 2)
    assert page.locator("#paused-tag").is_hidden()


def test_a_snapshot_is_downloaded_at_full_size(page: Any, images: Path, session: Session) -> None:
    _, after = before_and_after(images, session)
    with page.expect_download() as download:
        page.locator("#snapshot").click()
    assert download.value.suggested_filename.endswith(".png")
    assert psnr_db(read_picture(download.value.path()).pixels.astype(np.uint8), after) > 55
    assert download.value.suggested_filename in page.locator("#activity").inner_text()


def test_the_picture_fills_the_screen(page: Any) -> None:
    small = page.locator("#stage").bounding_box()["height"]
    page.keyboard.press("f")
    page.wait_for_function("() => document.fullscreenElement?.id === 'player'")
    page.wait_for_function("height => document.getElementById('stage').offsetHeight > height", arg=small)
    assert page.locator("#full-screen").get_attribute("aria-pressed") == "true"
    page.locator("#full-screen").click()
    page.wait_for_function("() => document.fullscreenElement === null")
    page.wait_for_function("height => document.getElementById('stage').offsetHeight == height", arg=small)


def test_two_engines_are_shown_side_by_side(page: Any) -> None:
    engine = page.locator("html").get_attribute("data-engine")
    other = next(option.label for option in ENGINES if option.label != engine)
    page.select_option("#compared", other)
    page.wait_for_selector("#compared-pane .after", state="visible")
    first, second = (page.locator(f"{pane} .after-tag").inner_text() for pane in ("#pane", "#compared-pane"))
    assert first.split(" · ")[0] != second.split(" · ")[0]
    assert "dB" in page.locator("#difference").inner_text() or "the same" in page.locator("#difference").inner_text()
    page.keyboard.press("2")
    panes = ("#pane", "#compared-pane")
    positions = {page.locator(f"{pane} .after").evaluate("canvas => canvas.style.cssText") for pane in panes}
    assert len(positions) == 1, "both show the same part"
    page.locator(f'label:has(input[value="{other}"])').click()  # the two engines change places
    page.wait_for_selector(f'html[data-engine="{other}"]', state="attached")
    assert page.locator("#compared").input_value() == engine
    page.select_option("#compared", "")
    page.wait_for_selector("#compared-pane", state="hidden")
    assert page.locator("#difference").is_hidden()


def test_the_recommended_engine_is_marked(page: Any) -> None:
    assert STREAM_INFO.recommended is not None
    marked = page.locator("label.recommended input")
    assert marked.count() == 1
    assert marked.get_attribute("value") == STREAM_INFO.recommended.label
    assert "recommended" in marked.get_attribute("aria-label")
    assert "OpenVINO fp32" in page.locator(".recommendation").inner_text()


@contextmanager
def running(source: Source, upscaler: SwitchableFrameUpscaler, engines: tuple[EngineOption, ...]) -> Iterator[str]:
    """The address of a preview of `source`."""
    stream = PreviewStream(source, upscaler, waiting_after_s=0.3)
    stream.start()
    info = StreamInfo("still", "tiny.sredge", scale=2, policy="latest", engines=engines)
    try:
        with serving(stream, info, Access("127.0.0.1", "")) as port:
            yield f"http://127.0.0.1:{port}/"
    finally:
        stream.close()
        upscaler.close()


def test_rapid_clicks_load_only_what_is_wanted_last(open_page: OpenPage, bundle: Path, images: Path) -> None:
    may_load = threading.Event()

    def open_engine(option: EngineOption) -> Session:
        assert option == ENGINES[0] or may_load.wait(LIMIT_S)
        return open_session(opened, option.runtime, option.precision)

    with open_bundle(bundle) as opened:
        source = PacedSource(RepeatingSource(lambda: open_source(str(images))))
        upscaler = SwitchableFrameUpscaler(open_engine, ENGINES[0])
        with running(source, upscaler, (*ENGINES, THIRD)) as address, open_page(address) as page:
            page.wait_for_selector("#engines input", state="attached")
            page.evaluate(RECORD_ENGINES)
            for option in (ENGINES[1], THIRD, ENGINES[1], ENGINES[0], ENGINES[1], THIRD):
                page.locator(f'label:has(input[value="{option.label}"])').click()
                assert page.locator("#engines input:checked").get_attribute("value") == option.label
            assert page.locator("#activity b").inner_text() == "Loading PyTorch fp32 ..."
            assert "ONNX Runtime fp32 runs until then" in page.locator("#activity").inner_text()
            wait_for_frames(page, 5)
            assert page.locator("#engines input:checked").get_attribute("value") == THIRD.label
            may_load.set()
            page.wait_for_selector(f'html[data-engine="{THIRD.label}"]', state="attached")
            page.wait_for_selector("#activity", state="hidden")
            seen = set(page.locator("html").get_attribute("data-seen").split(","))
            assert seen == {ENGINES[0].label, THIRD.label}, "the engine in between was never used"


class StalledSource(ListSource):
    """Delivers one frame, then nothing."""

    def __init__(self) -> None:
        super().__init__(self._one_frame(), is_live=True)

    def _one_frame(self) -> Iterator[VideoFrame]:
        yield flat_frame(0, pts=0)
        assert self.closed.wait(LIMIT_S)


@pytest.mark.parametrize(
    ("is_reconnecting", "kind", "words"), [(False, "source", "stalled"), (True, "reconnection", "opened again")]
)
def test_the_page_says_why_there_is_no_frame(
    open_page: OpenPage, bundle: Path, is_reconnecting: bool, kind: str, words: str
) -> None:
    source = StalledSource()
    source.is_reconnecting = is_reconnecting
    upscaler = SwitchableFrameUpscaler(lambda option: open_session(bundle, option.runtime), ENGINES[0])
    with running(source, upscaler, ENGINES) as address, open_page(address) as page:
        page.wait_for_selector(f'#activity[data-kind="{kind}"]', state="visible")
        assert "No frame for" in page.locator("#activity").inner_text()
        assert words in page.locator("#activity small").inner_text()


def test_everything_can_be_done_with_the_keyboard_alone(page: Any) -> None:
    page.wait_for_selector("#engines input:checked", state="attached")
    reached = []
    for _ in range(20):
        page.keyboard.press("Tab")
        name, is_visible = page.evaluate(FOCUS_STYLE)
        if not name or name in reached:
            break
        reached.append(name)
        assert is_visible, f"the focus on {name} is not visible"
    buttons = ["pause", "snapshot", "full-screen", "help-button"]
    assert reached == ["stage", "slider", *buttons, "zoom", "interpolation", "engine", "compared"]
    page.locator('input[name="zoom"]:checked').focus()
    page.keyboard.press("ArrowRight")
    assert page.locator('input[name="zoom"]:checked').get_attribute("value") == "1"
    engine = page.locator("#engines input:checked").get_attribute("value")
    page.locator("#engines input:checked").focus()
    page.keyboard.press("ArrowDown")
    wanted = page.locator("#engines input:checked").get_attribute("value")
    assert wanted != engine
    page.wait_for_selector(f'html[data-engine="{wanted}"]', state="attached")
    page.locator("#pause").focus()
    page.keyboard.press("Enter")
    assert page.locator("#pause").get_attribute("aria-pressed") == "true"
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    assert "No frame for 2 s" in page.locator("#help").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#help").is_hidden()
