"""Credit notes: an invoice, or some of its lines, given back by a document of its own.

An issued invoice is never changed. What a credit note gives settles the invoice that it corrects as
far as that is open; the rest is credit of the account.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.billing.drafting import Draft, DraftLine, list_taxes
from blueprints.billing.errors import CreditRefused, InvoiceNotFound
from core import clock
from core.db import total
from core.money import tax_on
from models import Invoice, InvoiceKind, InvoiceLine, InvoiceLineKind, Isp


@dataclass(frozen=True, slots=True)
class CreditableLine:
    """A line of an invoice and how much of it has not been given back yet, in minor units."""

    position: int
    kind: str
    ledger: str
    description: str
    amount_minor: int
    left_minor: int
    rate_bp: int | None
    subscription_id: int | None
    period_from: date | None
    period_to: date | None


def list_creditable(session: Session, invoice_id: int) -> list[CreditableLine]:
    """The lines of the invoice in order; what credit notes have given back of each is taken off."""
    given = {
        position: int(minor)
        for position, minor in session.execute(
            select(InvoiceLine.corrects_position, total(InvoiceLine.amount_minor))
            .join(Invoice, Invoice.id == InvoiceLine.invoice_id)
            .where(Invoice.corrects_id == invoice_id, Invoice.kind == InvoiceKind.CREDIT_NOTE.value)
            .group_by(InvoiceLine.corrects_position)
        )
    }
    rows = session.execute(
        select(
            InvoiceLine.position,
            InvoiceLine.kind,
            InvoiceLine.ledger,
            InvoiceLine.description,
            InvoiceLine.amount_minor,
            InvoiceLine.rate_bp,
            InvoiceLine.subscription_id,
            InvoiceLine.period_from,
            InvoiceLine.period_to,
        )
        .where(InvoiceLine.invoice_id == invoice_id)
        .order_by(InvoiceLine.position)
    )
    return [
        CreditableLine(
            row.position,
            row.kind,
            row.ledger,
            row.description,
            row.amount_minor,
            row.amount_minor - given.get(row.position, 0),
            row.rate_bp,
            row.subscription_id,
            row.period_from,
            row.period_to,
        )
        for row in rows
    ]


def draft_credit_note(
    session: Session, invoice_id: int, amounts: Mapping[int, int] | None = None
) -> Draft:
    """A credit note over all that is left of an invoice, or over `amounts`: minor units before tax
    by the position of a charge's line. Taxes by rate follow the charges that they were taken on.

    Raises InvoiceNotFound, and CreditRefused when more is to be given back than is left.
    """
    invoice = session.scalars(
        select(Invoice).where(
            Invoice.id == invoice_id, Invoice.kind != InvoiceKind.CREDIT_NOTE.value
        )
    ).one_or_none()
    if invoice is None:
        raise InvoiceNotFound
    lines = list_creditable(session, invoice_id)
    chosen = (
        {line.position: line.left_minor for line in lines}
        if amounts is None
        else _with_taxes(session, lines, amounts, invoice.issued_on)
    )
    drafted = [
        DraftLine(
            InvoiceLineKind(line.kind),
            line.ledger,
            line.description,
            chosen[line.position],
            subscription_id=line.subscription_id,
            period_from=line.period_from,
            period_to=line.period_to,
            rate_bp=line.rate_bp,
            corrects_position=line.position,
        )
        for line in lines
        if chosen.get(line.position)
    ]
    if sum(line.amount_minor for line in drafted) <= 0:
        raise CreditRefused
    today = clock.today(session.scalars(select(Isp.timezone)).one())
    return Draft(
        invoice.account_id,
        InvoiceKind.CREDIT_NOTE,
        today,
        today,
        invoice.period_from,
        invoice.period_to,
        invoice.bill_name,
        tuple(invoice.bill_address),
        tuple(drafted),
        corrects_id=invoice.id,
    )


def _with_taxes(
    session: Session,
    lines: Sequence[CreditableLine],
    amounts: Mapping[int, int],
    issued_on: date,
) -> dict[int, int]:
    by_position = {line.position: line for line in lines}
    chosen: dict[int, int] = {}
    for position, amount_minor in amounts.items():
        line = by_position.get(position)
        if line is None or line.kind not in (InvoiceLineKind.CHARGE, InvoiceLineKind.OPENING):
            raise CreditRefused
        if not 0 < amount_minor <= line.left_minor:
            raise CreditRefused
        chosen[position] = amount_minor
    rules = {f"tax:{rule.code}": rule for rule in list_taxes(session)}
    for line in lines:
        rule = rules.get(line.ledger)
        if line.kind != InvoiceLineKind.TAX or line.rate_bp is None or rule is None:
            continue
        # The line says that the tax was owed there and then; what it has become since, or where the
        # account is by now, does not matter.
        rule = replace(rule, from_on=None, to_on=None, areas=())
        base_minor = sum(
            amount_minor
            for position, amount_minor in chosen.items()
            if rule.applies(by_position[position].ledger.removeprefix("revenue:"), issued_on)
        )
        tax_minor = min(tax_on(base_minor, line.rate_bp), line.left_minor)
        if tax_minor > 0:
            chosen[line.position] = tax_minor
    return chosen
