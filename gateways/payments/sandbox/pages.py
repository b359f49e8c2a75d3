"""The sandbox's HTML: templates from `pages/`, one style block known by its hash, no script."""

import base64
import hashlib
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

from babel.numbers import format_currency, get_currency_precision
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from werkzeug.wrappers import Response

_FOLDER = Path(__file__).with_name("pages")
_STYLE = (_FOLDER / "page.css").read_text(encoding="utf-8").strip()
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HOME_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Cpath fill='%233b5b7a' d='M8 1 1 5v2h14V5zM2 8h2v5H2zm5 0h2v5H7zm5 0h2v5h-2zM1 14h14v1H1z'"
    "/%3E%3C/svg%3E"
)


def money(amount_minor: int, currency: str) -> str:
    """An amount in minor units as text, such as "$65.67"."""
    amount = Decimal(amount_minor).scaleb(-get_currency_precision(currency))
    return format_currency(amount, currency, locale="en_US")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["money"] = lambda pay: money(pay.amount_minor, pay.currency)
    # The style is our own file, read once; its hash is in the policy below.
    environment.globals["style"] = Markup(_STYLE)  # noqa: S704
    environment.globals["icon"] = _HOME_ICON
    return environment


_ENVIRONMENT = _environment()


def page(template: str, status: int = 200, form_origin: str = "", **context: object) -> Response:
    """The page as a response; `form_origin` is where its forms may lead besides the sandbox."""
    text = _ENVIRONMENT.get_template(template).render(context)
    response = Response(text, status, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:;"
        f" form-action 'self' {form_origin}".rstrip()
        + "; base-uri 'none'; frame-ancestors 'none'"
    )
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "strict-origin-when-cross-origin"
    return response


def origin_of(url: str) -> str:
    """Scheme, host and port of an address the store has checked."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
