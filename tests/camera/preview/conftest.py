"""Chromium, and a page of a running preview that fails if it logs an error or loads something from another host."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from sr_edge.camera.preview.access import Access
from tests.camera.preview.running_preview import STREAM_INFO, running_stream, serving, write_image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
OpenPage = Callable[..., AbstractContextManager[Any]]


@pytest.fixture(scope="session")
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
def open_page(browser: Any, address: str) -> OpenPage:
    """Opens a page; its arguments are those of a browser context."""

    @contextmanager
    def opened(page_address: str = address, **options: Any) -> Iterator[Any]:
        page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **options})
        errors: list[str] = []
        hosts: set[str] = set()
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        page.set_default_timeout(60_000)
        page.goto(page_address, wait_until="domcontentloaded")
        page.wait_for_selector("html[data-frames]", state="attached")
        yield page
        page.context.close()
        assert errors == []
        assert hosts <= {urlsplit(page_address).netloc, ""}

    return opened


@pytest.fixture
def page(open_page: OpenPage) -> Iterator[Any]:
    with open_page() as opened:
        yield opened
