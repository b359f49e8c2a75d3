"""Booking money that has arrived: its entry, the invoices it settles, the holds it lifts, the
receipt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ScalarSelect, Select, bindparam, case, func, null, select
from sqlalchemy.orm import Session

from blueprints.billing import ledger
from blueprints.billing.dunning import releasing
from core import activity, clock, outbox, topics
from core.isp import current_isp
from core.topics import Topic
from gateways.payments.base import Truth
from models import (
    Account,
    Channel,
    Contact,
    ContactKind,
    Customer,
    EntryKind,
    Payment,
    PaymentState,
)


def book(
    session: Session,
    received: Sequence[tuple[Payment, Truth]],
    paid_at: Mapping[int, datetime],
) -> None:
    """Post the entries of payments that have arrived, settle invoices, lift holds, tell people."""
    now = clock.now()
    isp = current_isp()
    today = clock.today(isp.timezone)
    arrived_at = {payment.id: paid_at.get(payment.id, now) for payment, _ in received}
    entry_ids = ledger.post(
        session,
        [
            ledger.Posting(
                key=f"payment:{payment.public_id}",
                kind=EntryKind.PAYMENT,
                account_id=payment.account_id,
                booked_on=clock.day_of(arrived_at[payment.id], isp.timezone),
                description="Payment",
                lines=(
                    (f"gateway:{payment.gateway}", payment.amount_minor),
                    (ledger.RECEIVABLE, -payment.amount_minor),
                ),
            )
            for payment, _ in received
        ],
        isp.currency,
    )
    for (payment, truth), entry_id in zip(received, entry_ids, strict=True):
        payment.state = PaymentState.SUCCEEDED.value
        payment.entry_id = entry_id
        payment.revision += 1
        payment.gateway_reference = truth.reference or payment.gateway_reference
        payment.method = truth.method[:120]
        payment.decline_reason = ""
        payment.ended_at = arrived_at[payment.id]
        payment.ask_at = None
        payment.claimed_until_at = None
    session.flush()
    ledger.allocate(
        session,
        [
            ledger.Credit(payment.account_id, entry_id, payment.amount_minor, payment.invoice_id)
            for (payment, _), entry_id in zip(received, entry_ids, strict=True)
        ],
        now,
    )
    account_ids = sorted({payment.account_id for payment, _ in received})
    releasing.lift_unpaid(session, account_ids, today)
    activity.record(
        session,
        [
            activity.Event(
                "payment_received",
                arrived_at[payment.id],
                account_id=payment.account_id,
                customer_id=payment.customer_id,
                facts={
                    "amount_minor": payment.amount_minor,
                    "currency": payment.currency,
                    "payment": payment.public_id,
                },
            )
            for payment, _ in received
        ],
    )
    _queue_receipts(session, [payment for payment, _ in received])


def _oldest(kind: ContactKind) -> ScalarSelect[str]:
    return (
        select(Contact.value)
        .where(
            Contact.account_id == Payment.account_id,
            Contact.kind == kind.value,
            Contact.ended_on.is_(None),
        )
        .order_by(Contact.since_on, Contact.id)
        .limit(1)
        .scalar_subquery()
    )


def _finding_addressees() -> Select[*tuple[Any, ...]]:
    email = func.coalesce(_oldest(ContactKind.EMAIL), Customer.email_key)
    by_email = topics.wants(Customer.id, Topic.PAYMENTS, Channel.EMAIL)
    by_text = topics.wants(Customer.id, Topic.PAYMENTS, Channel.TEXT)
    return (
        select(
            Payment.id,
            case((by_email, email), else_=null()).label(Channel.EMAIL.value),
            case((by_text, _oldest(ContactKind.PHONE)), else_=null()).label(Channel.TEXT.value),
            Customer.language,
            Account.number,
        )
        .join(Customer, Customer.id == Payment.customer_id)
        .join(Account, Account.id == Payment.account_id)
        .where(Payment.id.in_(bindparam("payments", expanding=True)))
    )


_FIND_ADDRESSEES = _finding_addressees()


def _queue_receipts(session: Session, payments: Sequence[Payment]) -> None:
    """A receipt for each payment somebody made while signed in, by the channels they want."""
    with_customer = [payment for payment in payments if payment.customer_id is not None]
    if not with_customer:
        return
    addressees = {
        row.id: row
        for row in session.connection().execute(
            _FIND_ADDRESSEES, {"payments": [payment.id for payment in with_customer]}
        )
    }
    outbox.queue(
        session,
        [
            outbox.Letter(
                "receipt",
                recipient,
                addressees[payment.id].language,
                account_id=payment.account_id,
                customer_id=payment.customer_id,
                channel=channel.value,
                facts={
                    "amount_minor": payment.amount_minor,
                    "currency": payment.currency,
                    "payment": payment.public_id,
                    "account_number": addressees[payment.id].number,
                },
            )
            for payment in with_customer
            for channel in topics.CHANNELS
            if (recipient := getattr(addressees[payment.id], channel.value))
        ],
    )
