"""A real browser that keeps account of everything that goes wrong in it."""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

# No screen and no graphics card: Chromium draws WebGL in software.
_FLAGS: Final = (
    "--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

# Chromium's reader of PDF is made of pages of its own.
_BROWSERS_OWN: Final = ("chrome:", "chrome-extension:")

# How long something may be waited for.
WAIT_MS: Final = 60_000

# What the viewer itself says at any archive, and why it is no fault of ours.
VIEWERS_OWN: Final = (
    # WebGL in software is slow, and Chromium says so.
    re.compile(r"GPU stall due to ReadPixels"),
)


def screenshots_folder() -> Path:
    """Where pictures of the viewer are left."""
    named = os.environ.get("SCREENSHOTS")
    folder = Path(named or Path(tempfile.gettempdir()) / "fileroom-screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Watched:
    """A page, and what failed in it: requests, scripts, requests to other hosts."""

    def __init__(self, context, root: str) -> None:
        self.root = root
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.page = context.new_page()
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self._fault(f"script error: {error}"))
        self.page.on("request", self._on_request)
        self.page.on("requestfailed", self._on_failed)
        self.page.on("response", self._on_response)
        self._watching = True

    def _fault(self, text: str) -> None:
        if self._watching and not any(own.search(text) for own in VIEWERS_OWN):
            self.faults.append(text)

    def _on_console(self, message) -> None:
        if message.type == "error":
            self._fault(f"console: {message.text}")

    def _on_request(self, request) -> None:
        self.requests.append(request.url)
        ours = (self.root, "blob:", "data:", *_BROWSERS_OWN)
        if not request.url.startswith(ours):
            self._fault(f"asked another host: {request.url}")

    def _on_failed(self, request) -> None:
        # The reader of PDF takes a document over by ending the frame's request.
        if not request.url.startswith(("blob:", *_BROWSERS_OWN)):
            self._fault(f"failed: {request.method} {request.url}: {request.failure}")

    def _on_response(self, response) -> None:
        if response.status >= 400:
            self._fault(f"{response.status}: {response.request.method} {response.url}")

    def picture(self, name: str) -> None:
        """Leave a picture of the page."""
        self.page.screenshot(path=screenshots_folder() / f"{name}.png")

    def close(self) -> None:
        """Close the page; what it was still fetching is no fault."""
        self._watching = False
        self.page.close()


@contextlib.contextmanager
def browser(playwright, *flags: str) -> Iterator:
    """A headless Chromium, Debian's: nothing is downloaded."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("NOT TESTED: no chromium on this machine (Debian: apt install chromium)")
    launched = playwright.chromium.launch(executable_path=program, args=[*_FLAGS, *flags])
    try:
        yield launched
    finally:
        launched.close()


@contextlib.contextmanager
def profile(launched) -> Iterator:
    """A profile of a user who has seen the tour of the viewer."""
    opened = launched.new_context(viewport={"width": 1400, "height": 900})
    # The pages of Chromium's reader of PDF have no storage.
    opened.add_init_script(
        "localStorage?.setItem('shownTours', JSON.stringify(['basicViewerTour']))"
    )
    opened.set_default_timeout(WAIT_MS)
    yield opened
    opened.close()
