"""Arrangements: a debt paid on a promised day or in instalments, and the peace meanwhile.

One is about the bills there were when it was made. It is kept once they are settled, and broken
when more of them is left than its instalments to come are to bring.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from functools import partial

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from blueprints.billing import payments
from blueprints.billing.dunning import releasing
from blueprints.billing.errors import AmountChanged
from blueprints.billing.planned import amounts, autopay, days, ending, saved
from blueprints.billing.planned.errors import (
    ArrangementRefused,
    PlannedNotFound,
)
from blueprints.billing.planned.telling import tell, tell_of
from core import activity, clock, form_keys, ids
from core.db import reading, total, unit_of_work
from core.form_keys import ArrivedKey
from core.isp import current_isp
from core.money import Money, format_money
from core.words import format_day, language
from models import (
    Account,
    Arrangement,
    ArrangementState,
    Invoice,
    JournalEntry,
    PlannedKind,
    PlannedPayment,
    PlannedState,
)

A_YEAR = timedelta(days=365)
FIRST_WITHIN_DAYS = 14
"""When the first instalment is to come at the latest, where the ISP takes no promises."""


# What the rules allow ---------------------------------------------------------------------------


class Every(StrEnum):
    """How far apart instalments are."""

    WEEK = "week"
    TWO_WEEKS = "two_weeks"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Offer:
    """What an account may agree on today: `has_promise`, to pay all of it on one day."""

    total: Money
    has_promise: bool
    first_until: date
    most_parts: int
    last_on: date


@dataclass(frozen=True, slots=True)
class Part:
    due_on: date
    amount: Money


def find_offer(session: Session, account_id: int) -> Offer:
    """What the ISP's rules offer the account. Raises ArrangementRefused."""
    rules, today = current_isp().billing_rules, days.today()
    account = session.execute(
        select(
            Account.opened_on,
            Account.currency,
            Account.balance_minor,
            amounts.processing_of(account_id).label("processing_minor"),
        ).where(Account.id == account_id)
    ).one()
    rows = session.execute(
        select(Arrangement.state).where(
            Arrangement.account_id == account_id,
            Arrangement.created_at > clock.now() - A_YEAR,
        )
    ).all()
    if any(row.state == ArrangementState.STANDING for row in rows):
        raise ArrangementRefused("standing")
    due_minor = account.balance_minor - account.processing_minor
    if due_minor <= 0:
        raise ArrangementRefused("nothing")
    if due_minor < rules.arrangement_from_minor:
        least = Money(rules.arrangement_from_minor, account.currency)
        raise ArrangementRefused("small", amount=format_money(least, language()))
    if (today - account.opened_on).days < rules.arrangement_after_days:
        raise ArrangementRefused("young")
    if len(rows) >= rules.arrangements_a_year:
        raise ArrangementRefused("often")
    return Offer(
        Money(due_minor, account.currency),
        rules.promise_days > 0,
        today + timedelta(days=rules.promise_days or FIRST_WITHIN_DAYS),
        rules.instalments_most,
        today + timedelta(days=rules.instalments_days),
    )


def divide(offer: Offer, count: int, first_on: date, every: Every) -> list[Part]:
    """The parts of the debt with their days; they differ by one minor unit at most.

    Raises ArrangementRefused where the rules do not allow it so.
    """
    total_minor, currency = offer.total.amount_minor, offer.total.currency
    least = Money(payments.MINIMUM_MINOR, currency)
    if (
        count > offer.most_parts
        or count < 1
        or total_minor // count < payments.MINIMUM_MINOR
        or (count == 1 and not offer.has_promise)
    ):
        raise ArrangementRefused("parts", amount=format_money(least, language()))
    if first_on <= days.today():
        raise ArrangementRefused("early")
    if first_on > offer.first_until:
        raise ArrangementRefused("late_first", last=format_day(offer.first_until))
    found = [_day_of_part(first_on, number, every) for number in range(count)]
    if found[-1] > offer.last_on:
        raise ArrangementRefused("late", last=format_day(offer.last_on))
    share, more = divmod(total_minor, count)
    return [Part(day, Money(share + (number < more), currency)) for number, day in enumerate(found)]


def _day_of_part(first_on: date, number: int, every: Every) -> date:
    if every is Every.MONTH:
        return clock.month_step(first_on, number, first_on.day)
    return first_on + timedelta(days=number * (7 if every is Every.WEEK else 14))


# Agreeing ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wish:
    """How somebody wants to pay what is due. Without `method_public_id` they pay each part
    themselves. `shown_minor` is the sum that the preview divided."""

    account_id: int
    customer_id: int
    count: int
    first_on: date
    every: Every
    method_public_id: str | None
    shown_minor: int | None


def agree(wish: Wish, key: ArrivedKey, path: str) -> str:
    """Make the arrangement; `path`, which shows it.

    Raises ArrangementRefused, AmountChanged, MethodUnusable.
    """
    current_isp()
    language()

    def work(session: Session) -> str:
        offer = find_offer(session, wish.account_id)
        if wish.shown_minor != offer.total.amount_minor:
            raise AmountChanged(format_money(offer.total, current_isp().language))
        parts = divide(offer, wish.count, wish.first_on, wish.every)
        method_id = None
        if wish.method_public_id is not None:
            last_on = parts[-1].due_on
            method_id = saved.get_usable(
                session, wish.account_id, wish.customer_id, wish.method_public_id, last_on
            ).id
        now, soon_on = clock.now(), days.today() + _notice()
        arrangement = Arrangement(
            public_id=ids.public_id(),
            account_id=wish.account_id,
            customer_id=wish.customer_id,
            state=ArrangementState.STANDING.value,
            total_minor=offer.total.amount_minor,
            created_at=now,
        )
        session.add(arrangement)
        session.flush()
        session.add_all(
            PlannedPayment(
                public_id=ids.public_id(),
                kind=PlannedKind.INSTALMENT.value,
                account_id=wish.account_id,
                customer_id=wish.customer_id,
                method_id=method_id,
                arrangement_id=arrangement.id,
                amount_minor=part.amount.amount_minor,
                due_on=part.due_on,
                state=PlannedState.WAITING.value,
                failure="",
                # What comes that soon is said by the message about the arrangement.
                told_at=now if part.due_on <= soon_on else None,
                created_at=now,
                try_at=None if method_id is None else days.taken_at(part.due_on),
                try_count=0,
            )
            for part in parts
        )
        _let_autopay_rest(session, arrangement)
        _note(session, arrangement, "arrangement_made", parts)
        session.flush()
        releasing.lift_unpaid(session, [wish.account_id], days.today())
        return path

    return form_keys.once(key, work, wish.account_id)


def _let_autopay_rest(session: Session, arrangement: Arrangement) -> None:
    """What the arrangement covers is not taken by autopay as well."""
    session.flush()
    covered = session.scalars(
        select(PlannedPayment)
        .join(Invoice, Invoice.id == PlannedPayment.invoice_id)
        .join(JournalEntry, JournalEntry.id == Invoice.entry_id)
        .where(
            PlannedPayment.account_id == arrangement.account_id,
            PlannedPayment.kind == PlannedKind.AUTOPAY.value,
            PlannedPayment.state.in_((PlannedState.WAITING.value, PlannedState.ASKING.value)),
            JournalEntry.created_at <= arrangement.created_at,
        )
    )
    for planned in covered:
        ending.end(session, planned, PlannedState.CANCELLED, ending.ARRANGED)
    autopay.refresh(session, arrangement.account_id)


def give_up(account_id: int, customer_id: int, key: ArrivedKey, path: str) -> str:
    """End the arrangement as its customer wishes: nothing more is taken for it, and everything is
    due as it was; `path`. Where none stands, nothing changes. Raises PlannedNotFound for another
    person's."""
    current_isp()

    def work(session: Session) -> str:
        arrangement = _standing(session, account_id)
        if arrangement is not None:
            if arrangement.customer_id != customer_id:
                raise PlannedNotFound
            _end(session, arrangement, ArrangementState.CANCELLED)
        return path

    return form_keys.once(key, work, account_id)


# Reminding --------------------------------------------------------------------------------------


def _notice() -> timedelta:
    return timedelta(days=current_isp().billing_rules.instalment_notice_days)


def remind_due() -> int:
    """Remind of each instalment to come that its customer pays by hand, once; how many."""
    if not _notice():
        return 0
    with reading() as session:
        due = session.execute(_to_remind_of()).all()
    return sum(
        unit_of_work(partial(_remind, planned_id=planned_id), account_id)
        for planned_id, account_id in due
    )


def _to_remind_of() -> Select[int, int]:
    """Instalments whose reminder is due; what failed on its day was said already."""
    today = days.today()
    begun_on = today if clock.now() >= days.taken_at(today) else today - timedelta(days=1)
    return (
        select(PlannedPayment.id, PlannedPayment.account_id)
        .join(Arrangement, Arrangement.id == PlannedPayment.arrangement_id)
        .where(
            Arrangement.state == ArrangementState.STANDING.value,
            PlannedPayment.state == PlannedState.WAITING.value,
            PlannedPayment.try_at.is_(None),
            PlannedPayment.told_at.is_(None),
            PlannedPayment.due_on <= begun_on + _notice(),
            or_(
                PlannedPayment.due_on > today,
                (PlannedPayment.due_on == today) & (PlannedPayment.failure == ""),
            ),
        )
        .order_by(PlannedPayment.due_on, PlannedPayment.id)
    )


def _remind(session: Session, planned_id: int) -> int:
    """Say what is to be paid until its day; of what was paid ahead there is nothing to say."""
    if session.scalar(_to_remind_of().where(PlannedPayment.id == planned_id)) is None:
        return 0
    planned = session.get_one(PlannedPayment, planned_id)
    planned.told_at = clock.now()
    amount_minor = amounts.instalment_minor(session, planned)
    if not amount_minor:
        return 0
    tell_of(session, planned, "instalment_due", amount_minor=amount_minor)
    return 1


# Kept or broken ---------------------------------------------------------------------------------


def judge_standing() -> int:
    """Judge every arrangement that stands; how many have ended."""
    with reading() as session:
        account_ids = session.scalars(
            select(Arrangement.account_id).where(
                Arrangement.state == ArrangementState.STANDING.value
            )
        ).all()
        due = [each for each in account_ids if _judge(session, _standing(session, each))]
    for account_id in due:
        unit_of_work(partial(judge, account_id=account_id), account_id)
    return len(due)


def judge(session: Session, account_id: int) -> None:
    """Say of the account's arrangement whether it was kept or broken, if that is clear by now, and
    which of its parts are paid."""
    arrangement = _standing(session, account_id)
    if arrangement is None:
        return
    state = _judge(session, arrangement)
    if state is not None:
        _end(session, arrangement, state)


def _standing(session: Session, account_id: int) -> Arrangement | None:
    return session.scalar(
        select(Arrangement).where(
            Arrangement.account_id == account_id,
            Arrangement.state == ArrangementState.STANDING.value,
        )
    )


def _judge(session: Session, arrangement: Arrangement | None) -> ArrangementState | None:
    if arrangement is None:
        return None
    covered = amounts.covered(session, arrangement.account_id, arrangement.created_at)
    if covered.open_minor == 0:
        return ArrangementState.KEPT
    to_come_minor = session.execute(
        select(total(PlannedPayment.amount_minor)).where(
            PlannedPayment.arrangement_id == arrangement.id,
            PlannedPayment.due_on >= days.today(),
        )
    ).scalar_one()
    return ArrangementState.BROKEN if covered.left_minor > to_come_minor else None


def _end(session: Session, arrangement: Arrangement, state: ArrangementState) -> None:
    arrangement.state = state.value
    arrangement.ended_at = clock.now()
    parts = session.scalars(
        select(PlannedPayment).where(
            PlannedPayment.arrangement_id == arrangement.id,
            PlannedPayment.state == PlannedState.WAITING.value,
        )
    )
    is_kept = state is ArrangementState.KEPT
    for part in parts:
        ending.end(
            session,
            part,
            PlannedState.DONE if is_kept else PlannedState.CANCELLED,
            "" if is_kept else state.value,
        )
    words = {
        ArrangementState.KEPT: "arrangement_kept",
        ArrangementState.BROKEN: "arrangement_broken",
        ArrangementState.CANCELLED: "arrangement_ended",
    }
    _note(session, arrangement, words[state], ())


def _note(session: Session, arrangement: Arrangement, what: str, parts: Sequence[Part]) -> None:
    """Write down what became of the arrangement and tell its customer."""
    account_id, customer_id = arrangement.account_id, arrangement.customer_id
    event = activity.Event(what, clock.now(), account_id=account_id, customer_id=customer_id)
    activity.record(session, [event])
    payments.touch(session, [account_id])
    if customer_id is None:
        return
    facts: dict[str, object] = {"amount_minor": arrangement.total_minor}
    if parts:
        facts |= {
            "count": len(parts),
            "part_minor": parts[0].amount.amount_minor,
            "due_on": parts[0].due_on,
            "last_on": parts[-1].due_on,
        }
    tell(session, account_id, customer_id, what, facts)
