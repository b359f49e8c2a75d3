"""Stylesheets and scripts: one file each, small, under the hash of their content."""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import replace

import brotli
import pytest

from core import assets
from core.isp import IspView, current_isp
from core.settings import ROOT
from tests.conftest import Portal


@pytest.fixture
def isp(ctx: Portal) -> IspView:
    with ctx.app.test_request_context("/"):
        return current_isp()


@pytest.mark.parametrize(
    ("source", "small"),
    [
        ("a { color : red ; }", "a{color :red}"),
        ("a{}\n\n/* why */\nb{}", "a{}b{}"),
        ("a  >  b , c { margin: 0  auto }", "a>b,c{margin:0 auto}"),
        ("@media (width > 10rem) { a { top: 0; } }", "@media (width>10rem){a{top:0}}"),
        ("a { width: calc(1px + 2px); }", "a{width:calc(1px + 2px)}"),
        ("a :hover { top: 0 }", "a :hover{top:0}"),
    ],
)
def test_stylesheet_is_minified(source: str, small: str) -> None:
    assert assets.minify_css(source) == small


def test_own_scripts_are_served_without_comments_and_indentation() -> None:
    source = '/* Why\n   it is. */\n(() => {\n  // A word.\n  f("//");  // aside\n})();\n'
    assert assets.minify_js(source) == '(() => {\nf("//");  // aside\n})();\n'


def test_sources_hold_nothing_that_minifying_would_break() -> None:
    for path in (ROOT / "static" / "css").rglob("*.css"):
        text = path.read_text()
        code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        for string in re.findall(r'"[^"]*"', code):
            assert not re.search(r"/\*|\s{2}|[{};,>]\s|:\s", string), (path, string)
    for name in ("plain.list", "portal.list", "staff.list"):
        listed = (ROOT / "static" / "css" / name).read_text().split()
        assert len(listed) == len(set(listed))


def test_every_stylesheet_is_listed() -> None:
    folder = ROOT / "static" / "css"
    listed = {
        name
        for file in ("plain.list", "portal.list", "staff.list")
        for name in (folder / file).read_text().split()
    }
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.css")} == listed


def test_name_holds_the_hash_and_every_encoding_the_same_bytes(isp: IspView) -> None:
    for path in (*assets.SCRIPTS, *assets.STYLESHEETS):
        asset = assets.find(path, isp)
        assert hashlib.sha256(asset.plain).hexdigest()[:10] in asset.name
        assert brotli.decompress(asset.brotli) == gzip.decompress(asset.gzip) == asset.plain
        assert len(asset.brotli) < len(asset.gzip) < len(asset.plain)


def test_brand_changes_stylesheet_and_policy(isp: IspView) -> None:
    other = replace(isp, accent="#123456", accent_dark="#abcdef")
    assert assets.find("css/portal.css", isp).name != assets.find("css/portal.css", other).name
    assert assets.inline_style_hash(isp) != assets.inline_style_hash(other)
    assert b"--accent:#123456" in assets.find("css/portal.css", other).plain
    assert "--accent:#123456" in assets.inline_css(other)


def test_unknown_file_is_an_error_for_a_template(isp: IspView) -> None:
    with pytest.raises(KeyError):
        assets.find("css/other.css", isp)


def test_nothing_is_loaded_from_another_host() -> None:
    for path in [*(ROOT / "templates").rglob("*.html"), *(ROOT / "static" / "css").rglob("*.css")]:
        text = path.read_text()
        if path.parent.name == "email":
            continue
        assert "url(http" not in text
        assert "@import" not in text
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', text), path
