"""Language of an answer, and the filters that put money, days and speeds into words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from babel.dates import format_date, format_skeleton, format_time
from babel.units import format_unit
from flask import Flask, g, has_request_context, request
from flask_babel import force_locale
from jinja2 import pass_context
from jinja2.runtime import Context
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header

from core.isp import NotSetUp, current_isp
from core.money import format_money
from core.phones import format_phone
from core.sessions import find_signed_in
from core.units import format_data, format_speed

RIGHT_TO_LEFT = ("ar", "fa", "he", "ur", "ps", "sd", "yi")


def language() -> str:
    """The language of the answer being made, like `en` or `pt-BR`.

    It is settled once: the customer's own when signed in, otherwise what the browser asks for.
    """
    known: str | None = g.get("language")
    if known is None:
        try:
            person = find_signed_in()
            known = g.language = choose_language(person.language if person is not None else None)
        except (NotSetUp, SQLAlchemyError):
            return "en"
    return known


@contextmanager
def speaking(of_language: str) -> Iterator[None]:
    """Use `of_language` for what is made within the block: a message, say."""
    before = g.get("language")
    g.language = of_language
    try:
        with force_locale(of_language.replace("-", "_")):
            yield
    finally:
        g.language = before


def select_locale() -> str:
    """The language as Flask-Babel asks for it."""
    return language().replace("-", "_")


def choose_language(preferred: str | None) -> str:
    """`preferred` (the customer's) when the ISP offers it, otherwise what the browser asks for,
    otherwise the ISP's first language."""
    wanted = request.headers.get("Accept-Language", "") if has_request_context() else ""
    return language_for(preferred, wanted, current_isp().languages)


def language_for(preferred: str | None, wanted: str, offered: tuple[str, ...]) -> str:
    """The same from an Accept-Language of `wanted` and the languages `offered`."""
    if preferred in offered:
        return str(preferred)
    return (_best_language(wanted, offered) if wanted else None) or offered[0]


@lru_cache(maxsize=512)
def _best_language(wanted: str, offered: tuple[str, ...]) -> str | None:
    return parse_accept_header(wanted, LanguageAccept).best_match(offered)


def text_direction(of_language: str) -> str:
    return "rtl" if of_language.split("-", maxsplit=1)[0] in RIGHT_TO_LEFT else "ltr"


@lru_cache(maxsize=2048)
def _format_day(value: date, language: str) -> str:
    return format_date(value, "medium", locale=language.replace("-", "_"))


def format_day(value: date) -> str:
    """A calendar day in the language of the answer."""
    return _format_day(value, language())


@lru_cache(maxsize=512)
def _format_month(value: date, pattern: str, language: str) -> str:
    return format_skeleton(pattern, value, locale=language.replace("-", "_"))


def format_month(value: date) -> str:
    """The month of a day, like `March 2026`."""
    return _format_month(value, "yMMMM", language())


def month_letter(value: date) -> str:
    """The month of a day in a letter or two, for where many stand side by side."""
    return format_date(value, "LLLLL", locale=language().replace("-", "_"))


@lru_cache(maxsize=4096)
def _format_time(value: time, language: str) -> str:
    return format_time(value, "short", locale=language.replace("-", "_"))


def _local(value: datetime) -> datetime:
    return value.astimezone(ZoneInfo(_time_zone()))


def _day_of(value: datetime, of_language: str) -> str:
    return _format_day(_local(value).date(), of_language)


def _time_of(value: datetime, of_language: str) -> str:
    local = _local(value)
    return _format_time(time(local.hour, local.minute), of_language)


def _instant(value: datetime, of_language: str) -> str:
    return f"{_day_of(value, of_language)}, {_time_of(value, of_language)}"


def hour_of(value: datetime) -> int:
    """The hour of the day of an instant at the ISP."""
    return value.astimezone(ZoneInfo(current_isp().timezone)).hour


def format_hour(value: datetime) -> str:
    """The time of day of an instant at the ISP, in the language of the answer."""
    local = value.astimezone(ZoneInfo(current_isp().timezone))
    return _format_time(time(local.hour, local.minute), language())


@lru_cache(maxsize=2048)
def _format_duration(seconds: int, language: str) -> str:
    """A span of time in its two largest units, like `3 d 4 h`."""
    minutes, hours, days = seconds // 60 % 60, seconds // 3600 % 24, seconds // 86400
    parts = [("day", days), ("hour", hours), ("minute", minutes)]
    while len(parts) > 1 and not parts[0][1]:
        parts.pop(0)
    locale = language.replace("-", "_")
    return " ".join(
        format_unit(number, f"duration-{unit}", "narrow", locale=locale)
        for unit, number in parts[:2]
    )


def _time_zone() -> str:
    """The zone in which the page shows times: the customer's own on pages that are only theirs."""
    person = find_signed_in() if g.get("is_personal") else None
    own = person.timezone if person is not None else None
    return own or current_isp().timezone


def _in_language(form: Callable[[Any, str], str]) -> Callable[[Context, Any], str]:
    """A filter that puts a value into the language of the page, which its context knows."""

    @pass_context
    def filtered(context: Context, value: Any) -> str:
        return form(value, context["lang"])

    return filtered


def install_filters(app: Flask) -> None:
    """Give templates `money`, `date`, `datetime`, its parts `day_of` and `time_of`, `phone`,
    `speed`, `data_size` and `duration`."""
    app.jinja_env.filters.update(
        money=_in_language(format_money),
        date=_in_language(_format_day),
        datetime=_in_language(_instant),
        day_of=_in_language(_day_of),
        time_of=_in_language(_time_of),
        phone=format_phone,
        speed=_in_language(format_speed),
        data_size=_in_language(format_data),
        duration=_in_language(_format_duration),
    )
