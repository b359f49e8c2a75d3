"""Telling a customer about the money of an account, by the channels that they chose for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core import outbox, topics
from core.policy import BILLERS
from core.topics import Topic
from models import (
    Account,
    Channel,
    Contact,
    ContactKind,
    Customer,
    Dispute,
    Invoice,
    InvoiceLine,
    Membership,
    Payment,
    PaymentReversal,
    ReversalKind,
    Role,
    StaffMember,
)

_KINDS = {Channel.EMAIL: ContactKind.EMAIL, Channel.TEXT: ContactKind.PHONE}


def tell(
    session: Session,
    kind: str,
    account_id: int,
    customer_id: int,
    facts: Mapping[str, Any],
    topic: Topic = Topic.PAYMENTS,
    *,
    is_required: bool = False,
) -> int:
    """Queue a message of `kind` within the running unit of work; how many were queued.

    It goes to the oldest contact of the account, and by e-mail to the customer's own address where
    the account has none. `account_number` is among its facts. `is_required`: by e-mail also to
    whoever wants none, as the law asks it of notices before a debit (12 CFR 1005.10(d)).
    """
    person = session.execute(
        select(Customer.email_key, Customer.language).where(Customer.id == customer_id)
    ).one()
    number = session.scalar(select(Account.number).where(Account.id == account_id))
    wanted = [
        channel
        for channel in topics.CHANNELS
        if session.scalar(select(topics.wants(customer_id, topic, channel)))
    ]
    if is_required and not wanted:
        wanted = [Channel.EMAIL]
    letters = [
        outbox.Letter(
            kind,
            recipient,
            person.language,
            account_id=account_id,
            customer_id=customer_id,
            channel=channel.value,
            facts={**facts, "account_number": number},
        )
        for channel in wanted
        if (recipient := _recipient(session, account_id, channel, person.email_key))
    ]
    outbox.queue(session, letters)
    return len(letters)


def tell_of_dispute(session: Session, dispute: Dispute, what: str) -> None:
    """Queue the message to whoever opened `dispute` that staff have `answered`, `granted` or
    `refused` it, unless they have left the account. It leads to the thread; what was written
    stands there alone."""
    row = session.execute(
        select(Account.public_id, Invoice.number, Invoice.currency, InvoiceLine.description)
        .join(Invoice, Invoice.account_id == Account.id)
        .join(InvoiceLine, InvoiceLine.invoice_id == Invoice.id)
        .where(Invoice.id == dispute.invoice_id, InvoiceLine.position == dispute.position)
    ).one()
    given_minor = session.scalar(
        select(Invoice.total_minor).where(Invoice.id == dispute.credit_note_id)
    )
    facts = {
        "what": what,
        "dispute": dispute.public_id,
        "account": row.public_id,
        "number": row.number,
        "line": row.description,
        "amount_minor": given_minor or dispute.amount_minor,
        "currency": row.currency,
    }
    is_still_of_it = session.scalar(
        select(Membership.role).where(
            Membership.account_id == dispute.account_id,
            Membership.customer_id == dispute.customer_id,
        )
    )
    if dispute.customer_id is not None and is_still_of_it:
        tell(session, "dispute", dispute.account_id, dispute.customer_id, facts, Topic.BILLS)


def tell_of_failed_refund(session: Session, failed: PaymentReversal) -> None:
    """Queue the message to staff that a refund has come back and is still owed: to those who asked
    for it and approved it, or, where none of them handles money any more, to all who do."""
    row = session.execute(
        select(Account.public_id, Account.number, Payment.public_id.label("payment"))
        .join(Payment, Payment.account_id == Account.id)
        .where(Payment.id == failed.payment_id)
    ).one()
    refund = session.execute(
        select(PaymentReversal.asked_by_id, PaymentReversal.approved_by_id).where(
            PaymentReversal.payment_id == failed.payment_id,
            PaymentReversal.kind == ReversalKind.REFUND.value,
            PaymentReversal.gateway_reference == failed.gateway_reference,
        )
    ).first()
    members = session.execute(
        select(Customer.id, Customer.language, func.min(Contact.value).label("email"))
        .join(StaffMember, StaffMember.customer_id == Customer.id)
        .join(Contact, Contact.customer_id == Customer.id)
        .where(
            ~StaffMember.is_disabled,
            StaffMember.role.in_([role.value for role in BILLERS]),
            Contact.kind == ContactKind.EMAIL.value,
            Contact.ended_on.is_(None),
        )
        .group_by(Customer.id, Customer.language)
        .order_by(Customer.id)
    ).all()
    made_it = set(refund or ())
    outbox.queue(
        session,
        [
            outbox.Letter(
                "refund_failed",
                member.email,
                member.language,
                customer_id=member.id,
                facts={
                    "amount_minor": failed.amount_minor,
                    "currency": failed.currency,
                    "account": row.public_id,
                    "account_number": row.number,
                    "payment": row.payment,
                    "reason": failed.reason,
                },
            )
            for member in [each for each in members if each.id in made_it] or members
        ],
    )


def find_owner(session: Session, account_id: int) -> int | None:
    """The customer who is told of what nobody did while signed in; None where nobody signs in."""
    return session.scalar(
        select(func.min(Membership.customer_id)).where(
            Membership.account_id == account_id, Membership.role == Role.OWNER.value
        )
    )


def _recipient(
    session: Session, account_id: int, channel: Channel, email_key: str | None
) -> str | None:
    found = session.scalar(
        select(Contact.value)
        .where(
            Contact.account_id == account_id,
            Contact.kind == _KINDS[channel].value,
            Contact.ended_on.is_(None),
        )
        .order_by(Contact.since_on, Contact.id)
        .limit(1)
    )
    return found or (email_key if channel is Channel.EMAIL else None)
