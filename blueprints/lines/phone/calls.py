"""Call records: the only writer of them, and of the charges for calls.

A call is known by its key, so a file that is read again, or one that overlaps, changes nothing. A
call and its share of a charge are written in one transaction. Calls of a number and month join one
charge as long as no bill has it; those that come later begin another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from flask_babel import gettext as _
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from blueprints.billing import adjusting
from core import clock, revisions
from core.phones import format_phone
from core.privacy import CALLS_KEPT
from core.words import format_month, speaking
from models import Account, CallRecord, Charge, PhoneNumber, PlanKind


class Became(StrEnum):
    """What became of a call that was given."""

    KEPT = "kept"
    KNOWN = "known"
    OTHER = "other"  # its key stands for another call


@dataclass(frozen=True, slots=True)
class Call:
    """A call to be kept; `month_on` begins the ISP's month in which it began."""

    key: str
    account_id: int
    number_id: int
    is_out: bool
    other: str
    started_at: datetime
    seconds: int
    amount_minor: int
    month_on: date


def keep(session: Session, calls: Sequence[Call], import_id: int) -> list[Became]:
    """Keep the calls and charge what they cost, within the running unit of work over their
    accounts; what became of each."""
    known = {
        row.key: _facts_of(row)
        for row in session.scalars(
            select(CallRecord).where(CallRecord.key.in_({call.key for call in calls}))
        )
    }
    became, new = [], []
    for call in calls:
        facts = _facts_of(call)
        if call.key not in known:
            known[call.key] = facts
            new.append(call)
            became.append(Became.KEPT)
        else:
            became.append(Became.KNOWN if known[call.key] == facts else Became.OTHER)
    charged = _charge(session, [call for call in new if call.amount_minor])
    session.add_all(
        CallRecord(
            key=call.key,
            account_id=call.account_id,
            number_id=call.number_id,
            import_id=import_id,
            is_out=call.is_out,
            other=call.other,
            started_at=call.started_at,
            seconds=call.seconds,
            amount_minor=call.amount_minor,
            month_on=call.month_on,
            charge_id=charged[call.number_id, call.month_on] if call.amount_minor else None,
        )
        for call in new
    )
    session.flush()
    return became


def _facts_of(call: Call | CallRecord) -> tuple[object, ...]:
    return (
        call.number_id,
        call.is_out,
        call.other,
        call.started_at,
        call.seconds,
        call.amount_minor,
    )


def _charge(session: Session, calls: Sequence[Call]) -> Mapping[tuple[int, date], int]:
    """The charge that each number and month of the calls has joined."""
    by_month: dict[tuple[int, date], list[Call]] = defaultdict(list)
    for call in calls:
        by_month[call.number_id, call.month_on].append(call)
    return {
        (number_id, month_on): _add_to_charge(
            session,
            of_month[0].account_id,
            number_id,
            month_on,
            sum(call.amount_minor for call in of_month),
        )
        for (number_id, month_on), of_month in sorted(by_month.items())
    }


def _add_to_charge(
    session: Session, account_id: int, number_id: int, month_on: date, amount_minor: int
) -> int:
    waiting = session.scalars(
        select(Charge.id)
        .join(CallRecord, CallRecord.charge_id == Charge.id)
        .where(
            CallRecord.number_id == number_id,
            CallRecord.month_on == month_on,
            Charge.invoice_id.is_(None),
            Charge.cancelled_at.is_(None),
            Charge.amount_minor <= adjusting.MAXIMUM_MINOR - amount_minor,
        )
        .order_by(Charge.id.desc())
        .limit(1)
    ).one_or_none()
    if waiting is not None:
        session.execute(
            update(Charge)
            .where(Charge.id == waiting)
            .values(amount_minor=Charge.amount_minor + amount_minor)
        )
        revisions.raise_account(session, account_id)
        return waiting
    number, language = session.execute(
        select(PhoneNumber.number, Account.language)
        .join(Account, Account.id == PhoneNumber.account_id)
        .where(PhoneNumber.id == number_id)
    ).one()
    with speaking(language):
        description = _(
            "Calls from %(number)s, %(month)s",
            number=format_phone(number),
            month=format_month(month_on),
        )
    new = adjusting.NewCharge(
        account_id,
        amount_minor,
        description[:200],
        f"calls {number_id} {month_on:%Y-%m}",
        PlanKind.PHONE.value,
        None,
    )
    public_id = adjusting.add_charge(session, new)
    return session.scalars(select(Charge.id).where(Charge.public_id == public_id)).one()


def oldest_kept_at() -> datetime:
    """Calls from before are not taken any more: they would not be known again."""
    return clock.now() - CALLS_KEPT + timedelta(days=1)
