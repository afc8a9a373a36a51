"""The scalar inputs of a network are set while its stream runs: in the upscaler, by the server, and on the page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from websockets.sync.client import connect

from sr_edge.camera.preview.access import Access
from sr_edge.camera.preview.repeating_source import RepeatingSource
from sr_edge.camera.preview.server import StreamInfo
from sr_edge.camera.preview.stream import PreviewStream
from sr_edge.camera.preview.switching import SwitchableFrameUpscaler
from sr_edge.camera.sources.wrappers import PacedSource
from sr_edge.controls import Controls
from sr_edge.errors import UsageError
from sr_edge.frames import Batch, Uint8Frame
from sr_edge.upscaler.tile_choice import TileChoice
from tests.camera.clips import flat_frame
from tests.camera.fakes import ListSource
from tests.camera.preview.conftest import OpenPage
from tests.camera.preview.running_preview import ENGINES, serving
from tests.expected_errors import raises
from tests.upscaler.test_upscaler import NearestSession

LIMIT_S = 60


class GraySession(NearestSession):
    """Makes all pixels gray: `alpha` times 100 levels."""

    def run(self, frames: Batch | Uint8Frame, controls: Controls | None = None) -> Batch | Uint8Frame:
        level = 100 * (controls or {})["alpha"]
        large = super().run(frames, controls)
        return np.full_like(large, level if large.dtype == np.uint8 else level / 255)

    def close(self) -> None:
        """May be closed with a tile in flight, as the stream ends at any time."""


def level_of(upscaler: SwitchableFrameUpscaler) -> int:
    output = upscaler.infer(upscaler.prepare(flat_frame(0)))
    return int(np.unique(output.planes[0]).item())


def test_settings_apply_from_the_next_frame_on_and_the_others_stay() -> None:
    upscaler = SwitchableFrameUpscaler(lambda option: GraySession(), ENGINES[0], {"beta": 0.5})
    assert (level_of(upscaler), upscaler.controls) == (100, {"alpha": 1.0, "beta": 0.5})
    upscaler.set_controls({"alpha": 2})
    assert (level_of(upscaler), upscaler.controls) == (200, {"alpha": 2.0, "beta": 0.5})


@pytest.mark.parametrize("values", [{"gamma": 1.0}, {"alpha": 2.5}, {"alpha": 0.1, "beta": float("nan")}])
def test_what_the_network_refuses_changes_nothing(values: Controls) -> None:
    upscaler = SwitchableFrameUpscaler(lambda option: GraySession(), ENGINES[0])
    with raises(UsageError):
        upscaler.set_controls(values)
    assert (level_of(upscaler), upscaler.controls) == (100, {"alpha": 1.0, "beta": 1.0})


def test_an_engine_that_was_loading_meanwhile_has_the_settings() -> None:
    upscaler = SwitchableFrameUpscaler(lambda option: GraySession(), ENGINES[0])

    def is_wanted() -> bool:
        upscaler.set_controls({"alpha": upscaler.controls["alpha"] / 2})
        return True

    upscaler.switch([ENGINES[1]], is_wanted)
    assert upscaler.options == (ENGINES[1],)
    assert level_of(upscaler) == round(100 * upscaler.controls["alpha"]) < 100


def test_the_tiles_of_frames_are_reported_by_every_engine() -> None:
    choices: list[TileChoice] = []
    upscaler = SwitchableFrameUpscaler(lambda option: GraySession(), ENGINES[0], on_tiles=choices.append)
    level_of(upscaler)
    upscaler.switch([ENGINES[1]])
    level_of(upscaler)
    assert [choice.plan.tile for choice in choices] == [GraySession().spec.tile] * 2


@contextmanager
def gray_preview(engines: tuple[Any, ...] = ENGINES) -> Iterator[tuple[str, SwitchableFrameUpscaler]]:
    """The address of a preview whose network has two settings, and its upscaler."""
    session = GraySession()
    upscaler = SwitchableFrameUpscaler(lambda option: session, ENGINES[0])
    source = PacedSource(RepeatingSource(lambda: ListSource([flat_frame(number) for number in range(30)])))
    stream = PreviewStream(source, upscaler)
    stream.start()
    info = StreamInfo("still", "a.sredge", 2, "latest", engines, engines[-1], session.spec.controls)
    try:
        with serving(stream, info, Access("127.0.0.1", "")) as port:
            yield f"127.0.0.1:{port}", upscaler
    finally:
        stream.close()
        upscaler.close()


def test_the_server_lists_settings_sets_them_and_ignores_what_is_refused() -> None:
    with gray_preview() as (address, upscaler), connect(f"ws://{address}/live", proxy=None) as page:

        def statistics(number: int) -> dict[str, Any]:
            while (message := json.loads(page.recv(timeout=LIMIT_S))).get("request_number") != number:
                pass
            return dict(message)

        info = json.loads(page.recv(timeout=LIMIT_S))
        assert info["controls"][0] == {"name": "alpha", "default": 1.0, "minimum": 0.0, "maximum": 2.0}
        page.send(json.dumps({"request": "controls", "controls": {"alpha": 0.25}, "request_number": 1}))
        assert statistics(1)["controls"] == {"alpha": 0.25, "beta": 1.0} == upscaler.controls
        for number, refused in enumerate(({"alpha": 9}, {"alpha": "1"}, {"alpha": True}, {"none": 1}, [1], None), 2):
            page.send(json.dumps({"request": "controls", "controls": refused, "request_number": number}))
            assert statistics(number)["controls"] == {"alpha": 0.25, "beta": 1.0}


@pytest.mark.services
@pytest.mark.parametrize("width", [320, 390, 1440])
def test_a_slider_changes_the_picture_and_follows_other_pages(open_page: OpenPage, width: int) -> None:
    phone = {"viewport": {"width": width, "height": 800}, "has_touch": width < 600}
    with gray_preview() as (address, upscaler), open_page(f"http://{address}/", **phone) as page:
        sliders = page.locator("#settings input")
        assert [sliders.nth(index).input_value() for index in range(2)] == ["1", "1"]
        sliders.nth(0).focus()
        page.keyboard.press("End")
        page.wait_for_function("() => document.querySelector('#settings output').textContent === '2'")
        page.wait_for_function(
            """() => {
              const canvas = document.querySelector("#pane .after");
              const level = canvas.getContext("2d").getImageData(canvas.width - 1, canvas.height - 1, 1, 1).data[0];
              return Math.abs(level - 200) < 3;
            }"""
        )
        assert upscaler.controls == {"alpha": 2.0, "beta": 1.0}
        upscaler.set_controls({"beta": 0.5})  # by another page
        page.wait_for_function("() => document.querySelectorAll('#settings output')[1].textContent === '0.5'")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        if width < 600:
            assert sliders.nth(0).bounding_box()["height"] >= 40
