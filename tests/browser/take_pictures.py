"""Every page as a picture, for people to look at: `make pictures`, into build/pictures.

Sizes, colour schemes, 400 % zoom, right to left with strange letters a third longer, and print.
Each sheet shows all pages of one person side by side. Not a test: pytest only lends its fixtures.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from core.settings import ROOT
from tests.browser import pages
from tests.browser.conftest import NewVisitor

FOLDER = ROOT / "build" / "pictures"
WIDTHS = (320, 768, 1280)
PEOPLE = os.environ.get("WHO", "alice,busy,vast,held,arab,").split(",")

MIRROR = """() => {
  const letters = "ابتثجحخدذرزسشصضطظعغفقكلمنهوي";
  const strange = (word) => [...word, ..."xx".repeat(Math.round(word.length / 6))]
    .map((it) => letters[it.charCodeAt(0) % letters.length]).join("");
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node; node = walk.nextNode())
    if (!node.parentElement.closest("bdi,script,style"))
      node.data = node.data.replace(/[A-Za-z]+/g, strange);
}"""


def _looks(page: Page, name: str | None) -> Iterator[str]:
    """Set the page up in each way to look at it; yields the way's name."""
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 700})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, media="screen")
            yield f"{width}-{scheme}"
    page.emulate_media(color_scheme="light", media="screen")
    page.set_viewport_size({"width": 320, "height": 180})  # a desk's window at 400 %
    yield "zoomed"
    page.emulate_media(color_scheme="light", media="print")
    page.set_viewport_size({"width": 720, "height": 900})
    yield "print"
    page.emulate_media(media="screen")
    if name == "arab":
        page.evaluate(MIRROR)
        for width in (320, 1280):
            page.set_viewport_size({"width": width, "height": 700})
            yield f"{width}-mirrored"
    page.set_viewport_size({"width": 320, "height": 700})


@pytest.mark.browser
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", PEOPLE)
def test_take_pictures(new_visitor: NewVisitor, name: str) -> None:
    visitor = new_visitor()
    taken: dict[str, list[Path]] = {}
    for number, place in enumerate(pages.walk(visitor, name or None)):
        title = "".join(it if it.isalnum() else "-" for it in place).strip("-")[-60:]
        for look in _looks(visitor.page, name or None):
            path = FOLDER / (name or "everyone") / f"{number:02}-{title}-{look}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            visitor.page.screenshot(path=path, full_page=True)
            taken.setdefault(look, []).append(path)
    sheets = new_visitor().page
    for look, paths in taken.items():
        figures = "".join(
            f"<figure style='margin:0;flex:none'><figcaption>{path.stem[:60]}</figcaption>"
            f"<img src='{path.as_uri()}' style='height:720px;max-width:900px;border:1px solid'>"
            "</figure>"
            for path in paths
        )
        style = "margin:8px;display:flex;flex-wrap:wrap;gap:8px;font:11px sans-serif;width:1900px"
        html = FOLDER / f"{name or 'everyone'}-{look}.html"
        html.write_text(f"<meta charset=utf-8><body style='{style}'>{figures}")
        sheets.goto(html.as_uri())
        sheets.set_viewport_size({"width": 1920, "height": 800})
        sheets.screenshot(path=html.with_suffix(".png"), full_page=True)
        html.unlink()
