"""Disputes: opened by a customer about one line, written on by both sides, decided by staff.

While one is open, what it is about rests from dunning. A granted one gives the line back by a
credit note with its taxes; above the limit that waits for a second member of staff.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.orm import Session, aliased

from blueprints.billing import adjusting, telling
from blueprints.billing.crediting import draft_credit_note, list_creditable
from blueprints.billing.disputes.errors import (
    DisputedBefore,
    DisputeNotFound,
    DisputeOver,
    LineNotDisputable,
    WaitsForApproval,
)
from blueprints.billing.dunning import releasing
from blueprints.billing.errors import CreditRefused, InvoiceNotFound
from core import activity, clock, form_keys, ids, revisions, throttle
from core.card_numbers import masked
from core.db import db
from core.form_keys import ArrivedKey
from core.isp import current_isp
from core.money import Money
from models import (
    Account,
    Customer,
    Dispute,
    DisputePost,
    DisputeState,
    Invoice,
    InvoiceKind,
    InvoiceLine,
    InvoiceLineKind,
)

LISTED = 50
WRITES = ((timedelta(hours=1), 15), (timedelta(days=1), 40))
"""How much one customer may write to us."""
_DISPUTABLE = (InvoiceLineKind.CHARGE, InvoiceLineKind.OPENING)


# Reading ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LineChoice:
    """A line that can be disputed. `amount` is what is left of it, before tax."""

    position: int
    description: str
    amount: Money


@dataclass(frozen=True, slots=True)
class DisputeRow:
    account_id: int
    public_id: str
    invoice_number: str
    invoice_public_id: str
    line: str
    amount: Money
    state: str
    created_at: datetime
    account_public_id: str
    account_number: str
    account_name: str
    is_waiting: bool


@dataclass(frozen=True, slots=True)
class PostView:
    author: str
    is_staff: bool
    body: str
    posted_at: datetime


@dataclass(frozen=True, slots=True)
class Thread:
    """A dispute with what was written. `credit_note` is its number once it is granted."""

    row: DisputeRow
    posts: list[PostView]
    credit_note: str | None
    credit_note_public_id: str | None


@dataclass(frozen=True, slots=True)
class OpenPage:
    """What the form of a new dispute offers."""

    invoice_public_id: str
    invoice_number: str
    lines: list[LineChoice]
    disputes: list[DisputeRow]


def find_lines(account_id: int, invoice_public_id: str) -> OpenPage:
    """The lines of an invoice that can be disputed, and its disputes so far. Raises
    InvoiceNotFound."""
    session = db.session()
    row = session.execute(
        select(Invoice.id, Invoice.number, Invoice.currency).where(
            Invoice.account_id == account_id,
            Invoice.public_id == invoice_public_id,
            Invoice.kind != InvoiceKind.CREDIT_NOTE.value,
        )
    ).one_or_none()
    if row is None:
        raise InvoiceNotFound
    lines = [
        LineChoice(line.position, line.description, Money(line.left_minor, row.currency))
        for line in list_creditable(session, row.id)
        if line.kind in _DISPUTABLE and line.left_minor > 0
    ]
    return OpenPage(
        invoice_public_id, row.number, lines, _rows(session, Dispute.invoice_id == row.id)
    )


def list_of_account(account_id: int) -> list[DisputeRow]:
    """The disputes of an account, the newest first."""
    return _rows(db.session(), Dispute.account_id == account_id)


def list_open() -> list[DisputeRow]:
    """Those that staff decide, the oldest first."""
    return _rows(db.session(), Dispute.state == DisputeState.OPEN.value, is_oldest_first=True)


def list_decided() -> list[DisputeRow]:
    """Those that are over, the newest first."""
    return _rows(db.session(), Dispute.state != DisputeState.OPEN.value)


def get(public_id: str, account_id: int | None = None) -> Thread:
    """A dispute, of the account where one is given. Raises DisputeNotFound."""
    session = db.session()
    which = Dispute.public_id == public_id
    if account_id is not None:
        which = and_(which, Dispute.account_id == account_id)
    rows = _rows(session, which)
    if not rows:
        raise DisputeNotFound
    posts = session.execute(
        select(DisputePost.is_staff, DisputePost.body, DisputePost.posted_at, Customer.name)
        .join(Dispute, Dispute.id == DisputePost.dispute_id)
        .outerjoin(Customer, Customer.id == DisputePost.author_id)
        .where(Dispute.public_id == public_id)
        .order_by(DisputePost.id)
    )
    note = session.execute(
        select(Invoice.number, Invoice.public_id)
        .join(Dispute, Dispute.credit_note_id == Invoice.id)
        .where(Dispute.public_id == public_id)
    ).one_or_none()
    return Thread(
        rows[0],
        [PostView(post.name or "", post.is_staff, post.body, post.posted_at) for post in posts],
        note.number if note is not None else None,
        note.public_id if note is not None else None,
    )


def account_of(public_id: str) -> int:
    """Raises DisputeNotFound."""
    found = db.session.scalar(select(Dispute.account_id).where(Dispute.public_id == public_id))
    if found is None:
        raise DisputeNotFound
    return found


def _rows(
    session: Session, which: ColumnElement[bool], *, is_oldest_first: bool = False
) -> list[DisputeRow]:
    line = aliased(InvoiceLine)
    rows = session.execute(
        select(
            Dispute.account_id,
            Dispute.public_id,
            Invoice.number,
            Invoice.public_id.label("invoice_public_id"),
            line.description,
            Dispute.amount_minor,
            Invoice.currency,
            Dispute.state,
            Dispute.created_at,
            Dispute.adjustment_id,
            Account.public_id.label("account_public_id"),
            Account.number.label("account_number"),
            Account.name,
        )
        .join(Invoice, Invoice.id == Dispute.invoice_id)
        .join(Account, Account.id == Dispute.account_id)
        .join(line, and_(line.invoice_id == Dispute.invoice_id, line.position == Dispute.position))
        .where(which)
        .order_by(Dispute.id if is_oldest_first else Dispute.id.desc())
        .limit(LISTED)
    )
    return [
        DisputeRow(
            row.account_id,
            row.public_id,
            row.number,
            row.invoice_public_id,
            row.description,
            Money(row.amount_minor, row.currency),
            row.state,
            row.created_at,
            row.account_public_id,
            row.account_number,
            row.name,
            row.state == DisputeState.OPEN and row.adjustment_id is not None,
        )
        for row in rows
    ]


# The customer's part --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes: a customer, or a member of staff."""

    customer_id: int
    is_staff: bool = False


def open_dispute(
    account_id: int,
    invoice_public_id: str,
    position: int,
    text: str,
    customer_id: int,
    key: ArrivedKey,
    path: str,
    secret: bytes,
) -> str:
    """Dispute a line, with the first post; the same form twice counts once. Returns `path` with the
    dispute's public id for `{id}`. Raises InvoiceNotFound, LineNotDisputable, DisputedBefore,
    TooManyAttempts."""
    today = clock.today(current_isp().timezone)

    def work(session: Session) -> str:
        invoice_id = session.scalar(
            select(Invoice.id).where(
                Invoice.account_id == account_id,
                Invoice.public_id == invoice_public_id,
                Invoice.kind != InvoiceKind.CREDIT_NOTE.value,
            )
        )
        if invoice_id is None:
            raise InvoiceNotFound
        standing = session.scalar(
            select(Dispute.public_id).where(
                Dispute.invoice_id == invoice_id,
                Dispute.position == position,
                Dispute.state == DisputeState.OPEN.value,
            )
        )
        if standing is not None:
            raise DisputedBefore(standing)
        dispute = Dispute(
            public_id=ids.public_id(),
            account_id=account_id,
            customer_id=customer_id,
            invoice_id=invoice_id,
            position=position,
            amount_minor=_worth_minor(session, invoice_id, position),
            state=DisputeState.OPEN.value,
            created_at=clock.now(),
        )
        session.add(dispute)
        session.flush()
        _count(session, secret, customer_id)
        _write(session, dispute, Writer(customer_id), text)
        _tell(session, dispute, "dispute_opened")
        # What is disputed rests: a line may have been held for nothing else.
        releasing.lift_unpaid(session, [account_id], today)
        return path.format(id=dispute.public_id)

    return form_keys.once(key, work, account_id)


def _worth_minor(session: Session, invoice_id: int, position: int) -> int:
    """What giving back the line would give, taxes included. Raises LineNotDisputable."""
    try:
        return draft_credit_note(
            session, invoice_id, _all_of(session, invoice_id, position)
        ).total_minor
    except CreditRefused:
        raise LineNotDisputable from None


def _all_of(session: Session, invoice_id: int, position: int) -> dict[int, int]:
    """All that is left of a line. Raises LineNotDisputable."""
    for line in list_creditable(session, invoice_id):
        if line.position == position and line.kind in _DISPUTABLE and line.left_minor > 0:
            return {position: line.left_minor}
    raise LineNotDisputable


def write(
    account_id: int,
    public_id: str,
    text: str,
    writer: Writer,
    key: ArrivedKey,
    path: str,
    secret: bytes,
) -> str:
    """Add a post to an open dispute; the same form twice counts once. Returns `path`. Raises
    DisputeNotFound, DisputeOver, TooManyAttempts."""

    def work(session: Session) -> str:
        dispute = _take_open(session, account_id, public_id)
        if not writer.is_staff:
            _count(session, secret, writer.customer_id)
        _write(session, dispute, writer, text)
        if writer.is_staff:
            _tell(session, dispute, "dispute_answered")
            telling.tell_of_dispute(session, dispute, "answered")
        revisions.raise_account(session, account_id)
        return path

    return form_keys.once(key, work, account_id)


def withdraw(account_id: int, public_id: str, key: ArrivedKey, path: str) -> str:
    """End a dispute as the customer wishes. Returns `path`. Raises DisputeNotFound, DisputeOver,
    and WaitsForApproval when it is all but granted."""

    def work(session: Session) -> str:
        dispute = _take_open(session, account_id, public_id)
        if dispute.adjustment_id is not None:
            raise WaitsForApproval
        dispute.state = DisputeState.WITHDRAWN.value
        dispute.ended_at = clock.now()
        _tell(session, dispute, "dispute_withdrawn")
        return path

    return form_keys.once(key, work, account_id)


# The part of staff ----------------------------------------------------------------------------


def grant(public_id: str, text: str, staff_id: int, key: ArrivedKey, path: str) -> str:
    """Give the disputed line back by a credit note, or above the limit let that wait for a second
    member of staff, with a post that says so. Returns `path`. Raises DisputeNotFound, DisputeOver,
    WaitsForApproval, LineNotDisputable."""
    account_id = account_of(public_id)
    current_isp()  # read now: asking within the unit would take a second connection meanwhile

    def work(session: Session) -> str:
        dispute = _take_open(session, account_id, public_id)
        if dispute.adjustment_id is not None:
            raise WaitsForApproval
        dispute.decided_by_id = staff_id
        _write(session, dispute, Writer(staff_id, is_staff=True), text)
        wish = adjusting.Wish(
            account_id,
            masked(text)[:300],
            staff_id,
            key.intent,
            invoice_id=dispute.invoice_id,
            amounts=_all_of(session, dispute.invoice_id, dispute.position),
        )
        adjusting.ask_credit(session, wish, dispute)
        return path

    return form_keys.once(key, work, account_id)


def refuse(public_id: str, text: str, staff_id: int, key: ArrivedKey, path: str) -> str:
    """Say no, with a post that says why. Returns `path`. Raises DisputeNotFound, DisputeOver,
    WaitsForApproval."""
    account_id = account_of(public_id)

    def work(session: Session) -> str:
        dispute = _take_open(session, account_id, public_id)
        if dispute.adjustment_id is not None:
            raise WaitsForApproval
        _write(session, dispute, Writer(staff_id, is_staff=True), text)
        dispute.state = DisputeState.REFUSED.value
        dispute.decided_by_id = staff_id
        dispute.ended_at = clock.now()
        _tell(session, dispute, "dispute_refused")
        telling.tell_of_dispute(session, dispute, "refused")
        return path

    return form_keys.once(key, work, account_id)


def _take_open(session: Session, account_id: int, public_id: str) -> Dispute:
    dispute = session.scalars(
        select(Dispute).where(Dispute.account_id == account_id, Dispute.public_id == public_id)
    ).one_or_none()
    if dispute is None:
        raise DisputeNotFound
    if dispute.state != DisputeState.OPEN:
        raise DisputeOver
    return dispute


def _count(session: Session, secret: bytes, customer_id: int) -> None:
    subject = throttle.subject_of(secret, f"\0disputes {customer_id}")
    throttle.count_within(session, subject, WRITES)


def _write(session: Session, dispute: Dispute, writer: Writer, text: str) -> None:
    session.add(
        DisputePost(
            dispute_id=dispute.id,
            author_id=writer.customer_id,
            is_staff=writer.is_staff,
            body=masked(text),
            posted_at=clock.now(),
        )
    )
    session.flush()


def _tell(session: Session, dispute: Dispute, kind: str) -> None:
    """Let the account's people read in their activity that something happened."""
    session.flush()
    activity.record(session, [activity.Event(kind, clock.now(), dispute.account_id)])
    revisions.raise_account(session, dispute.account_id)
