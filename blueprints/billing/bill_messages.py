"""The message that a bill is ready: to the account's holder and to those who pay for it, to each by
the channels they want for bills."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Row,
    ScalarSelect,
    Select,
    bindparam,
    func,
    select,
)
from sqlalchemy.orm import Session

from blueprints.billing.errors import InvoiceNotFound
from core import outbox, topics
from core.outbox import Letter
from core.topics import Topic
from models import (
    Account,
    AutopayMandate,
    Channel,
    Contact,
    ContactKind,
    Customer,
    Invoice,
    InvoiceBalance,
    InvoiceKind,
    Membership,
    Role,
)

KIND = "bill_ready"
_CONTACTS = {Channel.EMAIL: ContactKind.EMAIL, Channel.TEXT: ContactKind.PHONE}
_TOLD_ROLES = (Role.OWNER.value, Role.PAYER.value)


def tell(session: Session, invoice_ids: Sequence[int]) -> int:
    """Queue the message of each invoice within the running unit of work; how many were queued.

    Of a credit note nothing is told: it asks for nothing.
    """
    return _queue(session, invoice_ids)


def list_recipients(session: Session, invoice_id: int) -> list[tuple[Channel, str]]:
    """Where the message of an invoice goes."""
    return [(channel, recipient) for _row, channel, recipient in _addressed(session, [invoice_id])]


def _addressed(
    session: Session, invoice_ids: Sequence[int]
) -> Iterator[tuple[Row[Any], Channel, str]]:
    """Each channel and address once for an invoice, with the person it is for."""
    told: set[tuple[int, str, str]] = set()
    for row in _list_addressees(session, invoice_ids):
        for channel in topics.CHANNELS:
            recipient = _find_recipient(row, channel)
            if recipient and (row.invoice_id, channel, recipient) not in told:
                told.add((row.invoice_id, channel, recipient))
                yield row, channel, recipient


def resend(session: Session, invoice_id: int) -> int:
    """Queue the message of an invoice once more, as staff do when asked; how many were queued.

    Raises InvoiceNotFound for what is no invoice.
    """
    kind = session.scalar(select(Invoice.kind).where(Invoice.id == invoice_id))
    if kind != InvoiceKind.INVOICE:
        raise InvoiceNotFound
    return _queue(session, [invoice_id], is_again=True)


def _queue(session: Session, invoice_ids: Sequence[int], *, is_again: bool = False) -> int:
    letters = [_letter(*each, is_again=is_again) for each in _addressed(session, invoice_ids)]
    outbox.queue(session, letters)
    return len(letters)


def _find_recipient(row: Row[Any], channel: Channel) -> str | None:
    """Where a person is told by this channel; None where they do not want it or have no address.

    Who holds the account is reached where the account is; who pays for somebody else's, at their
    own address.
    """
    if not getattr(row, f"by_{channel.value}"):
        return None
    own: str | None = getattr(row, f"own_{channel.value}")
    if channel is Channel.EMAIL:
        own = own or row.email_key
    if row.role == Role.PAYER:
        return own
    of_account: str | None = getattr(row, f"account_{channel.value}")
    return of_account or own


def _letter(row: Row[Any], channel: Channel, recipient: str, *, is_again: bool) -> Letter:
    return Letter(
        KIND,
        recipient,
        row.language,
        account_id=row.account_id,
        customer_id=row.customer_id,
        channel=channel.value,
        facts={
            "amount_minor": row.total_minor,
            "open_minor": row.open_minor,
            "currency": row.currency,
            "due_on": row.due_on.isoformat(),
            "number": row.number,
            "account_number": row.account_number,
            "account": row.account_public_id,
            "invoice": row.public_id,
            "has_autopay": row.has_autopay,
            "is_again": is_again,
        },
    )


def _oldest(kind: ContactKind, whose: ColumnElement[bool]) -> ScalarSelect[str]:
    return (
        select(Contact.value)
        .where(whose, Contact.kind == kind.value, Contact.ended_on.is_(None))
        .order_by(Contact.since_on, Contact.id)
        .limit(1)
        .scalar_subquery()
    )


def _addressees_query() -> Select[*tuple[Any, ...]]:
    wanted: BindParameter[list[int]] = bindparam("invoices", expanding=True)
    # Named here too, else SQLite would make a list of everybody's members first.
    billed = select(Invoice.account_id).where(Invoice.id.in_(wanted))
    members = (
        select(
            Membership.account_id,
            Membership.customer_id,
            Membership.role,
            Customer.language,
            Customer.email_key,
        )
        .join(Customer, Customer.id == Membership.customer_id)
        .where(
            Membership.account_id.in_(billed),
            Membership.role.in_(_TOLD_ROLES),
            Customer.is_disabled.is_(False),
        )
        .subquery()
    )
    has_autopay = (
        select(AutopayMandate.id)
        .where(AutopayMandate.account_id == Invoice.account_id, AutopayMandate.ended_at.is_(None))
        .exists()
    )
    columns: list[ColumnElement[Any]] = []
    for channel, kind in _CONTACTS.items():
        of_account = _oldest(kind, Contact.account_id == Account.id)
        own = _oldest(kind, Contact.customer_id == members.c.customer_id)
        is_wanted = topics.wants(members.c.customer_id, Topic.BILLS, channel)
        columns += [
            of_account.label(f"account_{channel.value}"),
            own.label(f"own_{channel.value}"),
            is_wanted.label(f"by_{channel.value}"),
        ]
    return (
        select(
            Invoice.id.label("invoice_id"),
            Invoice.public_id,
            Invoice.number,
            Invoice.total_minor,
            Invoice.currency,
            Invoice.due_on,
            InvoiceBalance.open_minor,
            Account.id.label("account_id"),
            Account.public_id.label("account_public_id"),
            Account.number.label("account_number"),
            members.c.customer_id,
            members.c.role,
            members.c.email_key,
            func.coalesce(members.c.language, Account.language).label("language"),
            has_autopay.label("has_autopay"),
            *columns,
        )
        .join(InvoiceBalance, InvoiceBalance.invoice_id == Invoice.id)
        .join(Account, Account.id == Invoice.account_id)
        .outerjoin(members, members.c.account_id == Account.id)
        .where(Invoice.id.in_(wanted), Invoice.kind == InvoiceKind.INVOICE.value)
        .order_by(Invoice.id, members.c.customer_id)
    )


_LIST_ADDRESSEES = _addressees_query()


def _list_addressees(session: Session, invoice_ids: Sequence[int]) -> list[Row[Any]]:
    """A row for each invoice and person who is told of it; one without a customer is the holder of
    an account that nobody uses online."""
    rows = session.connection().execute(_LIST_ADDRESSEES, {"invoices": invoice_ids})
    return list(rows.all())
