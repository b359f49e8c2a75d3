"""Issuing invoices: computing what an account owes for a month, and writing it, frozen.

`compute` is pure; `issue` writes any number of drafts in one unit of work: the entries, the
invoices with their lines, and the credit that applies at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.orm import Session

from blueprints.billing import ledger
from core import activity, clock, ids
from core.money import tax_on
from models import (
    Account,
    Contact,
    ContactKind,
    Counter,
    EntryKind,
    Invoice,
    InvoiceBalance,
    InvoiceKind,
    InvoiceLine,
    InvoiceLineKind,
    Plan,
    Subscription,
    Tax,
)


@dataclass(frozen=True, slots=True)
class TaxRule:
    """A tax as it applies on a day: by rate in basis points, or flat per subscription."""

    code: str
    name: str
    rate_bp: int | None
    flat_minor: int | None
    applies_to: tuple[str, ...]
    from_on: date | None
    to_on: date | None

    def applies(self, kind: str, day: date) -> bool:
        return (
            kind in self.applies_to
            and (self.from_on is None or self.from_on <= day)
            and (self.to_on is None or day <= self.to_on)
        )


@dataclass(frozen=True, slots=True)
class BilledSubscription:
    """What an invoice needs to know of a subscription. Prices in minor units, before tax."""

    subscription_id: int
    name: str
    kind: str
    price_minor: int
    intro_price_minor: int | None
    intro_months: int | None
    started_on: date

    def price_on(self, day: date) -> int:
        """The month's price on `day`: the introductory one during the first `intro_months`."""
        if self.intro_price_minor is None or not self.intro_months:
            return self.price_minor
        until = clock.month_step(self.started_on, self.intro_months, self.started_on.day)
        return self.intro_price_minor if day < until else self.price_minor


@dataclass(frozen=True, slots=True)
class DraftLine:
    kind: InvoiceLineKind
    ledger: str
    description: str
    amount_minor: int
    subscription_id: int | None = None
    quantity: int = 1
    rate_bp: int | None = None
    period_from: date | None = None
    period_to: date | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """An invoice before it has a number; `lines` sum to `total_minor`."""

    account_id: int
    kind: InvoiceKind
    issued_on: date
    due_on: date
    period_from: date
    period_to: date
    bill_name: str
    bill_address: tuple[str, ...]
    lines: tuple[DraftLine, ...]
    number: str = ""

    @property
    def total_minor(self) -> int:
        return sum(line.amount_minor for line in self.lines)

    @property
    def tax_minor(self) -> int:
        return sum(line.amount_minor for line in self.lines if line.kind == InvoiceLineKind.TAX)


def compute_lines(
    subscriptions: Sequence[BilledSubscription],
    taxes: Sequence[TaxRule],
    period_from: date,
    period_to: date,
) -> tuple[DraftLine, ...]:
    """The lines of one whole month: a charge per subscription, then a line per tax.

    A rate is taken on the sum of what it applies to and rounded once; a flat fee is multiplied by
    the number of subscriptions it applies to.
    """
    lines = [
        DraftLine(
            InvoiceLineKind.CHARGE,
            f"revenue:{subscription.kind}",
            subscription.name,
            subscription.price_on(period_from),
            subscription_id=subscription.subscription_id,
            period_from=period_from,
            period_to=period_to,
        )
        for subscription in subscriptions
    ]
    for tax in taxes:
        taxed = [item for item in subscriptions if tax.applies(item.kind, period_from)]
        base_minor = sum(item.price_on(period_from) for item in taxed)
        if tax.rate_bp is not None:
            amount_minor, quantity = tax_on(base_minor, tax.rate_bp), 1
        else:
            amount_minor, quantity = (tax.flat_minor or 0) * len(taxed), len(taxed)
        if amount_minor:
            lines.append(
                DraftLine(
                    InvoiceLineKind.TAX,
                    f"tax:{tax.code}",
                    tax.name,
                    amount_minor,
                    quantity=quantity,
                    rate_bp=tax.rate_bp,
                )
            )
    return tuple(line for line in lines if line.amount_minor)


def list_taxes(session: Session) -> list[TaxRule]:
    """Every tax of the catalog, in the order of its code."""
    return [
        TaxRule(
            tax.code,
            tax.name,
            tax.rate_bp,
            tax.flat_minor,
            tuple(tax.applies_to),
            tax.from_on,
            tax.to_on,
        )
        for tax in session.scalars(select(Tax).order_by(Tax.code))
    ]


def list_billed(
    session: Session, account_ids: Sequence[int], day: date
) -> dict[int, list[BilledSubscription]]:
    """The subscriptions in use on `day`, by account, in the order in which they were begun."""
    rows = session.execute(
        select(
            Subscription.account_id,
            Subscription.id,
            Plan.name,
            Plan.kind,
            Plan.price_minor,
            Plan.intro_price_minor,
            Plan.intro_months,
            Subscription.started_on,
        )
        .join(Plan, Plan.id == Subscription.plan_id)
        .where(
            Subscription.account_id.in_(account_ids),
            Subscription.started_on <= day,
            (Subscription.ended_on.is_(None)) | (Subscription.ended_on > day),
        )
        .order_by(Subscription.account_id, Subscription.id)
    )
    found: dict[int, list[BilledSubscription]] = {}
    for row in rows:
        found.setdefault(row.account_id, []).append(
            BilledSubscription(
                row.id,
                row.name,
                row.kind,
                row.price_minor,
                row.intro_price_minor,
                row.intro_months,
                row.started_on,
            )
        )
    return found


def _addresses(session: Session, account_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
    rows = session.execute(
        select(Contact.account_id, Contact.address)
        .where(
            Contact.account_id.in_(account_ids),
            Contact.kind == ContactKind.POSTAL,
            Contact.ended_on.is_(None),
        )
        .order_by(Contact.since_on, Contact.id)
    )
    return {row.account_id or 0: address_lines(row.address or {}) for row in rows}


def address_lines(address: dict[str, str]) -> tuple[str, ...]:
    """A postal address as the lines of an envelope."""
    town = " ".join(
        part
        for part in (
            address.get("city", ""),
            address.get("region", ""),
            address.get("postcode", ""),
        )
        if part
    )
    street = address.get("street", "").split("\n")
    return tuple(
        part.strip() for part in (*street, town, address.get("country", "")) if part.strip()
    )


def draft_months(
    session: Session, account_ids: Sequence[int], issued_on: date, terms_days: int
) -> list[Draft]:
    """One draft for each account whose next whole month begins on or before `issued_on`.

    The month follows `billed_through_on` by a calendar step on the account's bill day. Accounts
    without a subscription in that month are left out.
    """
    accounts = session.execute(
        select(
            Account.id, Account.name, Account.bill_day, Account.billed_through_on, Account.opened_on
        )
        .where(Account.id.in_(account_ids))
        .order_by(Account.id)
    ).all()
    taxes = list_taxes(session)
    addresses = _addresses(session, account_ids)
    starts = {
        row.id: row.billed_through_on + timedelta(days=1)
        if row.billed_through_on
        else row.opened_on
        for row in accounts
    }
    billed: dict[int, list[BilledSubscription]] = {}
    for day in sorted(set(starts.values())):
        billed |= list_billed(session, [key for key, start in starts.items() if start == day], day)
    drafts = []
    for row in accounts:
        period_from = starts[row.id]
        if period_from > issued_on or row.id not in billed:
            continue
        period_to = clock.month_step(period_from, 1, row.bill_day) - timedelta(days=1)
        lines = compute_lines(billed[row.id], taxes, period_from, period_to)
        if not lines:
            continue
        drafts.append(
            Draft(
                row.id,
                InvoiceKind.INVOICE,
                issued_on,
                issued_on + timedelta(days=terms_days),
                period_from,
                period_to,
                row.name,
                addresses.get(row.id, ()),
                lines,
            )
        )
    return drafts


def _take_numbers(session: Session, drafts: Sequence[Draft]) -> list[Draft]:
    """The drafts with gapless numbers of their year. Locks the counters, so it is called last."""
    numbered: list[Draft] = []
    next_by_year: dict[int, int] = {}
    for draft in drafts:
        if draft.number:
            numbered.append(draft)
            continue
        year = draft.issued_on.year
        if year not in next_by_year:
            counter = session.get(Counter, f"invoice:{year}", with_for_update=True)
            if counter is None:
                counter = Counter(name=f"invoice:{year}", next_value=1)
                session.add(counter)
                session.flush()
            next_by_year[year] = counter.next_value
        numbered.append(replace(draft, number=f"{year}-{next_by_year[year]:06d}"))
        next_by_year[year] += 1
    for year, next_value in next_by_year.items():
        session.execute(
            update(Counter).where(Counter.name == f"invoice:{year}").values(next_value=next_value)
        )
    return numbered


def issue(session: Session, drafts: Sequence[Draft], currency: str) -> list[int]:
    """Write the drafts as issued invoices with their entries, and apply the accounts' credit.

    Returns the invoice ids in order. An account's month is invoiced once: a second draft for the
    same account and `period_from` raises IntegrityError. Accounts' `billed_through_on` moves to
    the end of the month, and an event tells of each, except for opening items.
    """
    if not drafts:
        return []
    settled_at = clock.now()
    with_credit = set(
        session.scalars(
            select(Account.id).where(
                Account.id.in_({draft.account_id for draft in drafts}), Account.balance_minor < 0
            )
        )
    )
    numbered = _take_numbers(session, drafts)
    entry_ids = ledger.post(session, [_posting(draft) for draft in numbered], currency)
    connection = session.connection()
    id_of: dict[str, int] = {
        row.number: row.id
        for row in connection.execute(
            insert(Invoice).returning(Invoice.id, Invoice.number),
            [
                {
                    "public_id": ids.public_id(),
                    "number": draft.number,
                    "kind": draft.kind.value,
                    "account_id": draft.account_id,
                    "entry_id": entry_id,
                    "issued_on": draft.issued_on,
                    "due_on": draft.due_on,
                    "period_from": draft.period_from,
                    "period_to": draft.period_to,
                    "bill_name": draft.bill_name,
                    "bill_address": list(draft.bill_address),
                    "total_minor": draft.total_minor,
                    "tax_minor": draft.tax_minor,
                    "currency": currency,
                    "line_count": len(draft.lines),
                }
                for draft, entry_id in zip(numbered, entry_ids, strict=True)
            ],
        )
    }
    invoice_ids = [id_of[draft.number] for draft in numbered]
    connection.execute(
        insert(InvoiceLine),
        [
            {
                "invoice_id": invoice_id,
                "position": position,
                "kind": line.kind.value,
                "ledger": line.ledger,
                "description": line.description,
                "subscription_id": line.subscription_id,
                "quantity": line.quantity,
                "rate_bp": line.rate_bp,
                "amount_minor": line.amount_minor,
                "period_from": line.period_from,
                "period_to": line.period_to,
            }
            for invoice_id, draft in zip(invoice_ids, numbered, strict=True)
            for position, line in enumerate(draft.lines, start=1)
        ],
    )
    connection.execute(
        insert(InvoiceBalance),
        [
            {
                "invoice_id": invoice_id,
                "account_id": draft.account_id,
                "open_minor": draft.total_minor,
                "settled_at": None,
            }
            for invoice_id, draft in zip(invoice_ids, numbered, strict=True)
        ],
    )
    billed = [draft for draft in numbered if draft.kind == InvoiceKind.INVOICE]
    if billed:
        connection.execute(
            update(Account)
            .where(Account.id == bindparam("billed_account"))
            .values(billed_through_on=bindparam("billed_to")),
            [
                {"billed_account": draft.account_id, "billed_to": draft.period_to}
                for draft in billed
            ],
        )
    activity.record(
        session,
        [
            activity.Event(
                "invoice_issued",
                settled_at,
                account_id=draft.account_id,
                facts={"amount_minor": draft.total_minor, "currency": currency},
            )
            for draft in billed
        ],
    )
    if with_credit:
        ledger.allocate(session, ledger.list_unused_credits(session, with_credit), settled_at)
    return invoice_ids


def _posting(draft: Draft) -> ledger.Posting:
    by_ledger: dict[str, int] = {}
    for line in draft.lines:
        by_ledger[line.ledger] = by_ledger.get(line.ledger, 0) - line.amount_minor
    is_opening = draft.kind == InvoiceKind.OPENING
    return ledger.Posting(
        key=f"opening:{draft.number}" if is_opening else f"invoice:{draft.number}",
        kind=EntryKind.OPENING if is_opening else EntryKind.INVOICE,
        account_id=draft.account_id,
        booked_on=draft.issued_on,
        description=f"Invoice {draft.number}",
        lines=((ledger.RECEIVABLE, draft.total_minor), *by_ledger.items()),
    )
