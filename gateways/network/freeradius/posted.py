"""A report as `rlm_rest` posts it: JSON with an attribute's type and values by its name.

`{"Acct-Status-Type": {"type": "integer", "value": ["Start"]}, …}`; an attribute may also stand
there with its value alone, as a body of the ISP's own making may have it.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from core.radius_settings import RadiusSettings
from gateways.network.base import LONGEST_SESSION, Report, ReportKind

KINDS = {
    "start": ReportKind.START,
    "1": ReportKind.START,
    "stop": ReportKind.STOP,
    "2": ReportKind.STOP,
    "interim-update": ReportKind.INTERIM,
    "alive": ReportKind.INTERIM,
    "3": ReportKind.INTERIM,
    "accounting-on": ReportKind.REBOOT,
    "7": ReportKind.REBOOT,
    "accounting-off": ReportKind.REBOOT,
    "8": ReportKind.REBOOT,
}
LONGEST_NAME = 253
MOST_OCTETS = (1 << 63) - 1
LATEST = timedelta(hours=25)
AHEAD = timedelta(minutes=15)
"""By how much a clock may be ahead before it is not believed."""


class PostedWrong(ValueError):
    """What was posted is no report; the text says why."""


def read_posted(body: bytes, now: datetime, settings: RadiusSettings | None) -> Report | None:
    """The report; None of a kind that says nothing of a session. Raises PostedWrong."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise PostedWrong("the body is no JSON") from None
    if not isinstance(content, dict):
        raise PostedWrong("the body must be a JSON object of attributes")
    given = {name: _first(value) for name, value in content.items()}
    if not given.get("Acct-Status-Type"):
        raise PostedWrong("Acct-Status-Type is missing")
    kind = KINDS.get(given["Acct-Status-Type"].lower())
    if kind is None:
        return None  # Failed, Tunnel-Start and the like
    nas = _text(given, "NAS-IP-Address", "NAS-IPv6-Address", "NAS-Identifier")
    if not nas:
        raise PostedWrong("NAS-IP-Address is missing")
    at = _instant(given, now)
    if kind is ReportKind.REBOOT:
        return Report(kind, nas, at)
    username = _text(given, "User-Name")
    session = _text(given, "Acct-Unique-Session-Id", "Acct-Session-Id")
    if not username or not session:
        raise PostedWrong("User-Name or Acct-Session-Id is missing")
    up, down = _octets(given, "Input"), _octets(given, "Output")
    seconds = _number(given, "Acct-Session-Time")
    if seconds is not None and seconds > LONGEST_SESSION.total_seconds():
        seconds = None
    known = settings.find_nas(nas) if settings is not None else None
    if known is not None and known.is_swapped:
        up, down = down, up
    return Report(
        kind,
        nas,
        at,
        session,
        username,
        seconds,
        up,
        down,
        has_gigawords=any(f"Acct-{way}-Gigawords" in given for way in ("Input", "Output")),
        address=_text(given, "Framed-IP-Address", "Framed-IPv6-Address", "Framed-IPv6-Prefix"),
        device=_text(given, "Calling-Station-Id"),
        cause=_text(given, "Acct-Terminate-Cause"),
    )


def _first(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("value")
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value).strip()


def _text(given: dict[str, str], *names: str) -> str:
    """The first of these attributes that has a value."""
    text = next((given[name] for name in names if given.get(name)), "")
    if len(text) > LONGEST_NAME or not text.isprintable():
        raise PostedWrong(f"{names[0]} cannot be so")
    return text


def _number(given: dict[str, str], name: str) -> int | None:
    text = given.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise PostedWrong(f"{name} must be a whole number")
    return int(text)


def _octets(given: dict[str, str], way: str) -> int | None:
    low = _number(given, f"Acct-{way}-Octets")
    if low is None:
        return None
    total = low + ((_number(given, f"Acct-{way}-Gigawords") or 0) << 32)
    if total > MOST_OCTETS:
        raise PostedWrong(f"Acct-{way}-Octets cannot be so many")
    return total


def _instant(given: dict[str, str], now: datetime) -> datetime:
    """When it was so: as the access server says, unless its clock cannot be right, else when the
    report came, less how long it was on its way."""
    sent_at = now - timedelta(seconds=min(_number(given, "Acct-Delay-Time") or 0, 90_000))
    at = _event_at(given.get("Event-Timestamp", ""))
    if at is not None and now - LATEST <= at <= now + AHEAD:
        return at
    return sent_at


def _event_at(text: str) -> datetime | None:
    """FreeRADIUS writes it in its own zone, by a name that only for UTC says which that is."""
    if text.isascii() and text.isdigit() and len(text) < 12:
        return datetime.fromtimestamp(int(text), UTC)
    moment, _, zone = text.rpartition(" ")
    if zone not in ("UTC", "GMT"):
        return None
    try:
        return datetime.strptime(moment, "%b %d %Y %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None
