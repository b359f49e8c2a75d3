"""Credits as the pages of staff give them, the lines of an invoice that can be credited, and to
whom an invoice is sent again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.billing import adjusting, bill_messages
from blueprints.billing.crediting import list_creditable
from blueprints.billing.errors import InvoiceNotFound
from blueprints.billing.invoice_pages import InvoiceDetail, get_invoice
from blueprints.staff.money import statement
from blueprints.staff.roles import SIGHT, masked_email, masked_phone
from core import form_keys
from core.data_access import Reader
from core.db import db
from core.form_keys import ArrivedKey
from core.isp import current_isp
from core.money import Money
from core.phones import format_phone
from models import AdjustmentState, Channel, Invoice, InvoiceKind, InvoiceLineKind, StaffRole

_CREDITABLE = (InvoiceLineKind.CHARGE, InvoiceLineKind.OPENING)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an invoice and what is left of it to give back."""

    position: int
    kind: str
    description: str
    amount: Money
    left: Money

    @property
    def can_be_credited(self) -> bool:
        return self.kind in _CREDITABLE and self.left.amount_minor > 0


@dataclass(frozen=True, slots=True)
class Addressee:
    """Where the message of a bill goes; the address as this member of staff may see it."""

    channel: Channel
    shown: str


@dataclass(frozen=True, slots=True)
class InvoicePage:
    head: statement.Head
    invoice: InvoiceDetail
    lines: list[Line]
    limit: Money
    addressees: list[Addressee]


def path_of(public_id: str, done: str) -> str:
    """The account's money page, which says what was done."""
    return f"/staff/accounts/{public_id}/money?done={done}"


def limit() -> Money:
    """Above this a second member of staff approves."""
    isp = current_isp()
    return Money(isp.billing_rules.adjustment_limit_minor, isp.currency)


def give(public_id: str, wish: adjusting.Wish, key: ArrivedKey) -> str:
    """Give a credit or let it wait; the same form twice counts once. Returns where it stands.
    Raises CreditRefused, InvoiceNotFound."""
    current_isp()  # read now: asking within the unit would take a second connection meanwhile

    def work(session: Session) -> str:
        adjustment = adjusting.ask_credit(session, wish)
        is_booked = adjustment.state == AdjustmentState.BOOKED
        return path_of(public_id, "credited" if is_booked else "asked")

    return form_keys.once(key, work, wish.account_id)


def list_lines(account_id: int, invoice_public_id: str) -> tuple[int, list[Line]]:
    """The row of an invoice of the account, and its lines. Raises InvoiceNotFound."""
    session = db.session()
    row = session.execute(
        select(Invoice.id, Invoice.currency, Invoice.kind).where(
            Invoice.account_id == account_id, Invoice.public_id == invoice_public_id
        )
    ).one_or_none()
    if row is None:
        raise InvoiceNotFound
    if row.kind == InvoiceKind.CREDIT_NOTE:
        return row.id, []
    return row.id, [
        Line(
            line.position,
            line.kind,
            line.description,
            Money(line.amount_minor, row.currency),
            Money(line.left_minor, row.currency),
        )
        for line in list_creditable(session, row.id)
    ]


def find_invoice(
    public_id: str, invoice_public_id: str, reader: Reader, role: StaffRole
) -> InvoicePage:
    """An invoice with what is left of its lines; the look is noted. Raises NotFound."""
    sees_all = SIGHT[role].contacts
    head = statement.open_account(public_id, reader, "contacts" if sees_all else "contacts masked")
    invoice = get_invoice(head.account_id, invoice_public_id)
    row_id, lines = list_lines(head.account_id, invoice_public_id)
    recipients = bill_messages.list_recipients(db.session(), row_id)
    addressees = [
        Addressee(channel, _shown(channel, recipient, is_whole=sees_all))
        for channel, recipient in recipients
    ]
    return InvoicePage(head, invoice, lines, limit(), addressees)


def _shown(channel: Channel, recipient: str, *, is_whole: bool) -> str:
    if channel is Channel.EMAIL:
        return recipient if is_whole else masked_email(recipient)
    return format_phone(recipient) if is_whole else masked_phone(recipient)


def send_again(public_id: str, invoice_public_id: str, key: ArrivedKey) -> str:
    """Let the message of an invoice go out once more; the same form twice counts once. Returns
    where it stands. Raises InvoiceNotFound."""
    account_id = statement.find_id(public_id)
    row_id, _lines = list_lines(account_id, invoice_public_id)

    def work(session: Session) -> str:
        done = "sent" if bill_messages.resend(session, row_id) else "nobody"
        return f"/staff/accounts/{public_id}/invoices/{invoice_public_id}?done={done}"

    return form_keys.once(key, work, account_id)


def amounts_of(
    lines: Sequence[Line], position: int | None, amount_minor: int
) -> dict[int, int] | None:
    """What a credit note is to give: all that is left (None), or a part of one line, all of that
    where no amount is named."""
    if position is None:
        return None
    left = {line.position: line.left.amount_minor for line in lines}
    return {position: amount_minor or left[position]}
