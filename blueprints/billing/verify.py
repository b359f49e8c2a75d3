"""Checking that the books add up. Reads everything, writes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import case, func, inspect, or_, select
from sqlalchemy.orm import Session

from blueprints.billing.adjusting import LEDGER as ADJUSTMENT
from blueprints.billing.booking import BANK, CASH, CHEQUE, COUNTER, VOUCHER
from blueprints.billing.ledger import RECEIVABLE
from blueprints.billing.transfers import LEDGER as TRANSFER
from core.db import total
from models import (
    COMES_AGAIN,
    Account,
    Adjustment,
    AdjustmentState,
    Allocation,
    BankLine,
    Counter,
    Dispute,
    DisputeState,
    EntryKind,
    Invoice,
    InvoiceBalance,
    InvoiceKind,
    InvoiceLine,
    JournalEntry,
    JournalLine,
    Payment,
    PaymentReversal,
    PaymentState,
    ReversalState,
    Voucher,
    VoucherBatch,
)

_SHOWN = 20


def find_faults(session: Session) -> Iterator[str]:
    """A sentence for each row that does not add up, at most twenty of each kind."""
    for check in (
        _entries_sum_to_zero,
        _currencies_sum_to_zero,
        _balances_equal_lines,
        _invoices_equal_lines,
        _open_amounts_equal_allocations,
        _credits_not_overused,
        _balance_is_open_less_credit,
        _payments_have_one_entry,
        _payment_entries_have_a_payment,
        _transfers_sum_to_zero,
        _invoices_equal_entries,
        _allocations_stay_on_their_account,
        _numbers_have_no_gap,
    ):
        yield from check(session)
    # A backup may be of a release before, which knew of none.
    if inspect(session.connection()).has_table(PaymentReversal.__tablename__):
        yield from _money_without_gateway_is_what_it_came_as(session)
        yield from _adjustments_equal_entries(session)
        yield from _granted_disputes_gave_credit(session)
        yield from _reversals_have_one_entry(session)
        yield from _reversal_entries_have_a_reversal(session)


def _entries_sum_to_zero(session: Session) -> Iterator[str]:
    rows = session.execute(
        select(
            JournalEntry.key,
            func.count(JournalLine.position),
            total(JournalLine.amount_minor),
            JournalEntry.line_count,
        )
        .outerjoin(JournalLine, JournalLine.entry_id == JournalEntry.id)
        .group_by(JournalEntry.id)
        .having(
            or_(
                total(JournalLine.amount_minor) != 0,
                func.count(JournalLine.position) != JournalEntry.line_count,
            )
        )
        .limit(_SHOWN)
    )
    for key, count, sum_minor, wanted in rows:
        yield f"entry {key}: {count} of {wanted} lines, sum {sum_minor}, it must be 0"


def _currencies_sum_to_zero(session: Session) -> Iterator[str]:
    rows = session.execute(
        select(JournalLine.currency, total(JournalLine.amount_minor))
        .group_by(JournalLine.currency)
        .having(total(JournalLine.amount_minor) != 0)
    )
    for currency, sum_minor in rows:
        yield f"currency {currency}: all lines sum to {sum_minor}, it must be 0"


def _balances_equal_lines(session: Session) -> Iterator[str]:
    lines_minor = total(JournalLine.amount_minor)
    rows = session.execute(
        select(Account.number, Account.balance_minor, lines_minor)
        .outerjoin(JournalLine, JournalLine.account_id == Account.id)
        .group_by(Account.id)
        .having(Account.balance_minor != lines_minor)
        .limit(_SHOWN)
    )
    for number, balance, lines in rows:
        yield f"account {number}: balance {balance}, its lines sum to {lines}"


def _invoices_equal_lines(session: Session) -> Iterator[str]:
    lines_minor = total(InvoiceLine.amount_minor)
    rows = session.execute(
        select(Invoice.number, Invoice.total_minor, lines_minor)
        .outerjoin(InvoiceLine, InvoiceLine.invoice_id == Invoice.id)
        .group_by(Invoice.id)
        .having(
            or_(
                Invoice.total_minor != lines_minor,
                Invoice.line_count != func.count(InvoiceLine.position),
            )
        )
        .limit(_SHOWN)
    )
    for number, wanted, lines in rows:
        yield f"invoice {number}: total {wanted}, its lines sum to {lines}"


def _open_amounts_equal_allocations(session: Session) -> Iterator[str]:
    paid = total(Allocation.amount_minor)
    rows = session.execute(
        select(Invoice.number, InvoiceBalance.open_minor, Invoice.total_minor - paid)
        .outerjoin(InvoiceBalance, InvoiceBalance.invoice_id == Invoice.id)
        .outerjoin(Allocation, Allocation.invoice_id == Invoice.id)
        .where(Invoice.kind != InvoiceKind.CREDIT_NOTE.value)
        .group_by(Invoice.id, InvoiceBalance.invoice_id)
        .having(func.coalesce(InvoiceBalance.open_minor, -1) != Invoice.total_minor - paid)
        .limit(_SHOWN)
    )
    for number, kept, computed in rows:
        yield f"invoice {number}: open {kept}, computed {computed}"


def _credits_not_overused(session: Session) -> Iterator[str]:
    """A credit settles at most what it is worth; what takes credit back opens at most that."""
    credit = (
        select(JournalLine.entry_id, (-total(JournalLine.amount_minor)).label("credit_minor"))
        .where(JournalLine.ledger == RECEIVABLE)
        .group_by(JournalLine.entry_id)
        .subquery()
    )
    rows = session.execute(
        select(JournalEntry.key, total(Allocation.amount_minor), credit.c.credit_minor)
        .join(JournalEntry, JournalEntry.id == Allocation.entry_id)
        .join(credit, credit.c.entry_id == Allocation.entry_id)
        .group_by(JournalEntry.id, credit.c.credit_minor)
        .having(
            or_(
                total(Allocation.amount_minor)
                > case((credit.c.credit_minor > 0, credit.c.credit_minor), else_=0),
                total(Allocation.amount_minor)
                < case((credit.c.credit_minor < 0, credit.c.credit_minor), else_=0),
            )
        )
        .limit(_SHOWN)
    )
    for key, used, available in rows:
        yield f"entry {key}: settles {used}, it is worth {available}"


def _balance_is_open_less_credit(session: Session) -> Iterator[str]:
    """What is owed and credit not used never stand side by side on an account, and what is owed
    is open on invoices, but for what was taken back and had no invoice to open."""
    debits = (
        select(JournalLine.account_id, total(JournalLine.amount_minor).label("minor"))
        .join(JournalEntry, JournalEntry.id == JournalLine.entry_id)
        .where(
            JournalLine.ledger == RECEIVABLE,
            JournalLine.amount_minor > 0,
            JournalEntry.kind.not_in((EntryKind.INVOICE.value, EntryKind.OPENING.value)),
        )
        .group_by(JournalLine.account_id)
        .subquery()
    )
    reopened = (
        select(JournalEntry.account_id, total(Allocation.amount_minor).label("minor"))
        .join(Allocation, Allocation.entry_id == JournalEntry.id)
        .where(Allocation.amount_minor < 0)
        .group_by(JournalEntry.account_id)
        .subquery()
    )
    opened = (
        select(InvoiceBalance.account_id, total(InvoiceBalance.open_minor).label("minor"))
        .group_by(InvoiceBalance.account_id)
        .subquery()
    )
    open_minor = func.coalesce(opened.c.minor, 0)
    beside_minor = func.coalesce(debits.c.minor, 0) + func.coalesce(reopened.c.minor, 0)
    owed_minor = case((Account.balance_minor > 0, Account.balance_minor), else_=0)
    rows = session.execute(
        select(Account.number, Account.balance_minor, open_minor)
        .outerjoin(opened, opened.c.account_id == Account.id)
        .outerjoin(debits, debits.c.account_id == Account.id)
        .outerjoin(reopened, reopened.c.account_id == Account.id)
        .where(or_(open_minor > owed_minor, open_minor < owed_minor - beside_minor))
        .limit(_SHOWN)
    )
    for number, balance, open_amount in rows:
        yield f"account {number}: balance {balance}, open invoices {open_amount}"


def _payments_have_one_entry(session: Session) -> Iterator[str]:
    rows = session.execute(
        select(Payment.public_id, Payment.state, Payment.amount_minor, JournalLine.amount_minor)
        .outerjoin(JournalEntry, JournalEntry.key == "payment:" + Payment.public_id)
        .outerjoin(
            JournalLine,
            (JournalLine.entry_id == JournalEntry.id) & (JournalLine.ledger == RECEIVABLE),
        )
        .where(
            or_(
                (Payment.state == PaymentState.SUCCEEDED.value)
                & or_(
                    JournalEntry.id.is_(None),
                    JournalEntry.id != Payment.entry_id,
                    JournalLine.amount_minor != -Payment.amount_minor,
                ),
                (Payment.state != PaymentState.SUCCEEDED.value) & JournalEntry.id.is_not(None),
            )
        )
        .limit(_SHOWN)
    )
    for public_id, state, wanted, found in rows:
        yield f"payment {public_id} ({state}): {wanted}, its entry says {found}"


def _payment_entries_have_a_payment(session: Session) -> Iterator[str]:
    rows = session.scalars(
        select(JournalEntry.key)
        .outerjoin(Payment, Payment.entry_id == JournalEntry.id)
        .where(JournalEntry.kind == EntryKind.PAYMENT.value, Payment.id.is_(None))
        .limit(_SHOWN)
    )
    for key in rows:
        yield f"entry {key}: no payment belongs to it"


def _reversals_have_one_entry(session: Session) -> Iterator[str]:
    comes_again = PaymentReversal.kind.in_([kind.value for kind in COMES_AGAIN])
    minor = PaymentReversal.amount_minor
    wanted_minor = case((comes_again, -minor), else_=minor)
    rows = session.execute(
        select(PaymentReversal.public_id, wanted_minor, JournalLine.amount_minor)
        .outerjoin(JournalEntry, JournalEntry.key == "reversal:" + PaymentReversal.public_id)
        .outerjoin(
            JournalLine,
            (JournalLine.entry_id == JournalEntry.id) & (JournalLine.ledger == RECEIVABLE),
        )
        .where(
            or_(
                (PaymentReversal.state == ReversalState.SUCCEEDED.value)
                & or_(
                    JournalEntry.id.is_(None),
                    JournalEntry.id != PaymentReversal.entry_id,
                    JournalLine.amount_minor != wanted_minor,
                ),
                (PaymentReversal.state != ReversalState.SUCCEEDED.value)
                & JournalEntry.id.is_not(None),
            )
        )
        .limit(_SHOWN)
    )
    for public_id, wanted, found in rows:
        yield f"reversal {public_id}: {wanted}, its entry says {found}"


def _reversal_entries_have_a_reversal(session: Session) -> Iterator[str]:
    rows = session.scalars(
        select(JournalEntry.key)
        .outerjoin(PaymentReversal, PaymentReversal.entry_id == JournalEntry.id)
        .where(JournalEntry.key.startswith("reversal:"), PaymentReversal.id.is_(None))
        .limit(_SHOWN)
    )
    for key in rows:
        yield f"entry {key}: no refund, chargeback or return belongs to it"


def _money_without_gateway_is_what_it_came_as(session: Session) -> Iterator[str]:
    """Who took it, the voucher that was redeemed, the line of the bank's file: each says the same
    amount, and the books hold it under its own name."""
    ledger = case(
        (Payment.gateway == COUNTER, Payment.method),
        (Payment.gateway.in_((BANK, VOUCHER)), Payment.gateway),
        else_="gateway:" + Payment.gateway,
    )
    rows = session.execute(
        select(Payment.public_id, Payment.gateway, JournalLine.ledger)
        .join(
            JournalLine,
            (JournalLine.entry_id == Payment.entry_id) & JournalLine.account_id.is_(None),
        )
        .where(JournalLine.ledger != ledger)
        .limit(_SHOWN)
    )
    for public_id, gateway, found in rows:
        yield f"payment {public_id} ({gateway}): its entry says {found}"
    rows = session.execute(
        select(Payment.public_id, Payment.gateway, Payment.amount_minor)
        .outerjoin(Voucher, Voucher.payment_id == Payment.id)
        .outerjoin(VoucherBatch, VoucherBatch.id == Voucher.batch_id)
        .outerjoin(BankLine, BankLine.payment_id == Payment.id)
        .where(
            or_(
                (Payment.gateway == COUNTER)
                & or_(Payment.taken_by_id.is_(None), Payment.method.not_in((CASH, CHEQUE))),
                (Payment.gateway == VOUCHER)
                & (func.coalesce(VoucherBatch.amount_minor, 0) != Payment.amount_minor),
                (Payment.gateway == BANK)
                & (func.coalesce(BankLine.amount_minor, 0) != Payment.amount_minor),
            )
        )
        .limit(_SHOWN)
    )
    for public_id, gateway, minor in rows:
        yield f"payment {public_id} ({gateway}): nothing says where its {minor} came from"


def _adjustments_equal_entries(session: Session) -> Iterator[str]:
    minor = Adjustment.amount_minor
    owed_minor = case((Adjustment.is_credit, -minor), else_=minor)
    rows = session.execute(
        select(Adjustment.public_id, Adjustment.amount_minor, JournalLine.amount_minor)
        .join(
            JournalLine,
            (JournalLine.entry_id == Adjustment.entry_id)
            & (JournalLine.account_id == Adjustment.account_id),
            isouter=True,
        )
        .where(
            Adjustment.state == AdjustmentState.BOOKED.value,
            func.coalesce(JournalLine.amount_minor, 0) != owed_minor,
        )
        .limit(_SHOWN)
    )
    for public_id, wanted, found in rows:
        yield f"adjustment {public_id}: {wanted}, its entry says {found}"
    keys = session.scalars(
        select(JournalEntry.key)
        .join(JournalLine, JournalLine.entry_id == JournalEntry.id)
        .outerjoin(Adjustment, Adjustment.entry_id == JournalEntry.id)
        .where(JournalLine.ledger == ADJUSTMENT, Adjustment.id.is_(None))
        .limit(_SHOWN)
    )
    for key in keys:
        yield f"entry {key}: no adjustment belongs to it"


def _transfers_sum_to_zero(session: Session) -> Iterator[str]:
    """What leaves one account by moving credit arrives at another."""
    for (minor,) in session.execute(
        select(total(JournalLine.amount_minor)).where(JournalLine.ledger == TRANSFER)
    ):
        if minor:
            yield f"moved credit sums to {minor}"


def _granted_disputes_gave_credit(session: Session) -> Iterator[str]:
    is_granted = Dispute.state == DisputeState.GRANTED.value
    rows = session.scalars(
        select(Dispute.public_id)
        .outerjoin(Invoice, Invoice.id == Dispute.credit_note_id)
        .where(
            or_(
                is_granted & (func.coalesce(Invoice.corrects_id, 0) != Dispute.invoice_id),
                ~is_granted & Dispute.credit_note_id.is_not(None),
            )
        )
        .limit(_SHOWN)
    )
    for public_id in rows:
        yield f"dispute {public_id}: its credit note is not what its state says"


def _invoices_equal_entries(session: Session) -> Iterator[str]:
    """What an invoice asks for is what its entry makes the account owe, and what a credit note
    gives is what its entry gives."""
    is_credit = Invoice.kind == InvoiceKind.CREDIT_NOTE.value
    entry_minor = func.coalesce(JournalLine.amount_minor, 0)
    booked_minor = case((is_credit, -entry_minor), else_=entry_minor)
    rows = session.execute(
        select(Invoice.number, Invoice.total_minor, booked_minor)
        .outerjoin(
            JournalLine,
            (JournalLine.entry_id == Invoice.entry_id)
            & (JournalLine.account_id == Invoice.account_id),
        )
        .where(booked_minor != Invoice.total_minor)
        .limit(_SHOWN)
    )
    for number, wanted, booked in rows:
        yield f"invoice {number}: total {wanted}, its entry says {booked}"


def _allocations_stay_on_their_account(session: Session) -> Iterator[str]:
    rows = session.execute(
        select(JournalEntry.key, Invoice.number)
        .join(Allocation, Allocation.entry_id == JournalEntry.id)
        .join(Invoice, Invoice.id == Allocation.invoice_id)
        .where(JournalEntry.account_id != Invoice.account_id)
        .limit(_SHOWN)
    )
    for key, number in rows:
        yield f"entry {key}: settles invoice {number} of another account"


def _numbers_have_no_gap(session: Session) -> Iterator[str]:
    """The counter of a year has given out as many numbers as there are documents of its kind."""
    for series, kind, start in (
        ("invoice", InvoiceKind.INVOICE, 1),
        ("credit_note", InvoiceKind.CREDIT_NOTE, len("CN-") + 1),
    ):
        given_out = {
            name.removeprefix(f"{series}:"): next_value - 1
            for name, next_value in session.execute(
                select(Counter.name, Counter.next_value).where(
                    Counter.name.startswith(f"{series}:")
                )
            )
        }
        year = func.substr(Invoice.number, start, 4)
        rows = session.execute(
            select(year, func.count())
            .where(Invoice.kind == kind.value)
            .group_by(year)
            .order_by(year)
        )
        found = {name: int(count) for name, count in rows}
        for name in sorted(given_out.keys() | found.keys()):
            given, count = given_out.get(name, 0), found.get(name, 0)
            if given != count:
                words = series.replace("_", " ")
                yield f"{words}s of {name}: {count}, and {given} numbers were given out"
