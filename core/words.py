"""Language of an answer, and the filters that put money, days and speeds into words."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date, format_time
from flask import Flask, has_request_context, request
from flask_babel import get_locale
from jinja2 import pass_context
from jinja2.runtime import Context

from core.isp import current_isp
from core.money import format_money
from core.units import format_data, format_speed

RIGHT_TO_LEFT = ("ar", "fa", "he", "ur", "ps", "sd", "yi")


def language() -> str:
    """The language of the answer being made, like `en` or `es`."""
    locale = get_locale()
    return _name_of(locale) if locale else "en"


@lru_cache(maxsize=64)
def _name_of(locale: Locale) -> str:
    return str(locale).replace("_", "-")


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


@lru_cache(maxsize=2048)
def _format_day(value: date, language: str) -> str:
    return format_date(value, "medium", locale=language.replace("-", "_"))


@lru_cache(maxsize=4096)
def _format_time(value: time, language: str) -> str:
    return format_time(value, "short", locale=language.replace("-", "_"))


def _instant(value: datetime, of_language: str) -> str:
    local = value.astimezone(ZoneInfo(current_isp().timezone))
    minute = time(local.hour, local.minute)
    return f"{_format_day(local.date(), of_language)}, {_format_time(minute, of_language)}"


def _in_language(form: Callable[[Any, str], str]) -> Callable[[Context, Any], str]:
    """A filter that puts a value into the language of the page, which its context knows."""

    @pass_context
    def filtered(context: Context, value: Any) -> str:
        return form(value, context["lang"])

    return filtered


def install_filters(app: Flask) -> None:
    """Give templates `money`, `date`, `datetime`, `speed` and `data_size`."""
    app.jinja_env.filters.update(
        money=_in_language(format_money),
        date=_in_language(_format_day),
        datetime=_in_language(_instant),
        speed=_in_language(format_speed),
        data_size=_in_language(format_data),
    )
