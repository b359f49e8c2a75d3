"""What staff give or charge beside bills: a credit at once, a credit note over an invoice, a
one-off charge that joins the next bill.

A credit above the ISP's limit waits until a second member of staff approves it. What the same
member gave the account within a day counts with it, so that no sum goes out in slices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from blueprints.billing import invoicing, ledger, telling
from blueprints.billing.crediting import draft_credit_note
from blueprints.billing.dunning import releasing
from blueprints.billing.errors import (
    CreditRefused,
    DecidedBefore,
    InvoiceNotFound,
    SamePerson,
)
from core import activity, clock, ids, revisions
from core.db import db, total, unit_of_work
from core.errors import NotFound
from core.isp import current_isp
from models import (
    Adjustment,
    AdjustmentState,
    Charge,
    Dispute,
    DisputeState,
    EntryKind,
    Invoice,
)

LEDGER = "adjustment"
MAXIMUM_MINOR = 10_000_000
WITHIN = timedelta(days=1)
"""What one member of staff gives an account within this counts together."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A credit that a member of staff wants to give. With `invoice_id` it is a credit note over all
    that is left of the invoice, or over `amounts`: minor units before tax by position."""

    account_id: int
    reason: str
    asked_by_id: int
    key: str
    amount_minor: int = 0
    invoice_id: int | None = None
    amounts: Mapping[int, int] | None = None


def ask_credit(session: Session, wish: Wish, dispute: Dispute | None = None) -> Adjustment:
    """Give the credit, or, above the limit, let it wait for a second member of staff; within the
    running unit of work over the account. With it the `dispute` that it answers is granted.
    Raises CreditRefused, InvoiceNotFound."""
    amount_minor = wish.amount_minor
    if wish.invoice_id is not None:
        draft = draft_credit_note(session, wish.invoice_id, wish.amounts)
        if draft.account_id != wish.account_id:
            raise InvoiceNotFound
        amount_minor = draft.total_minor
    if not 0 < amount_minor <= MAXIMUM_MINOR:
        raise CreditRefused
    alone_minor = _given_alone_minor(session, wish.account_id, wish.asked_by_id)
    adjustment = Adjustment(
        public_id=ids.public_id(),
        key=wish.key,
        account_id=wish.account_id,
        is_credit=True,
        amount_minor=amount_minor,
        reason=wish.reason,
        state=AdjustmentState.ASKED.value,
        asked_by_id=wish.asked_by_id,
        invoice_id=wish.invoice_id,
        amounts=None
        if wish.amounts is None
        else {str(position): minor for position, minor in wish.amounts.items()},
        created_at=clock.now(),
    )
    session.add(adjustment)
    session.flush()
    if dispute is not None:
        dispute.adjustment_id = adjustment.id
        session.flush()
    if alone_minor + amount_minor <= current_isp().billing_rules.adjustment_limit_minor:
        _book(session, adjustment)
    return adjustment


def _given_alone_minor(session: Session, account_id: int, staff_id: int) -> int:
    """What this member of staff gave the account within a day without a second one."""
    return int(
        session.execute(
            select(total(Adjustment.amount_minor)).where(
                Adjustment.account_id == account_id,
                Adjustment.created_at > clock.now() - WITHIN,
                Adjustment.is_credit,
                Adjustment.asked_by_id == staff_id,
                Adjustment.approved_by_id.is_(None),
                Adjustment.state == AdjustmentState.BOOKED.value,
            )
        ).scalar_one()
    )


def approve(public_id: str, staff_id: int) -> None:
    """Give a credit that waits; by the same person again it stays given. Raises NotFound,
    SamePerson, DecidedBefore, and CreditRefused when so much is not left of the invoice any more.
    """
    current_isp()  # read now: asking within the unit would take a second connection meanwhile

    def work(session: Session) -> None:
        adjustment = _take_waiting(session, public_id, (AdjustmentState.BOOKED, staff_id))
        if adjustment.state != AdjustmentState.ASKED:
            return
        if adjustment.asked_by_id == staff_id:
            raise SamePerson
        adjustment.approved_by_id = staff_id
        _book(session, adjustment)

    unit_of_work(work, _account_of(public_id))


def refuse(public_id: str, staff_id: int) -> None:
    """Do not give a credit that waits; whoever asked for it may take it back so. A dispute that it
    was for is open again. Raises NotFound, DecidedBefore."""

    def work(session: Session) -> None:
        adjustment = _take_waiting(session, public_id, (AdjustmentState.REFUSED, staff_id))
        if adjustment.state != AdjustmentState.ASKED:
            return
        adjustment.state = AdjustmentState.REFUSED.value
        adjustment.ended_at = clock.now()
        if adjustment.asked_by_id != staff_id:
            adjustment.approved_by_id = staff_id
        session.execute(
            update(Dispute).where(Dispute.adjustment_id == adjustment.id).values(adjustment_id=None)
        )

    unit_of_work(work, _account_of(public_id))


def _account_of(public_id: str) -> int:
    found = db.session.scalar(
        select(Adjustment.account_id).where(Adjustment.public_id == public_id)
    )
    if found is None:
        raise NotFound
    return found


def _take_waiting(
    session: Session, public_id: str, decision: tuple[AdjustmentState, int]
) -> Adjustment:
    """The credit that waits, or one about which the same person has made the same `decision`."""
    adjustment = session.scalars(
        select(Adjustment).where(Adjustment.public_id == public_id).with_for_update()
    ).one()
    decided = (adjustment.state, adjustment.approved_by_id or adjustment.asked_by_id)
    if adjustment.state != AdjustmentState.ASKED and decided != decision:
        raise DecidedBefore
    return adjustment


def _book(session: Session, adjustment: Adjustment) -> None:
    """Write the entry of a credit, settle what it settles and tell the account."""
    now = clock.now()
    isp = current_isp()
    today = clock.day_of(now, isp.timezone)
    if adjustment.invoice_id is not None:
        adjustment.entry_id = _issue_credit_note(session, adjustment, isp.currency)
    else:
        [adjustment.entry_id] = ledger.post(
            session,
            [
                ledger.Posting(
                    key=f"adjustment:{adjustment.public_id}",
                    kind=EntryKind.ADJUSTMENT,
                    account_id=adjustment.account_id,
                    booked_on=today,
                    description="Credit",
                    lines=(
                        (LEDGER, adjustment.amount_minor),
                        (ledger.RECEIVABLE, -adjustment.amount_minor),
                    ),
                )
            ],
            isp.currency,
        )
        credit = ledger.Credit(adjustment.account_id, adjustment.entry_id, adjustment.amount_minor)
        ledger.allocate(session, [credit], now)
        facts = {"amount_minor": adjustment.amount_minor, "currency": isp.currency}
        activity.record(
            session, [activity.Event("credit_given", now, adjustment.account_id, facts=facts)]
        )
    adjustment.state = AdjustmentState.BOOKED.value
    adjustment.ended_at = now
    session.flush()
    releasing.lift_unpaid(session, [adjustment.account_id], today)


def _issue_credit_note(session: Session, adjustment: Adjustment, currency: str) -> int:
    amounts = adjustment.amounts
    draft = draft_credit_note(
        session,
        adjustment.invoice_id or 0,
        None if amounts is None else {int(place): minor for place, minor in amounts.items()},
    )
    if draft.total_minor != adjustment.amount_minor:
        raise CreditRefused  # what was approved is another sum: some of it was given back since
    [credit_note_id] = invoicing.issue(session, [draft], currency)
    dispute = session.scalars(
        select(Dispute).where(Dispute.adjustment_id == adjustment.id)
    ).one_or_none()
    if dispute is not None:
        dispute.state = DisputeState.GRANTED.value
        dispute.credit_note_id = credit_note_id
        dispute.ended_at = clock.now()
        session.flush()
        event = activity.Event("dispute_granted", clock.now(), adjustment.account_id)
        activity.record(session, [event])
        telling.tell_of_dispute(session, dispute, "granted")
    entry_id = session.scalar(select(Invoice.entry_id).where(Invoice.id == credit_note_id))
    if entry_id is None:
        raise CreditRefused
    return entry_id


# One-off charges ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NewCharge:
    """A one-off charge; `kind` is the kind of plan whose taxes apply, empty for none."""

    account_id: int
    amount_minor: int
    description: str
    reason: str
    kind: str
    added_by_id: int | None


def add_charge(session: Session, new: NewCharge) -> str:
    """Let a charge join the account's next bill, within the running unit of work; its public id.
    Raises CreditRefused for an amount that no charge has."""
    if not 0 < new.amount_minor <= MAXIMUM_MINOR:
        raise CreditRefused
    charge = Charge(
        public_id=ids.public_id(),
        account_id=new.account_id,
        is_credit=False,
        kind=new.kind,
        description=new.description,
        reason=new.reason,
        amount_minor=new.amount_minor,
        added_by_id=new.added_by_id,
        created_at=clock.now(),
    )
    session.add(charge)
    session.flush()
    facts = {"amount_minor": new.amount_minor, "currency": current_isp().currency}
    event = activity.Event("charge_added", charge.created_at, new.account_id, facts=facts)
    activity.record(session, [event])
    revisions.raise_account(session, new.account_id)
    return charge.public_id


def cancel_charge(session: Session, account_id: int, public_id: str) -> None:
    """Take back a charge that no bill has yet, within the running unit of work over the account.
    Raises NotFound, DecidedBefore."""
    charge = session.scalars(
        select(Charge).where(Charge.account_id == account_id, Charge.public_id == public_id)
    ).one_or_none()
    if charge is None:
        raise NotFound
    if charge.invoice_id is not None or charge.cancelled_at is not None:
        raise DecidedBefore
    charge.cancelled_at = clock.now()
    session.flush()
    revisions.raise_account(session, account_id)


def take_back_charges(session: Session, charge_ids: Sequence[int]) -> None:
    """Let charges be as if they had never been, within the running unit of work over their
    accounts: those that wait are cancelled, and what a bill has taken the next one gives back, with
    the taxes that it took."""
    now = clock.now()
    for charge in session.scalars(select(Charge).where(Charge.id.in_(charge_ids))):
        if charge.invoice_id is None:
            charge.cancelled_at = charge.cancelled_at or now
        else:
            session.add(
                Charge(
                    public_id=ids.public_id(),
                    account_id=charge.account_id,
                    is_credit=True,
                    kind=charge.kind,
                    description=charge.description,
                    reason="",
                    amount_minor=charge.amount_minor,
                    added_by_id=charge.added_by_id,
                    created_at=now,
                    taxes=charge.taxes,
                )
            )
    session.flush()
