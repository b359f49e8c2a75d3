"""Call records: the only writer of them, and of the charges for calls.

A call is known by its keys, so a file that is read again, or one that overlaps, changes nothing. A
call and its share of a charge are written in one transaction. Calls of a number and month join one
charge as long as no bill has it; those that come later begin another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum

from flask_babel import gettext as _
from sqlalchemy import or_, select, update
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
    OTHER_AMOUNT = "other amount"  # it is known, and cost something else


@dataclass(frozen=True, slots=True)
class Call:
    """A call to be kept; `month_on` begins the ISP's month in which it began. Where its two keys
    are the same the switch has no id of it."""

    key: str
    content_key: str
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
    known = _Known(session, calls)
    became = [known.take(call) for call in calls]
    new = [call for call, each in zip(calls, became, strict=True) if each is Became.KEPT]
    charged = _charge(session, [call for call in new if call.amount_minor])
    session.add_all(
        CallRecord(
            key=call.key,
            content_key=call.content_key,
            account_id=call.account_id,
            number_id=call.number_id,
            import_id=import_id,
            is_out=call.is_out,
            other=call.other,
            started_at=call.started_at,
            seconds=call.seconds,
            amount_minor=call.amount_minor,
            month_on=call.month_on,
            charge_id=charged.get(call.key),
        )
        for call in new
    )
    session.flush()
    return became


class _Known:
    """The calls that are on record already. One file may name a call by the switch's id and another
    not: what is known of it tells then."""

    def __init__(self, session: Session, calls: Sequence[Call]) -> None:
        self._by_key: dict[str, Call | CallRecord] = {}
        self._by_content: dict[str, list[Call | CallRecord]] = defaultdict(list)
        rows = session.scalars(
            select(CallRecord).where(
                or_(
                    CallRecord.key.in_({call.key for call in calls}),
                    CallRecord.content_key.in_({call.content_key for call in calls}),
                )
            )
        )
        for row in rows:
            self._add(row)

    def _add(self, call: Call | CallRecord) -> None:
        self._by_key[call.key] = call
        self._by_content[call.content_key].append(call)

    def take(self, call: Call) -> Became:
        """What becomes of a call, which is known from now on."""
        known = self._by_key.get(call.key)
        if known is not None and known.content_key != call.content_key:
            return Became.OTHER
        same = [known] if known is not None else self._same_as(call)
        if not same:
            self._add(call)
            return Became.KEPT
        is_known = any(each.amount_minor == call.amount_minor for each in same)
        return Became.KNOWN if is_known else Became.OTHER_AMOUNT

    def _same_as(self, call: Call) -> list[Call | CallRecord]:
        """Calls of which the same is known; two with ids of their own are two calls."""
        return [
            each
            for each in self._by_content.get(call.content_key, ())
            if not (_has_id(each) and _has_id(call))
        ]


def _has_id(call: Call | CallRecord) -> bool:
    return call.key != call.content_key


@dataclass(slots=True)
class _Pot:
    """A charge that calls join: one that waits, or (without `charge_id`) one to be made."""

    charge_id: int | None
    amount_minor: int
    joined: list[Call] = field(default_factory=list)

    @property
    def joined_minor(self) -> int:
        return sum(call.amount_minor for call in self.joined)


def _charge(session: Session, calls: Sequence[Call]) -> Mapping[str, int]:
    """The charge that each of the calls has joined, by their keys."""
    by_month: dict[tuple[int, date], list[Call]] = defaultdict(list)
    for call in calls:
        by_month[call.number_id, call.month_on].append(call)
    waiting = _find_waiting(session, list(by_month))
    charged: dict[str, int] = {}
    begun: dict[str, _Pot] = {}
    names: Mapping[int, tuple[str, str]] | None = None
    for of_which, of_month in sorted(by_month.items()):
        for pot in _fill(waiting.get(of_which), of_month):
            if pot.charge_id is not None:
                _add_to(session, pot.charge_id, pot)
                charged |= {call.key: pot.charge_id for call in pot.joined}
            else:
                names = names or _names_of(session, [number_id for number_id, _ in by_month])
                begun[_begin(session, pot, *names[of_which[0]])] = pot
    if begun:
        made = select(Charge.id, Charge.public_id).where(Charge.public_id.in_(begun))
        for charge_id, public_id in session.execute(made):
            charged |= {call.key: charge_id for call in begun[public_id].joined}
    return charged


def _find_waiting(
    session: Session, of_which: Sequence[tuple[int, date]]
) -> Mapping[tuple[int, date], _Pot]:
    """The latest charge of each number and month that no bill has yet."""
    rows = session.execute(
        select(CallRecord.number_id, CallRecord.month_on, Charge.id, Charge.amount_minor)
        .join(Charge, Charge.id == CallRecord.charge_id)
        .where(
            CallRecord.number_id.in_({number_id for number_id, _ in of_which}),
            CallRecord.month_on.in_({month_on for _, month_on in of_which}),
            Charge.invoice_id.is_(None),
            Charge.cancelled_at.is_(None),
        )
        .distinct()
        .order_by(Charge.id)
    )
    return {(row.number_id, row.month_on): _Pot(row.id, row.amount_minor) for row in rows}


def _fill(waiting: _Pot | None, calls: Sequence[Call]) -> list[_Pot]:
    """The calls shared out so that no charge is larger than one may be."""
    pots = [waiting or _Pot(None, 0)]
    for call in calls:
        if pots[-1].amount_minor + call.amount_minor > adjusting.MAXIMUM_MINOR:
            pots.append(_Pot(None, 0))
        pots[-1].amount_minor += call.amount_minor
        pots[-1].joined.append(call)
    return [pot for pot in pots if pot.joined]


def _add_to(session: Session, charge_id: int, pot: _Pot) -> None:
    session.execute(
        update(Charge)
        .where(Charge.id == charge_id)
        .values(amount_minor=Charge.amount_minor + pot.joined_minor)
    )
    revisions.raise_account(session, pot.joined[0].account_id)


def _names_of(session: Session, number_ids: Sequence[int]) -> Mapping[int, tuple[str, str]]:
    """Each number as it is written, with the language of its account."""
    rows = session.execute(
        select(PhoneNumber.id, PhoneNumber.number, Account.language)
        .join(Account, Account.id == PhoneNumber.account_id)
        .where(PhoneNumber.id.in_(number_ids))
    )
    return {row.id: (row.number, row.language) for row in rows}


def _begin(session: Session, pot: _Pot, number: str, language: str) -> str:
    """Make a charge of its calls; its public id."""
    first = pot.joined[0]
    with speaking(language):
        description = _(
            "Calls from %(number)s, %(month)s",
            number=format_phone(number),
            month=format_month(first.month_on),
        )
    new = adjusting.NewCharge(
        first.account_id,
        pot.amount_minor,
        description[:200],
        f"calls {first.number_id} {first.month_on:%Y-%m}",
        PlanKind.PHONE.value,
        None,
    )
    return adjusting.add_charge(session, new)


def oldest_kept_at() -> datetime:
    """Calls from before are not taken any more: they would not be known again."""
    return clock.now() - CALLS_KEPT + timedelta(days=1)
