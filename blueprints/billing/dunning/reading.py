"""What dunning knows of accounts, read in a handful of queries for any number of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from sqlalchemy import ColumnElement, and_, exists, func, select
from sqlalchemy.orm import Session

from blueprints.billing.dunning.again import PAST
from blueprints.billing.dunning.steps import Debtor, OpenInvoice
from core import clock
from core.db import total
from core.dunning_policy import DunningPolicy, DunningRules
from core.isp import current_isp
from models import (
    Account,
    AccountStatus,
    Arrangement,
    ArrangementState,
    AutopayMandate,
    CustomerGroup,
    Dispute,
    DisputeState,
    DunningRest,
    DunningStep,
    HoldReason,
    Invoice,
    InvoiceBalance,
    Line,
    LineHold,
    Payment,
    PaymentState,
    PlannedPayment,
)


@dataclass(frozen=True, slots=True)
class Frame:
    """What holds for every account on one day: the ISP's rules and the policies of its groups."""

    today: date
    timezone: str
    currency: str
    rules: DunningRules
    groups: Mapping[str, DunningPolicy]

    def policy_of(self, group_code: str | None) -> DunningPolicy:
        return self.groups.get(group_code or "", self.rules.usual)


def read_frame(session: Session, as_of_on: date | None = None) -> Frame:
    """The ISP's rules, on its own day where no other is given."""
    isp = current_isp()
    rows = session.execute(select(CustomerGroup.code, CustomerGroup.dunning)).all()
    usual = isp.dunning.usual
    return Frame(
        as_of_on or clock.today(isp.timezone),
        isp.timezone,
        isp.currency,
        isp.dunning,
        {row.code: usual.changed_by(row.dunning) for row in rows},
    )


@dataclass(frozen=True, slots=True)
class Known:
    """A debtor with the policy that counts for the account, its number and language."""

    debtor: Debtor
    policy: DunningPolicy
    number: str
    language: str


def read(session: Session, account_ids: Sequence[int], frame: Frame) -> list[Known]:
    """The accounts of which something is open, in the order of their ids."""
    invoices = _open_invoices(session, account_ids)
    owing = sorted(invoices)
    if not owing:
        return []
    rests = _rests(session, owing, frame.today)
    lines = _lines(session, owing, frame.timezone)
    on_their_way = _on_their_way(session, owing)
    disputed = disputed_minor(session, owing)
    arranged = list_arranged(session, owing, frame.today)
    has_autopay = exists().where(
        AutopayMandate.account_id == Account.id, AutopayMandate.ended_at.is_(None)
    )
    rows = session.execute(
        select(
            Account.id,
            Account.status,
            Account.group_code,
            Account.number,
            Account.language,
            has_autopay.label("has_autopay"),
        )
        .where(Account.id.in_(owing))
        .order_by(Account.id)
    )
    found = []
    for row in rows:
        can_be_held, held_on = lines.get(row.id, (False, None))
        for_bill = on_their_way[row.id]
        open_now = tuple(
            replace(
                each,
                on_its_way_minor=for_bill.pop(each.id, 0),
                disputed_minor=disputed.get(each.id, 0),
            )
            for each in invoices[row.id]
        )
        debtor = Debtor(
            row.id,
            open_now,
            is_closed=row.status == AccountStatus.CLOSED,
            on_its_way_minor=sum(for_bill.values()),
            rests_until=rests.get(row.id),
            is_arranged=row.id in arranged,
            held_on=held_on,
            can_be_held=can_be_held,
            pays_by_itself=row.has_autopay,
        )
        policy = frame.policy_of(row.group_code)
        found.append(Known(debtor, policy, row.number, row.language))
    return found


def _open_invoices(session: Session, account_ids: Sequence[int]) -> dict[int, list[OpenInvoice]]:
    rows = session.execute(
        select(
            InvoiceBalance.account_id,
            Invoice.id,
            Invoice.number,
            Invoice.due_on,
            InvoiceBalance.open_minor,
            DunningStep.step,
            DunningStep.taken_on,
        )
        .join(Invoice, Invoice.id == InvoiceBalance.invoice_id)
        .outerjoin(
            DunningStep,
            and_(DunningStep.invoice_id == Invoice.id, DunningStep.step.not_like(f"%{PAST}%")),
        )
        .where(
            InvoiceBalance.account_id.in_(account_ids),
            InvoiceBalance.settled_at.is_(None),
            InvoiceBalance.open_minor > 0,
        )
        .order_by(Invoice.due_on, Invoice.id)
    )
    taken: defaultdict[int, dict[str, date]] = defaultdict(dict)
    found: defaultdict[int, list[OpenInvoice]] = defaultdict(list)
    seen: set[int] = set()
    for row in rows:
        if row.step is not None:
            taken[row.id][row.step] = row.taken_on
        if row.id not in seen:
            seen.add(row.id)
            found[row.account_id].append(
                OpenInvoice(row.id, row.number, row.due_on, row.open_minor, taken[row.id])
            )
    return found


def _rests(session: Session, account_ids: Sequence[int], today: date) -> dict[int, date]:
    rows = session.execute(
        select(DunningRest.account_id, func.max(DunningRest.until_on))
        .where(
            DunningRest.account_id.in_(account_ids),
            DunningRest.until_on >= today,
            DunningRest.ended_at.is_(None),
        )
        .group_by(DunningRest.account_id)
    )
    return {row[0]: row[1] for row in rows}


def _lines(
    session: Session, account_ids: Sequence[int], timezone: str
) -> dict[int, tuple[bool, date | None]]:
    """Of each account with a line that is not closed: that it can be held, and since when one is
    held for what is unpaid."""
    rows = session.execute(
        select(Line.account_id, func.min(LineHold.since_at).label("since_at"))
        .outerjoin(
            LineHold,
            and_(
                LineHold.line_id == Line.id,
                LineHold.reason == HoldReason.UNPAID.value,
                LineHold.released_at.is_(None),
            ),
        )
        .where(Line.account_id.in_(account_ids), Line.is_closed.is_(False))
        .group_by(Line.account_id)
    )
    return {
        row.account_id: (True, clock.day_of(row.since_at, timezone) if row.since_at else None)
        for row in rows
    }


def _on_their_way(
    session: Session, account_ids: Sequence[int]
) -> defaultdict[int, dict[int | None, int]]:
    """Of each account what comes from the bank, by the invoice that it is for."""
    rows = session.execute(
        select(Payment.account_id, Payment.invoice_id, total(Payment.amount_minor))
        .where(Payment.account_id.in_(account_ids), Payment.state == PaymentState.PROCESSING.value)
        .group_by(Payment.account_id, Payment.invoice_id)
    )
    found: defaultdict[int, dict[int | None, int]] = defaultdict(dict)
    for account_id, invoice_id, minor in rows:
        found[account_id][invoice_id] = int(minor)
    return found


def disputed_minor(
    session: Session, account_ids: Sequence[int], *which: ColumnElement[bool]
) -> dict[int, int]:
    """What rests of invoices because it is disputed, by their ids: at most what is open of each.
    `which` says of which invoices."""
    rows = session.execute(
        select(Dispute.invoice_id, total(Dispute.amount_minor), InvoiceBalance.open_minor)
        .join(InvoiceBalance, InvoiceBalance.invoice_id == Dispute.invoice_id)
        .join(Invoice, Invoice.id == Dispute.invoice_id)
        .where(
            Dispute.account_id.in_(account_ids), Dispute.state == DisputeState.OPEN.value, *which
        )
        .group_by(Dispute.invoice_id, InvoiceBalance.open_minor)
    )
    return {invoice_id: min(int(minor), open_minor) for invoice_id, minor, open_minor in rows}


def list_arranged(session: Session, account_ids: Sequence[int], today: date) -> set[int]:
    """Those of the accounts with an arrangement that stands on `today`: until the end of its last
    day no reminder is sent, nothing is held and no late fee is charged."""
    return set(
        session.scalars(
            select(Arrangement.account_id)
            .join(PlannedPayment, PlannedPayment.arrangement_id == Arrangement.id)
            .where(
                Arrangement.account_id.in_(account_ids),
                Arrangement.state == ArrangementState.STANDING.value,
                PlannedPayment.due_on >= today,
            )
        )
    )
