"""Loading what the ISP sells from a TOML file: its own settings and rules, areas, customer groups,
taxes and plans.

The whole file is checked before anything is written. Loading again updates in place and deletes
nothing: accounts and invoices refer to what is there.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import phonenumbers
from babel import Locale, UnknownLocaleError
from babel.numbers import get_currency_precision, list_currencies
from email_validator import EmailNotValidError, validate_email
from sqlalchemy import exists, or_, select
from sqlalchemy.orm import Session

from blueprints.dashboard.plans import kept_labels
from blueprints.staff.errors import CatalogInvalid
from core.bank_account import is_iban, is_routing_number
from core.db import unit_of_work
from core.dunning_policy import DunningPolicy
from core.money import MAX_MINOR
from core.pause_rules import PauseRules
from models import (
    Account,
    Area,
    Base,
    Channel,
    CustomerGroup,
    Isp,
    OverRule,
    Plan,
    PlanKind,
    PlanSuffix,
    Subscription,
    Tax,
)

KINDS = tuple(kind.value for kind in PlanKind)
MAX_FILE_BYTES = 1_000_000
MAX_LOGO_BYTES = 4_000
# Text and buttons in the accent colour stand on these grounds (static/css/tokens.css); WCAG 2.2 AA
# asks for 4.5 to 1.
LIGHT_GROUNDS = ("#ffffff", "#f3f4f6")
DARK_GROUNDS = ("#191d22", "#0f1215")
MIN_CONTRAST = 4.5


@dataclass(frozen=True, slots=True)
class CatalogSummary:
    """What loading did: rows new, changed and equal, plans withdrawn, and what to look at."""

    added: int
    changed: int
    unchanged: int
    withdrawn: tuple[str, ...]
    notes: tuple[str, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Catalog:
    """A checked catalog: for each table the values of its rows, by column."""

    isp: dict[str, Any]
    areas: list[dict[str, Any]]
    groups: list[dict[str, Any]]
    taxes: list[dict[str, Any]]
    plans: list[dict[str, Any]]


# Checking ------------------------------------------------------------------------------------

Check = Callable[[str, Any], Any]


def _bad(path: str, what: str) -> CatalogInvalid:
    return CatalogInvalid(f"{path}: {what}")


def _text(longest: int, pattern: str = r".+", hint: str = "text") -> Check:
    def check(path: str, value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value, re.DOTALL):
            raise _bad(path, f"must be {hint}, not {_shown(value)}")
        if len(value) > longest:
            raise _bad(path, f"must have at most {longest} characters, it has {len(value)}")
        return value

    return check


def _whole(low: int, high: int) -> Check:
    def check(path: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _bad(path, f"must be a whole number from {low} to {high}, not {_shown(value)}")
        return value

    return check


def _flag(path: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _bad(path, f"must be true or false, not {_shown(value)}")
    return value


def _list_of(item: Check, *, is_empty_good: bool = True) -> Check:
    def check(path: str, value: Any) -> list[Any]:
        if not isinstance(value, list) or not (value or is_empty_good):
            raise _bad(path, f"must be a list in square brackets, not {_shown(value)}")
        items = [item(f"{path}[{place}]", each) for place, each in enumerate(value, start=1)]
        if len(set(items)) != len(items):
            raise _bad(path, "names the same thing twice: leave one out")
        return items

    return check


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _codes(path: str, value: Any) -> dict[str, str]:
    """A table of texts by name."""
    if not isinstance(value, dict):
        raise _bad(path, f"must be a table, not {_shown(value)}")
    code = _text(80)
    return {key: code(f"{path}.{key}", each) for key, each in value.items()}


def _day(path: str, value: Any) -> date:
    if not isinstance(value, date) or isinstance(value, datetime):
        raise _bad(path, f"must be a day without quotes, like 2026-01-31, not {_shown(value)}")
    return value


def _kind(path: str, value: Any) -> str:
    if value not in KINDS:
        raise _bad(path, f"must be one of {', '.join(KINDS)}, not {_shown(value)}")
    return str(value)


def _currency(path: str, value: Any) -> str:
    if not isinstance(value, str) or value not in list_currencies():
        raise _bad(path, f"must be a currency in three capitals, like USD, not {_shown(value)}")
    get_currency_precision(value)
    return value


def _timezone(path: str, value: Any) -> str:
    try:
        return ZoneInfo(value).key
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise _bad(
            path, f"must be a time zone like America/Los_Angeles, not {_shown(value)}"
        ) from None


def _language(path: str, value: Any) -> str:
    try:
        Locale.parse(value, sep="-")
    except (UnknownLocaleError, ValueError, TypeError):
        raise _bad(path, f"must be a language like en or pt-BR, not {_shown(value)}") from None
    return str(value)


def _phone(path: str, value: Any) -> str:
    try:
        number = phonenumbers.parse(value, None)
        if phonenumbers.is_possible_number(number):
            return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    except (phonenumbers.NumberParseException, TypeError):
        pass
    raise _bad(path, f"must be a phone number with +, like +15415550100, not {_shown(value)}")


def _email(path: str, value: Any) -> str:
    try:
        return validate_email(value, check_deliverability=False).normalized
    except (EmailNotValidError, TypeError):
        raise _bad(path, f"must be an e-mail address, not {_shown(value)}") from None


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours (#rrggbb) as WCAG 2.2 defines it, 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = (
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _accent(grounds: tuple[str, ...], way_out: str) -> Check:
    shape = _text(7, r"#[0-9a-fA-F]{6}", "a colour like #0b6e4f")

    def check(path: str, value: Any) -> str:
        colour: str = shape(path, value).lower()
        worst = min(contrast(colour, ground) for ground in grounds)
        if worst < MIN_CONTRAST:
            raise _bad(
                path,
                f"{colour} is hard to read on its ground (contrast {worst:.1f}, "
                f"at least {MIN_CONTRAST} is needed): choose a {way_out} one",
            )
        return colour

    return check


def _logo(path: str, value: Any) -> str:
    svg: str = _text(MAX_LOGO_BYTES, r"\s*<svg\b.*</svg>\s*", "one <svg> element")(path, value)
    # It is printed into every page: no script, nothing from elsewhere, no style the policy blocks.
    found = re.search(
        r"(?i)<\s*(script|style|foreignobject|image|a\b|!)|\b(on\w+|style|href)\s*=", svg
    )
    if found:
        raise _bad(path, f"must be plain shapes; remove {found[0]!r}")
    return svg.strip()


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys of one kind of table: what must be there, and what may."""

    needed: Mapping[str, Check]
    optional: Mapping[str, Check] = field(default_factory=dict)

    def read(self, path: str, table: Any) -> dict[str, Any]:
        if not isinstance(table, dict):
            raise _bad(path, "must be a table")
        known = {**self.needed, **self.optional}
        for key in table:
            if key not in known:
                raise _bad(
                    f"{path}.{key}",
                    f"is not known; remove it. Known are {', '.join(sorted(known))}",
                )
        for key in self.needed:
            if key not in table:
                raise _bad(f"{path}.{key}", "is missing; add it")
        return {key: known[key](f"{path}.{key}", value) for key, value in table.items()}


def _iban(path: str, value: Any) -> str:
    iban = value.replace(" ", "").upper() if isinstance(value, str) else ""
    if not is_iban(iban):
        raise _bad(path, f"must be an IBAN whose check digits fit, not {_shown(value)}")
    return iban


def _bank_account(path: str, value: Any) -> dict[str, Any] | None:
    """The ISP's bank account; None for an empty table, which takes a known one away."""
    if value == {}:
        return None
    bank = _BANK.read(path, value)
    if not bank.keys() & {"iban", "account"}:
        raise _bad(path, "needs the account itself: add iban, or routing and account")
    for one, other in (("bic", "iban"), ("routing", "account")):
        if one in bank and other not in bank:
            raise _bad(f"{path}.{other}", f"is missing; {one} means nothing without it")
    return bank


_amount = _whole(0, MAX_MINOR)
_code = _text(40, r"[A-Za-z0-9][A-Za-z0-9._-]*", "a code of letters, digits, - . _")
_short_code = _text(20, r"[A-Za-z0-9][A-Za-z0-9._-]*", "a code of letters, digits, - . _")
_name = _text(120)

_BANK = _Keys(
    {"holder": _text(70, r"[^\r\n]+", "a name on one line")},
    {
        "bank": _text(70, r"[^\r\n]+", "a name on one line"),
        "iban": _iban,
        "bic": _text(11, r"[A-Z]{6}[A-Z0-9]{2}([A-Z0-9]{3})?", "a BIC of 8 or 11 capitals"),
        "routing": _text(20, r"[0-9][0-9-]*", "digits in quotes"),
        "account": _text(34, r"[0-9A-Za-z][0-9A-Za-z -]*", "digits in quotes"),
    },
)
_ISP = _Keys(
    {
        "name": _name,
        "currency": _currency,
        "timezone": _timezone,
        "languages": _list_of(_language, is_empty_good=False),
    },
    {
        "id_name": _text(60),
        "support_phone": _phone,
        "support_email": _email,
        "accent": _accent(LIGHT_GROUNDS, "darker"),
        "accent_dark": _accent(DARK_GROUNDS, "lighter"),
        "logo_svg": _logo,
        "terms_days": _whole(0, 365),
        "frn": _text(10, r"[0-9]{10}", "ten digits"),
        "pay_how": _text(2000),
        "requires_second_factor": _flag,
        "requires_mixed_password": _flag,
        "contact_rest_days": _whole(0, 365),
        "billing_hour": _whole(0, 23),
        "postal_address": _text(200, r"[^\r\n]+", "an address on one line"),
        "bank_account": _bank_account,
    },
)
_BILLING = _Keys(
    {},
    {
        "retry_days": _list_of(_whole(1, 60)),
        "notice_days": _whole(1, 30),
        "debit_notice_days": _whole(10, 30),
        "scheduled_days": _whole(1, 365),
        "instalment_notice_days": _whole(0, 30),
        "promise_days": _whole(0, 90),
        "instalments_most": _whole(2, 12),
        "instalments_days": _whole(7, 365),
        "arrangement_from_minor": _amount,
        "arrangements_a_year": _whole(0, 12),
        "arrangement_after_days": _whole(0, 3_650),
        "refund_limit_minor": _amount,
        "adjustment_limit_minor": _amount,
        "overage_most_minor": _whole(0, 10_000_000),
        "tv_free_day": _flag,
        "call_most_minor": _whole(1, 10_000_000),
        "expiring_days": _whole(1, 120),
        "journal_codes": _codes,
    },
)
_PRICES = _Keys({}, {"notice_days": _whole(0, 365)})
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_REMINDER_CHANNELS = (Channel.EMAIL.value, Channel.TEXT.value)


def _one_of(*names: str) -> Check:
    def check(path: str, value: Any) -> str:
        if value not in names:
            raise _bad(path, f"must be one of {', '.join(names)}, not {_shown(value)}")
        return str(value)

    return check


_REMINDER = _Keys(
    {
        "days": _whole(-60, 365),
        "channels": _list_of(_one_of(*_REMINDER_CHANNELS), is_empty_good=False),
    }
)


def _reminders(path: str, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise _bad(
            path, 'must be a list like [{days = 1, channels = ["email"]}], not ' + _shown(value)
        )
    found = [_REMINDER.read(f"{path}[{place}]", each) for place, each in enumerate(value, start=1)]
    days = [each["days"] for each in found]
    if sorted(set(days)) != days:
        raise _bad(path, "must go from the first day to the last, each day once")
    return found


_POLICY: dict[str, Check] = {
    "reminders": _reminders,
    "floor_minor": _amount,
    "fee_minor": _amount,
    "fee_bp": _whole(0, 10_000),
    "fee_after_days": _whole(1, 365),
    "is_fee_monthly": _flag,
    "hold_after_days": _whole(0, 365),
    "close_after_days": _whole(0, 730),
    "notice_days": _whole(0, 60),
}
_DUNNING = _Keys(
    {},
    {
        **_POLICY,
        "hour": _whole(0, 23),
        "weekend": _list_of(_one_of(*WEEKDAYS)),
        "holidays": _list_of(_day),
    },
)
_PAUSE = _Keys(
    {},
    {
        "kinds": _list_of(_kind, is_empty_good=False),
        "least_days": _whole(1, 366),
        "most_days": _whole(1, 366),
        "most_days_a_year": _whole(1, 366),
        "notice_days": _whole(0, 60),
        "plan": _code,
        "prolongs_contract": _flag,
    },
)
_GROUP_DUNNING = _Keys({}, _POLICY)
_GROUP = _Keys({"code": _short_code, "name": _name}, {"dunning": _GROUP_DUNNING.read})
_AREA = _Keys({"code": _short_code, "name": _name})
_TAX = _Keys(
    {"code": _short_code, "name": _name, "applies_to": _list_of(_kind, is_empty_good=False)},
    {
        "areas": _list_of(_short_code, is_empty_good=False),
        "rate_bp": _whole(1, 10_000),
        "flat_minor": _whole(1, MAX_MINOR),
        "from_on": _day,
        "to_on": _day,
    },
)
_speed = _whole(1, 1_000_000_000)
_over_rule = _one_of(*(rule.value for rule in OverRule))
_bytes = _whole(1, 10**18)
_names = _list_of(_name)


def _activation(path: str, value: Any) -> str:
    """An address at which an app is activated: a link on a page of the customer."""
    url: str = _text(300, r"https://[!-~]+", "an address like https://app.example.com/activate")(
        path, value
    )
    try:
        parts = urlsplit(url)
        is_good = bool(parts.hostname) and "." in (parts.hostname or "") and not parts.username
        _port = parts.port
    except ValueError:
        is_good = False
    if not is_good or re.search(r"[\\\"'<>`{}|^]", url):
        raise _bad(path, f"must be an address like https://app.example.com, not {_shown(value)}")
    return url


def _apps(path: str, value: Any) -> list[str | dict[str, str]]:
    """The streaming apps of a plan, each by its name, or by name and address."""
    if not isinstance(value, list):
        raise _bad(path, f"must be a list in square brackets, not {_shown(value)}")
    found: list[str | dict[str, str]] = []
    names = set()
    for place, each in enumerate(value, start=1):
        where = f"{path}[{place}]"
        app = _name(where, each) if isinstance(each, str) else _APP.read(where, each)
        names.add(app if isinstance(app, str) else app["name"])
        found.append(app)
    if len(names) != len(found):
        raise _bad(path, "names the same thing twice: leave one out")
    return found


_APP = _Keys({"name": _name}, {"url": _activation})
_PLAN = _Keys(
    {"code": _code, "kind": _kind, "name": _name, "price_minor": _amount},
    {
        "technology": _text(40),
        "intro_price_minor": _amount,
        "intro_months": _whole(1, 120),
        "setup_minor": _amount,
        "contract_months": _whole(1, 120),
        "early_termination_minor": _amount,
        "down_kbps": _speed,
        "up_kbps": _speed,
        "typical_down_kbps": _speed,
        "typical_up_kbps": _speed,
        "typical_latency_ms": _whole(0, 100_000),
        "data_included_bytes": _bytes,
        "overage_minor": _amount,
        "overage_bytes": _bytes,
        "over_rule": _over_rule,
        "slow_down_kbps": _speed,
        "slow_up_kbps": _speed,
        "top_up_bytes": _bytes,
        "top_up_minor": _amount,
        "top_up_days": _whole(1, 366),
        "plan_id_suffix": _text(15, r"[A-Z0-9]{15}", "15 capitals or digits"),
        "changes_to": _list_of(_code),
        "requires": _list_of(_code),
        "requires_kind": _kind,
        "channels": _names,
        "streaming": _apps,
        "features": _names,
        "areas": _list_of(_short_code),
        "excludes": _list_of(_code),
        "needs_staff": _flag,
    },
)
# Keys that mean something only together.
_PAIRS = (
    ("intro_price_minor", "intro_months"),
    ("overage_minor", "overage_bytes"),
    ("slow_down_kbps", "slow_up_kbps"),
    ("top_up_minor", "top_up_bytes"),
    ("down_kbps", "up_kbps"),
)


_NEEDED_BY = {OverRule.CHARGE: "overage_minor", OverRule.SLOW: "slow_down_kbps"}


def _tables(document: Mapping[str, Any], name: str, keys: _Keys) -> list[dict[str, Any]]:
    """The checked entries of `[[name]]`, no code twice. A path names the entry by its code."""
    found = document.get(name, [])
    if not isinstance(found, list):
        raise _bad(name, f"must be written as [[{name}]], once for each")
    rows: list[dict[str, Any]] = []
    for place, table in enumerate(found, start=1):
        code = table.get("code") if isinstance(table, dict) else None
        path = f"{name}.{code}" if isinstance(code, str) and code else f"{name}[{place}]"
        row = keys.read(path, table)
        if any(row["code"] == other["code"] for other in rows):
            raise _bad(path, "this code stands in the file twice: give one of them another")
        rows.append(row)
    return rows


def _check_allowance(path: str, plan: Mapping[str, Any]) -> None:
    """What happens beyond an allowance needs one, and what its rule asks for."""
    needed = _NEEDED_BY.get(plan.get("over_rule", ""))
    if needed is not None and needed not in plan:
        raise _bad(f"{path}.{needed}", f"is missing; over_rule {plan['over_rule']!r} needs it")
    for key in ("over_rule", "overage_minor", "top_up_minor", "slow_down_kbps"):
        if key in plan and "data_included_bytes" not in plan:
            raise _bad(f"{path}.data_included_bytes", f"is missing; {key} means nothing without it")


def _check_plans(plans: list[dict[str, Any]]) -> None:
    codes = {plan["code"]: plan for plan in plans}
    suffixes: dict[str, str] = {}
    for plan in plans:
        path = f"plans.{plan['code']}"
        for one, other in _PAIRS:
            if (one in plan) != (other in plan):
                there, missing = (one, other) if one in plan else (other, one)
                raise _bad(f"{path}.{missing}", f"is missing; {there} means nothing without it")
        _check_allowance(path, plan)
        if plan["kind"] == PlanKind.INTERNET and "down_kbps" not in plan:
            raise _bad(f"{path}.down_kbps", "is missing; an internet plan needs its speeds")
        for key in ("changes_to", "requires", "excludes"):
            for code in plan.get(key, []):
                if code == plan["code"]:
                    raise _bad(f"{path}.{key}", "names the plan itself; remove it")
                if code not in codes:
                    raise _bad(
                        f"{path}.{key}",
                        f"there is no plan {code!r} in this file; add it or remove it here",
                    )
                if key == "changes_to" and codes[code]["kind"] != plan["kind"]:
                    raise _bad(f"{path}.{key}", f"{code!r} is of another kind; remove it here")
        suffix = plan.get("plan_id_suffix")
        if suffix is not None and suffix in suffixes:
            raise _bad(
                f"{path}.plan_id_suffix", f"{suffixes[suffix]} has it already; it is used once only"
            )
        if suffix is not None:
            suffixes[suffix] = plan["code"]


def _check_taxes(taxes: list[dict[str, Any]]) -> None:
    for tax in taxes:
        path = f"taxes.{tax['code']}"
        if ("rate_bp" in tax) == ("flat_minor" in tax):
            raise _bad(path, "give it either rate_bp or flat_minor")
        if "from_on" in tax and "to_on" in tax and tax["to_on"] < tax["from_on"]:
            raise _bad(f"{path}.to_on", "lies before from_on")


def _check_routing(isp: Mapping[str, Any]) -> None:
    routing = (isp.get("bank_account") or {}).get("routing")
    if isp["currency"] == "USD" and routing is not None and not is_routing_number(routing):
        raise _bad(
            "isp.bank_account.routing",
            f"must be nine digits of which the last fits the others, not {_shown(routing)}",
        )


def _dunning(document: Mapping[str, Any], groups: list[dict[str, Any]]) -> dict[str, Any]:
    """The checked `[dunning]` table as it is stored; what groups change in it is checked too."""
    table = _DUNNING.read("dunning", document.get("dunning", {}))
    usual = DunningPolicy().changed_by(table)
    _check_policy("dunning", usual)
    for group in groups:
        _check_policy(f"groups.{group['code']}.dunning", usual.changed_by(group.get("dunning")))
    if "weekend" in table:
        table["weekend"] = sorted(WEEKDAYS.index(name) + 1 for name in table["weekend"])
        if len(table["weekend"]) == len(WEEKDAYS):
            raise _bad("dunning.weekend", "names every day: leave those out on which you work")
    if "holidays" in table:
        table["holidays"] = sorted(day.isoformat() for day in table["holidays"])
    return table


def _check_policy(path: str, policy: DunningPolicy) -> None:
    if policy.fee_minor and policy.fee_bp:
        raise _bad(path, "give it either fee_minor or fee_bp")
    hold, close = policy.hold_after_days, policy.close_after_days
    if hold is not None and close is not None and close <= hold:
        raise _bad(
            f"{path}.close_after_days",
            f"must be more than hold_after_days ({hold}), or 0 for never",
        )


def _pause(document: Mapping[str, Any], plans: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The checked `[pause]` table; None without one: pausing is not offered then."""
    if "pause" not in document:
        return None
    table = _PAUSE.read("pause", document["pause"])
    rules = PauseRules.read(table) or PauseRules()
    for key, most in (("most_days", rules.most_days), ("most_days_a_year", rules.most_days_a_year)):
        if most < rules.least_days:
            raise _bad(f"pause.{key}", f"must not be less than least_days ({rules.least_days})")
    if rules.plan and rules.plan not in {
        plan["code"] for plan in plans if plan["kind"] == PlanKind.OPTION
    }:
        raise _bad(
            "pause.plan",
            f"there is no option {rules.plan!r} in this file: add it under [[plans]] with "
            'kind = "option", or leave this out where a pause costs nothing',
        )
    return table


_TABLES = ("isp", "billing", "dunning", "pause", "prices", "areas", "groups", "taxes", "plans")


def parse(text: str) -> Catalog:
    """The catalog in a TOML text, wholly checked. Raises CatalogInvalid with one line."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CatalogInvalid(f"not valid TOML: {error}") from None
    for key in document:
        if key not in _TABLES:
            raise _bad(
                key,
                "is not known; the file has [isp], [billing], [dunning], [pause], [prices], "
                "[[areas]], [[groups]], [[taxes]] and [[plans]]",
            )
    if "isp" not in document:
        raise _bad("isp", "is missing; begin the file with [isp] and the ISP's name")
    isp = _ISP.read("isp", document["isp"])
    _check_routing(isp)
    groups = _tables(document, "groups", _GROUP)
    rules = _BILLING.read("billing", document.get("billing", {}))
    if dunning := _dunning(document, groups):
        rules["dunning"] = dunning
    plans = _tables(document, "plans", _PLAN)
    if (pause := _pause(document, plans)) is not None:
        rules["pause"] = pause
    if about_prices := _PRICES.read("prices", document.get("prices", {})):
        rules["prices"] = about_prices
    catalog = Catalog(
        {**isp, "billing_rules": rules},
        _tables(document, "areas", _AREA),
        groups,
        _tables(document, "taxes", _TAX),
        plans,
    )
    if not catalog.plans:
        raise _bad("plans", "is missing; an ISP needs at least one plan")
    _check_taxes(catalog.taxes)
    _check_plans(catalog.plans)
    return catalog


def read_file(path: Path) -> Catalog:
    """The checked catalog of a file. Raises CatalogInvalid when it cannot be read or is wrong."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise CatalogInvalid(f"{path} cannot be read: {error.strerror}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise CatalogInvalid(f"{path} is larger than a megabyte: this is not a catalog")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CatalogInvalid(f"{path} is not UTF-8 text: save it as UTF-8") from None
    try:
        return parse(text)
    except CatalogInvalid as problem:
        raise CatalogInvalid(f"{path.name}: {problem}") from None


# Writing -------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Tally:
    added: int = 0
    changed: int = 0
    unchanged: int = 0


def _put(session: Session, tally: _Tally, found: Base | None, new: Base, names: set[str]) -> None:
    """Insert `new`, or copy those of its columns named in `names` onto `found`."""
    if found is None:
        session.add(new)
        tally.added += 1
        return
    is_changed = False
    for name in names:
        value = getattr(new, name)
        if getattr(found, name) != value:
            setattr(found, name, value)
            is_changed = True
    if is_changed:
        tally.changed += 1
    else:
        tally.unchanged += 1


_NOT_OF_THE_FILE = {"price_steps", "withdrawn_at"}
"""Columns that staff pages write."""


def _put_all(session: Session, tally: _Tally, model: Any, rows: list[dict[str, Any]]) -> list[str]:
    """Write the rows by their code; returns the codes that are stored and not among them."""
    stored = {row.code: row for row in session.scalars(select(model))}
    # What a row of the file leaves out is not left as it was: the file is the whole truth of it.
    names = set(model.__table__.columns.keys()) - {"id"} - _NOT_OF_THE_FILE
    for row in rows:
        values = dict.fromkeys(names) | _defaults(model) | row
        _put(session, tally, stored.get(row["code"]), model(**values), names)
    return sorted(set(stored) - {row["code"] for row in rows})


def _defaults(model: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {}
    for column in model.__table__.columns:
        if column.default is not None:
            value = column.default.arg
            defaults[column.key] = [] if callable(value) else value
    return defaults


def _check_against_stored(session: Session, catalog: Catalog, isp: Isp | None) -> None:
    is_other_currency = isp is not None and isp.currency != catalog.isp["currency"]
    if is_other_currency and session.scalar(select(Account.id).limit(1)) is not None:
        raise _bad("isp.currency", "it cannot change any more: there are accounts already")
    _check_prices(session, catalog)
    stored = session.execute(select(Plan.code, Plan.kind)).all()
    kinds = {row.code: row.kind for row in stored}
    ever = select(PlanSuffix.suffix, Plan.code).join(Plan, Plan.id == PlanSuffix.plan_id)
    suffixes = {row.suffix: row.code for row in session.execute(ever)}
    for plan in catalog.plans:
        path = f"plans.{plan['code']}"
        if kinds.get(plan["code"], plan["kind"]) != plan["kind"]:
            raise _bad(
                f"{path}.kind",
                f"it was loaded as {kinds[plan['code']]} before; give the new plan a new code",
            )
        holder = suffixes.get(plan.get("plan_id_suffix", ""), plan["code"])
        if holder != plan["code"]:
            raise _bad(
                f"{path}.plan_id_suffix", f"it was used for {holder}; a suffix is never used again"
            )


def _check_prices(session: Session, catalog: Catalog) -> None:
    """The file sets a price until the first bill with it is made. Then the page of prices does,
    with a day and a message to those who pay it; the file has to say what holds today."""
    is_billed = exists().where(
        Subscription.plan_id == Plan.id,
        Subscription.price_minor.is_(None),
        Subscription.billed_price_minor.is_not(None),
        or_(
            Subscription.ended_on.is_(None),
            Subscription.billed_until_on < Subscription.ended_on,
        ),
    )
    rows = session.execute(select(Plan.code, Plan.price_minor, Plan.price_steps, is_billed))
    stored = {row[0]: row[1:] for row in rows}
    for plan in catalog.plans:
        price_minor, steps, has_bills = stored.get(plan["code"], (plan["price_minor"], None, False))
        if plan["price_minor"] == price_minor:
            continue
        path = f"plans.{plan['code']}.price_minor"
        if steps:
            on, _was, to_minor, _existing = steps[-1]
            raise _bad(
                path,
                f"must stay {price_minor}: it is {to_minor} from {on} on by the page Prices. "
                "Plan or withdraw prices there",
            )
        if has_bills:
            raise _bad(
                path,
                f"must stay {price_minor}: bills have been made with it. Plan the new price on "
                "the page Prices, with its day, so that those who pay it are told",
            )


def _put_isp(
    session: Session, tally: _Tally, isp: Isp | None, values: dict[str, Any], *, is_demo: bool
) -> Isp:
    # What the file leaves out of [isp] stays as it was: `flask setup` may have asked for it.
    if isp is None:
        values = {"id_name": f"{values['name'].split()[0]} ID", **values}
        isp = Isp(id=1, revision=1, is_demo=is_demo, **values)
        session.add(isp)
        tally.added += 1
        return isp
    _put(session, tally, isp, Isp(**values), set(values))
    return isp


def _keep_suffixes(session: Session) -> None:
    session.flush()
    known = set(session.scalars(select(PlanSuffix.suffix)))
    for plan in session.scalars(select(Plan).where(Plan.plan_id_suffix.is_not(None))):
        if plan.plan_id_suffix is not None and plan.plan_id_suffix not in known:
            session.add(PlanSuffix(suffix=plan.plan_id_suffix, plan_id=plan.id))


def store(catalog: Catalog, *, is_demo: bool = False) -> CatalogSummary:
    """Write a checked catalog in one transaction; the ISP's revision rises when anything changed.

    `is_demo` marks a database that has no ISP yet as the demo's, for good.
    Raises CatalogInvalid when it contradicts what is stored already.
    """

    def work(session: Session) -> CatalogSummary:
        isp = session.get(Isp, 1, with_for_update=True)
        _check_against_stored(session, catalog, isp)
        tally = _Tally()
        is_first = isp is None
        isp = _put_isp(session, tally, isp, catalog.isp, is_demo=is_demo)
        left_areas = _put_all(session, tally, Area, catalog.areas)
        left_groups = _put_all(session, tally, CustomerGroup, catalog.groups)
        left_taxes = _put_all(session, tally, Tax, catalog.taxes)
        off = set(session.scalars(select(Plan.code).where(Plan.withdrawn_at.is_not(None))))
        rows = [row | {"is_offered": False} if row["code"] in off else row for row in catalog.plans]
        left_plans = set(_put_all(session, tally, Plan, rows))
        withdrawn = []
        for plan in session.scalars(select(Plan).where(Plan.code.in_(left_plans))):
            if plan.is_offered:
                plan.is_offered = False
                tally.changed += 1
                withdrawn.append(plan.code)
        _keep_suffixes(session)
        kept_labels.keep(session)
        if not is_first and (tally.added or tally.changed):
            isp.revision += 1
        return CatalogSummary(
            tally.added,
            tally.changed,
            tally.unchanged,
            tuple(sorted(withdrawn)),
            (
                *(f"area {code} is not in the file and stays" for code in left_areas),
                *(f"group {code} is not in the file and stays" for code in left_groups),
                *(
                    f"tax {code} is not in the file and still applies: give it a to_on to end it"
                    for code in left_taxes
                ),
                *(
                    f"plan {row['code']} was withdrawn on the page Prices and stays so: offer it "
                    "again there, or leave it out of the file"
                    for row in catalog.plans
                    if row["code"] in off
                ),
            ),
            isp.revision,
        )

    return unit_of_work(work)


def load(path: Path) -> CatalogSummary:
    """Check the file and write it. Raises CatalogInvalid, and has then written nothing."""
    return store(read_file(path))
