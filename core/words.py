"""Language of an answer, and the filters that put money, days and speeds into words."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

from babel.dates import format_date, format_time
from flask import Flask, has_request_context, request
from flask_babel import get_locale

from core.isp import current_isp
from core.money import Money, format_money
from core.units import format_data, format_speed

RIGHT_TO_LEFT = ("ar", "fa", "he", "ur", "ps", "sd", "yi")


def language() -> str:
    """The language of the answer being made, like `en` or `es`."""
    locale = get_locale()
    return str(locale).replace("_", "-") if locale else "en"


def choose_language(preferred: str | None) -> str:
    """`preferred` (the customer's) when the ISP offers it, otherwise what the browser asks for,
    otherwise the ISP's first language."""
    offered = current_isp().languages
    if preferred in offered:
        return str(preferred)
    if has_request_context():
        return request.accept_languages.best_match(offered) or offered[0]
    return offered[0]


def text_direction(of_language: str) -> str:
    return "rtl" if of_language.split("-", maxsplit=1)[0] in RIGHT_TO_LEFT else "ltr"


def _day(value: date) -> str:
    return format_date(value, "medium", locale=language().replace("-", "_"))


def _instant(value: datetime) -> str:
    local = value.astimezone(ZoneInfo(current_isp().timezone))
    locale = language().replace("-", "_")
    day, time = (
        format_date(local, "medium", locale=locale),
        format_time(local, "short", locale=locale),
    )
    return f"{day}, {time}"


def install_filters(app: Flask) -> None:
    """Give templates `money`, `date`, `datetime`, `speed` and `data_size`."""

    def money(value: Money) -> str:
        return format_money(value, language())

    def speed(kbps: int) -> str:
        return format_speed(kbps, language())

    def data_size(amount_bytes: int) -> str:
        return format_data(amount_bytes, language())

    app.jinja_env.filters.update(
        money=money, date=_day, datetime=_instant, speed=speed, data_size=data_size
    )
