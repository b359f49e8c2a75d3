"""Taxes that an account does not pay, as staff read it, and who decided so. Each look is noted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.billing import exempting
from blueprints.staff.money import statement
from core import clock, form_keys
from core.data_access import Reader
from core.db import db
from core.errors import NotFound
from core.form_keys import ArrivedKey
from core.isp import current_isp
from models import Activity

DECISIONS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class ExemptionRow:
    """An exemption, and whether it counts for a bill of today, is to come, or over."""

    tax_code: str
    tax_name: str
    from_on: date
    to_on: date | None
    reason: str
    is_to_come: bool
    is_over: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about a tax; `by` is empty where an operator did it."""

    is_grant: bool
    tax_name: str
    from_on: date | None
    to_on: date | None
    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ExemptionsPage:
    head: statement.Head
    exemptions: list[ExemptionRow]
    taxes: list[tuple[str, str]]
    decisions: list[Decision]


def today() -> date:
    """The day of today where the ISP is."""
    return clock.today(current_isp().timezone)


def look(public_id: str, reader: Reader) -> ExemptionsPage:
    """The page about one account. Raises NotFound."""
    head = statement.open_account(public_id, reader, "tax exemptions")
    return ExemptionsPage(
        head, _rows(head.account_id), exempting.list_taxes(), _decisions(head.account_id)
    )


def get(public_id: str, tax_code: str, reader: Reader) -> tuple[statement.Head, ExemptionRow]:
    """One exemption of the account. Raises NotFound."""
    head = statement.open_account(public_id, reader, "tax exemptions")
    for row in _rows(head.account_id):
        if row.tax_code == tax_code:
            return head, row
    raise NotFound


def _rows(account_id: int) -> list[ExemptionRow]:
    day = today()
    return [
        ExemptionRow(
            each.tax_code,
            each.tax_name,
            each.from_on,
            each.to_on,
            each.reason,
            is_to_come=each.from_on > day,
            is_over=each.to_on is not None and each.to_on < day,
        )
        for each in exempting.list_exemptions(account_id)
    ]


def _decisions(account_id: int) -> list[Decision]:
    rows = db.session.execute(
        select(Activity.kind, Activity.facts, Activity.happened_at)
        .where(
            Activity.account_id == account_id,
            Activity.kind.in_((exempting.GRANTED, exempting.ENDED)),
        )
        .order_by(Activity.happened_at.desc(), Activity.id.desc())
        .limit(DECISIONS_SHOWN)
    )
    return [
        Decision(
            row.kind == exempting.GRANTED,
            facts.get("tax", ""),
            _day(facts.get("from_on")),
            _day(facts.get("to_on")),
            facts.get("by", ""),
            row.happened_at,
        )
        for row in rows
        for facts in (row.facts or {},)
    ]


def _day(written: str | None) -> date | None:
    return date.fromisoformat(written) if written else None


def exempt(public_id: str, wish: exempting.Wish, key: ArrivedKey) -> str:
    """Exempt the account; the same form twice counts once. Returns where it stands. Raises
    ExemptionRefused."""
    return _once(
        public_id, "exempted", wish.account_id, key, lambda session: exempting.exempt(session, wish)
    )


def end(public_id: str, tax_code: str, last_on: date, by: str, key: ArrivedKey) -> str:
    """Have the account pay the tax again; the same form twice counts once. Returns where it stands.
    Raises NotFound, ExemptionRefused."""
    account_id = statement.find_id(public_id)
    return _once(
        public_id,
        "ended",
        account_id,
        key,
        lambda session: exempting.end(session, account_id, tax_code, last_on, by),
    )


def _once(
    public_id: str,
    done: str,
    account_id: int,
    key: ArrivedKey,
    decide: Callable[[Session], None],
) -> str:
    def work(session: Session) -> str:
        decide(session)
        return f"/staff/accounts/{public_id}/exemptions?done={done}"

    return form_keys.once(key, work, account_id)
