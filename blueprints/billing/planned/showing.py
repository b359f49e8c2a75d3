"""Planned payments, autopay and arrangements as their pages show them. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import and_, bindparam, func, or_, select
from sqlalchemy.orm import aliased

from blueprints.billing import gateway_words
from blueprints.billing.methods import keeping
from blueprints.billing.owed import PLANNED
from blueprints.billing.planned import amounts, arrangements, days, saved, scheduling
from blueprints.billing.planned.arrangements import Offer
from blueprints.billing.planned.errors import ArrangementRefused, PlannedNotFound
from blueprints.billing.planned.saved import SavedMethod
from core import clock
from core.db import db
from core.isp import current_isp
from core.money import Money
from core.prepared import Prepared
from models import (
    Account,
    Arrangement,
    ArrangementState,
    AutopayMandate,
    Customer,
    Invoice,
    Payment,
    PaymentMethod,
    PlannedKind,
    PlannedPayment,
    PlannedState,
)

SHOWN_AFTER_END = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class PlannedRow:
    public_id: str
    kind: str
    state: str
    amount: Money
    due_on: date
    next_on: date | None
    method: str
    failure: str


@dataclass(frozen=True, slots=True)
class PlannedDetail(PlannedRow):
    """`payment_public_id` is its latest try. What `can_…` says counts for the customer whose it
    is; others who see the account's money see it without."""

    invoice_number: str | None
    invoice_public_id: str | None
    payment_public_id: str | None
    hosted_url: str | None
    method_public_id: str
    is_own: bool
    can_change: bool
    can_cancel: bool
    can_try: bool
    can_answer: bool


def _columns() -> tuple[Any, ...]:
    return (
        PlannedPayment.public_id,
        PlannedPayment.kind,
        PlannedPayment.state,
        PlannedPayment.amount_minor,
        PlannedPayment.due_on,
        PlannedPayment.try_at,
        PlannedPayment.try_count,
        PlannedPayment.failure,
        PlannedPayment.customer_id,
        PlannedPayment.method_id,
        PaymentMethod.title,
        Account.currency,
    )


def _row(row: Any) -> dict[str, Any]:
    is_again = row.state == PlannedState.WAITING and row.try_count and row.try_at is not None
    return {
        "public_id": row.public_id,
        "kind": row.kind,
        "state": row.state,
        "amount": Money(row.amount_minor, row.currency),
        "due_on": row.due_on,
        "next_on": clock.day_of(row.try_at, current_isp().timezone) if is_again else None,
        "method": gateway_words.translate(row.title or ""),
        "failure": row.failure,
    }


_PLANNED = Prepared(
    select(*_columns())
    .join(Account, Account.id == PlannedPayment.account_id)
    .outerjoin(PaymentMethod, PaymentMethod.id == PlannedPayment.method_id)
    .where(
        PlannedPayment.account_id == bindparam("account_id"),
        or_(
            PlannedPayment.state.in_([state.value for state in PLANNED]),
            and_(
                PlannedPayment.state == PlannedState.FAILED.value,
                PlannedPayment.ended_at > bindparam("lately"),
            ),
        ),
    )
    .order_by(PlannedPayment.due_on, PlannedPayment.id)
)


def list_planned(account_id: int) -> list[PlannedRow]:
    """What is planned on the account and what failed lately, by day, in one query."""
    rows = _PLANNED.all(account_id=account_id, lately=clock.now() - SHOWN_AFTER_END)
    return [PlannedRow(**_row(row)) for row in rows]


def get_planned(account_id: int, customer_id: int, public_id: str) -> PlannedDetail:
    """A planned payment as its own page shows it, in one query. Raises PlannedNotFound."""
    latest = aliased(Payment)
    latest_id = (
        select(func.max(latest.id)).where(latest.planned_id == PlannedPayment.id).scalar_subquery()
    )
    row = db.session.execute(
        select(
            *_columns(),
            Invoice.number,
            Invoice.public_id.label("invoice_public_id"),
            Payment.public_id.label("payment_public_id"),
            Payment.hosted_url,
            PaymentMethod.public_id.label("method_public_id"),
        )
        .join(Account, Account.id == PlannedPayment.account_id)
        .outerjoin(PaymentMethod, PaymentMethod.id == PlannedPayment.method_id)
        .outerjoin(Invoice, Invoice.id == PlannedPayment.invoice_id)
        .outerjoin(Payment, Payment.id == latest_id)
        .where(PlannedPayment.account_id == account_id, PlannedPayment.public_id == public_id)
    ).one_or_none()
    if row is None:
        raise PlannedNotFound
    is_own = row.customer_id == customer_id
    is_waiting = row.state == PlannedState.WAITING
    is_scheduled = row.kind == PlannedKind.SCHEDULED and is_waiting
    has_failed = row.state == PlannedState.FAILED or (is_waiting and row.failure != "")
    return PlannedDetail(
        **_row(row),
        invoice_number=row.number,
        invoice_public_id=row.invoice_public_id,
        payment_public_id=row.payment_public_id,
        hosted_url=row.hosted_url,
        method_public_id=row.method_public_id or "",
        is_own=is_own,
        can_change=is_own and is_scheduled and row.due_on > days.today(),
        can_cancel=is_own and is_scheduled,
        can_try=is_own and has_failed and row.method_id is not None,
        can_answer=is_own and row.state == PlannedState.ASKING,
    )


# Scheduling -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SchedulePage:
    """What can be scheduled: `due` is what nothing planned is to bring yet."""

    due: Money
    methods: list[SavedMethod]
    first_on: date
    last_on: date


def find_schedule_page(
    account_id: int, customer_id: int, public_id: str | None = None
) -> SchedulePage:
    """The same without the payment `public_id`, which is about to be changed."""
    session = db.session()
    due_minor = amounts.to_plan_minor(session, account_id, but=public_id)
    first_on = scheduling.first_day()
    return SchedulePage(
        Money(due_minor, current_isp().currency),
        saved.list_usable(session, account_id, customer_id, first_on),
        first_on,
        scheduling.last_day(),
    )


# Autopay ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StandingAutopay:
    customer_id: int
    customer_name: str
    method: str
    is_moved: bool
    method_public_id: str
    days_before: int
    ceiling: Money | None
    range_from: Money | None
    range_to: Money | None
    consent: str
    consent_language: str
    consented_at: datetime


@dataclass(frozen=True, slots=True)
class AutopayPage:
    """How autopay stands for the account. `standing`: by whom and how bills are paid now;
    `last_notice`: how late autopay takes money after it has said so."""

    standing: StandingAutopay | None
    methods: list[SavedMethod]
    next: list[PlannedRow]


def find_autopay_page(account_id: int, customer_id: int) -> AutopayPage:
    """What the page of autopay shows, in three queries."""
    row = db.session.execute(
        select(
            AutopayMandate.customer_id,
            AutopayMandate.days_before,
            AutopayMandate.ceiling_minor,
            AutopayMandate.range_from_minor,
            AutopayMandate.range_to_minor,
            AutopayMandate.consent,
            AutopayMandate.consent_language,
            AutopayMandate.consented_at,
            PaymentMethod.public_id,
            PaymentMethod.title,
            PaymentMethod.gateway,
            Customer.name.label("customer_name"),
        )
        .join(PaymentMethod, PaymentMethod.id == AutopayMandate.method_id)
        .join(Customer, Customer.id == AutopayMandate.customer_id)
        .where(AutopayMandate.account_id == account_id, AutopayMandate.ended_at.is_(None))
    ).one_or_none()
    methods = saved.list_usable(db.session(), account_id, customer_id, days.today())
    planned = [each for each in list_planned(account_id) if each.kind == PlannedKind.AUTOPAY]
    return AutopayPage(None if row is None else _standing(row), methods, planned)


def _standing(row: Any) -> StandingAutopay:
    def money(minor: int | None) -> Money | None:
        return None if minor is None else Money(minor, current_isp().currency)

    return StandingAutopay(
        row.customer_id,
        row.customer_name,
        gateway_words.translate(row.title),
        keeping.is_moved(row.gateway),
        row.public_id,
        row.days_before,
        money(row.ceiling_minor),
        money(row.range_from_minor),
        money(row.range_to_minor),
        row.consent,
        row.consent_language,
        row.consented_at,
    )


# Arrangements -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ArrangedPart:
    """A part of an arrangement; `state`: paid, partly, to_come, due or missed."""

    public_id: str
    due_on: date
    amount: Money
    is_paid: bool
    method: str
    failure: str


@dataclass(frozen=True, slots=True)
class ArrangementPage:
    """The arrangement that stands, or what is offered, or why none is."""

    is_standing: bool
    is_own: bool
    total: Money
    left: Money
    parts: list[ArrangedPart]
    offer: Offer | None
    refusal: str
    methods: list[SavedMethod]


def find_arrangement_page(account_id: int, customer_id: int) -> ArrangementPage:
    """What the page of arrangements shows."""
    session, currency = db.session(), current_isp().currency
    nothing = Money(0, currency)
    found = session.execute(
        select(
            Arrangement.id,
            Arrangement.customer_id,
            Arrangement.total_minor,
            Arrangement.created_at,
        ).where(
            Arrangement.account_id == account_id,
            Arrangement.state == ArrangementState.STANDING.value,
        )
    ).one_or_none()
    if found is not None:
        left_minor = amounts.covered(session, account_id, found.created_at).left_minor
        return ArrangementPage(
            is_standing=True,
            is_own=found.customer_id == customer_id,
            total=Money(found.total_minor, currency),
            left=Money(left_minor, currency),
            parts=_parts(found.id, left_minor, currency),
            offer=None,
            refusal="",
            methods=[],
        )
    methods = saved.list_usable(session, account_id, customer_id, days.today())
    try:
        offer = arrangements.find_offer(session, account_id)
    except ArrangementRefused as refused:
        words = refused.customer_message
        return ArrangementPage(False, False, nothing, nothing, [], None, words, methods)
    return ArrangementPage(False, False, offer.total, nothing, [], offer, "", methods)


def _parts(arrangement_id: int, left_minor: int, currency: str) -> list[ArrangedPart]:
    rows = db.session.execute(
        select(
            PlannedPayment.public_id,
            PlannedPayment.due_on,
            PlannedPayment.amount_minor,
            PlannedPayment.failure,
            PaymentMethod.title,
        )
        .outerjoin(PaymentMethod, PaymentMethod.id == PlannedPayment.method_id)
        .where(PlannedPayment.arrangement_id == arrangement_id)
        .order_by(PlannedPayment.due_on, PlannedPayment.id)
    ).all()
    later_minor = sum(row.amount_minor for row in rows)
    found = []
    for row in rows:
        later_minor -= row.amount_minor
        found.append(
            ArrangedPart(
                row.public_id,
                row.due_on,
                Money(row.amount_minor, currency),
                left_minor <= later_minor,
                gateway_words.translate(row.title or ""),
                row.failure,
            )
        )
    return found
