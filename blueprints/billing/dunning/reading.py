"""What dunning knows of accounts, read in a handful of queries for any number of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, exists, func, select
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


def _accounts_query() -> Select[*tuple[Any, ...]]:
    """Accounts with what is about the whole of each: `rests_until` staff let it rest, `held_at` is
    since when a line of it is held for what is unpaid."""
    runs = and_(Line.account_id == Account.id, Line.is_closed.is_(False))
    held_at = (
        select(func.min(LineHold.since_at))
        .join(Line, Line.id == LineHold.line_id)
        .where(
            runs,
            LineHold.reason == HoldReason.UNPAID.value,
            LineHold.released_at.is_(None),
        )
        .scalar_subquery()
    )
    rests_until = (
        select(func.max(DunningRest.until_on))
        .where(
            DunningRest.account_id == Account.id,
            DunningRest.until_on >= bindparam("today"),
            DunningRest.ended_at.is_(None),
        )
        .scalar_subquery()
    )
    has_autopay = exists().where(
        AutopayMandate.account_id == Account.id, AutopayMandate.ended_at.is_(None)
    )
    return (
        select(
            Account.id,
            Account.status,
            Account.group_code,
            Account.number,
            Account.language,
            rests_until.label("rests_until"),
            held_at.label("held_at"),
            exists().where(runs).label("can_be_held"),
            has_autopay.label("has_autopay"),
        )
        .where(Account.id.in_(bindparam("accounts", expanding=True)))
        .order_by(Account.id)
    )


# Built once: it runs whenever somebody with an overdue bill looks at the dashboard.
_LIST_ACCOUNTS = _accounts_query()


def read(session: Session, account_ids: Sequence[int], frame: Frame) -> list[Known]:
    """The accounts of which something is open, in the order of their ids."""
    invoices = _open_invoices(session, account_ids)
    owing = sorted(invoices)
    if not owing:
        return []
    on_their_way = _on_their_way(session, owing)
    disputed = disputed_minor(session, owing)
    arranged = list_arranged(session, owing, frame.today)
    rows = session.connection().execute(_LIST_ACCOUNTS, {"accounts": owing, "today": frame.today})
    found = []
    for row in rows:
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
            rests_until=row.rests_until,
            is_arranged=row.id in arranged,
            held_on=clock.day_of(row.held_at, frame.timezone) if row.held_at else None,
            can_be_held=row.can_be_held,
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
