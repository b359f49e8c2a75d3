"""Stylesheets and scripts as they are served: one file each, minified, compressed once, with the
hash of the content in the name.

The stylesheets are made from the lists `static/css/plain.list` (inlined in the pages before
sign-in), `portal.list` and `staff.list`, with the ISP's accent colours at the end, so they change
with the brand.
Everything is kept in memory by its hash; there is no build step.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import brotli
from flask import Response

from core.compression import best_encoding
from core.isp import IspView, current_isp
from core.settings import ROOT

STATIC = ROOT / "static"
SCRIPTS = ("vendor/htmx-4.0.1.min.js", "js/portal.js", "js/passkey.js")
STYLESHEETS = {"css/portal.css": "portal.list", "css/staff.css": "staff.list"}
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}


@dataclass(frozen=True, slots=True)
class Asset:
    """The bytes of one file, as they are and compressed, under its name with hash."""

    name: str
    content_type: str
    plain: bytes
    brotli: bytes
    gzip: bytes


def minify_css(text: str) -> str:
    """The stylesheet without comments and needless white space. Strings must not hold either."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\s*([{};,>])\s*", r"\1", text)
    text = re.sub(r":\s+", ":", text)
    return text.replace(";}", "}").strip()


def minify_js(text: str) -> str:
    """One of our own scripts without indentation and lines that are comments alone. A string must
    not hold a line break or such a comment."""
    text = re.sub(r"^\s*/\*.*?\*/$", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//")) + "\n"


@lru_cache(maxsize=4)
def _stylesheet_source(list_name: str) -> str:
    names = (STATIC / "css" / list_name).read_text().split()
    return minify_css("\n".join((STATIC / "css" / name).read_text() for name in names))


@lru_cache(maxsize=8)
def stylesheet(list_name: str, accent: str, accent_dark: str) -> str:
    """The whole stylesheet of `list_name` with the brand's accent colours."""
    return _stylesheet_source(list_name) + f":root{{--accent:{accent};--accent-dark:{accent_dark}}}"


@lru_cache(maxsize=32)
def _asset(path: str, content: bytes) -> Asset:
    stem, dot, suffix = path.rpartition(".")
    digest = hashlib.sha256(content).hexdigest()[:10]
    return Asset(
        f"{stem}-{digest}{dot}{suffix}",
        _TYPES[dot + suffix],
        content,
        brotli.compress(content, quality=11),
        gzip.compress(content, 9, mtime=0),
    )


@lru_cache(maxsize=8)
def _script(path: str) -> Asset:
    content = (STATIC / path).read_bytes()
    is_own = path.startswith("js/")
    return _asset(path, minify_js(content.decode()).encode() if is_own else content)


@lru_cache(maxsize=8)
def _stylesheet(path: str, accent: str, accent_dark: str) -> Asset:
    return _asset(path, stylesheet(STYLESHEETS[path], accent, accent_dark).encode())


def find(path: str, isp: IspView) -> Asset:
    """The asset of `path` (as templates name it). Raises KeyError for an unknown one."""
    if path in STYLESHEETS:
        return _stylesheet(path, isp.accent, isp.accent_dark)
    if path in SCRIPTS:
        return _script(path)
    raise KeyError(path)


def address(path: str, isp: IspView) -> str:
    """The path under which pages ask for the asset of `path`."""
    return f"/static/{find(path, isp).name}"


def inline_css(isp: IspView) -> str:
    """The styles of the pages before sign-in."""
    return stylesheet("plain.list", isp.accent, isp.accent_dark)


@lru_cache(maxsize=8)
def _style_hash(css: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()


def inline_style_hash(isp: IspView) -> str:
    """The CSP source that admits exactly the inlined styles."""
    return _style_hash(inline_css(isp))


def serve(name: str) -> Response | None:
    """The file of a hashed name in the best encoding the browser takes; None when unknown.

    A name with an older hash gets the current file without a long life: the page that asked for
    it was made before the brand changed.
    """
    isp = current_isp()
    for path in (*SCRIPTS, *STYLESHEETS):
        asset = find(path, isp)
        stem = path.rpartition(".")[0]
        suffix = Path(path).suffix
        if not re.fullmatch(re.escape(stem) + r"-[0-9a-f]{10}" + re.escape(suffix), name):
            continue
        encoding = best_encoding()
        bodies = {"br": asset.brotli, "gzip": asset.gzip, None: asset.plain}
        response = Response(bodies[encoding], content_type=asset.content_type)
        if encoding is not None:
            response.headers["Content-Encoding"] = encoding
        response.headers["Vary"] = "Accept-Encoding"
        response.headers["Cache-Control"] = (
            "public, max-age=31536000, immutable" if asset.name == name else "no-cache"
        )
        return response
    return None
