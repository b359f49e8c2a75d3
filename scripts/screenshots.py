"""Takes the pictures of the README from the demo: docs/images/phone.png and desk.png.

    make screenshots                               starts a demo of its own, built first
    make screenshots ARGS=http://127.0.0.1:8000    uses one that runs

Pictures have one pixel for each of CSS and end with the window, so they stay small.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, ViewportSize, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from demo import DEMO_CUSTOMERS  # noqa: E402 - found once its folder is on the path

PORT = 8790
BUILD_SECONDS = 300
IMAGES = ROOT / "docs" / "images"
MOST_BYTES = 120_000
PICTURES: tuple[tuple[str, ViewportSize], ...] = (
    ("desk", {"width": 1280, "height": 800}),
    ("phone", {"width": 360, "height": 720}),
)


@contextmanager
def a_demo() -> Iterator[str]:
    """The address of a demo that is started for the pictures and ended after them."""
    with tempfile.TemporaryDirectory() as data:
        more = {"LASTMILE_DEMO": "1", "LASTMILE_DATA": data, "PORT": str(PORT)}
        process = subprocess.Popen([sys.executable, str(ROOT / "app.py")], env=os.environ | more)
        try:
            address = f"http://127.0.0.1:{PORT}"
            wait_for(address, process)
            yield address
        finally:
            process.terminate()
            process.wait()


def wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + BUILD_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            sys.exit("the demo did not start")
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):  # noqa: S310 - our own
                return
        except OSError:
            time.sleep(0.5)
    sys.exit("the demo took too long to build")


def take(browser: Browser, address: str, name: str, size: ViewportSize) -> None:
    """Sign in as the first customer of the demo and picture the page that follows."""
    page = browser.new_page(viewport=size, locale="en-US", reduced_motion="reduce")
    page.goto(f"{address}/sign-in")
    page.fill("[name=sign_in_id]", DEMO_CUSTOMERS[0].sign_in_id)
    page.fill("[name=password]", DEMO_CUSTOMERS[0].password)
    page.click("main form button.button")
    page.wait_for_url("**/a/**")
    path = IMAGES / f"{name}.png"
    page.screenshot(path=path)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")
    if path.stat().st_size > MOST_BYTES:
        sys.exit(f"{path.name} is larger than {MOST_BYTES:,} bytes")


def main(arguments: list[str]) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("needs Chromium: apt-get install chromium")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        if arguments:
            shoot(browser, arguments[0].rstrip("/"))
        else:
            with a_demo() as address:
                shoot(browser, address)
        browser.close()


def shoot(browser: Browser, address: str) -> None:
    for name, size in PICTURES:
        take(browser, address, name, size)


if __name__ == "__main__":
    main(sys.argv[1:])
