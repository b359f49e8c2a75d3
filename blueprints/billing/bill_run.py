"""The bill run: every account whose next period has begun gets its invoice, once.

A run first adds up what it wants to bill and compares it with the same accounts' last period. If
that stands out it stops before anything is issued, and an operator may accept the total (bar 59).
Then it issues in batches of one unit of work each; what a batch has issued moves its accounts'
periods on in the same transaction, so a run that was killed is finished by the next, and two at
once never bill a period twice.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import date, timedelta
from functools import partial
from itertools import groupby
from typing import Any

from sqlalchemy import and_, bindparam, exists, func, or_, select, union, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from blueprints.billing import bill_messages, drafting, invoicing
from blueprints.billing.drafting import Draft
from blueprints.billing.errors import BillRunHalted, BillRunStopped, BillRunUnderWay
from blueprints.billing.run_reasons import Reason, Standout, Stop
from core import activity, clock, ids
from core.db import db, unit_of_work
from models import (
    Account,
    AccountStatus,
    BillRun,
    BillRunState,
    Charge,
    Invoice,
    InvoiceKind,
    InvoiceLine,
    InvoiceLineKind,
    Isp,
    Subscription,
    TopUp,
    UsageBlock,
)

UNIT_SECONDS = 0.05
FIRST_BATCH, SMALLEST_BATCH, LARGEST_BATCH = 50, 10, 500
PLANNED_AT_ONCE = 1_000
MOST_ITEMS = 15
COMPARED_FROM = 50
MOST_TIMES_LAST = 1.5
DIFFERENCES_SHOWN = 10
BEAT_SECONDS = 1.0
LOST_AFTER = timedelta(minutes=2)
"""A run that has said nothing for so long was killed."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Difference:
    """An account whose invoice differs from that of its last period, in minor units."""

    account_id: int
    number: str
    last_minor: int
    next_minor: int


@dataclass(slots=True)
class Plan:
    """What a run wants to bill, in minor units, beside the same accounts' last period.

    `total_minor` is what invoices ask for less what credit notes give back."""

    as_of_on: date
    currency: str
    accounts: int = 0
    invoices: int = 0
    total_minor: int = 0
    subscriptions: int = 0
    last_total_minor: int = 0
    last_subscriptions: int = 0
    reasons: list[Reason] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)

    def as_facts(self) -> dict[str, Any]:
        """What a run keeps of it beside its count and total."""
        return {
            "subscriptions": self.subscriptions,
            "last_total_minor": self.last_total_minor,
            "last_subscriptions": self.last_subscriptions,
            "reasons": [reason.as_facts() for reason in self.reasons],
            "differences": [asdict(difference) for difference in self.differences],
        }


@dataclass(frozen=True, slots=True)
class Frame:
    """What holds for every account of a run."""

    as_of_on: date
    terms_days: int
    currency: str


def read_frame(as_of_on: date | None = None) -> Frame:
    """The ISP's terms, and its own day where no other is given."""
    row = db.session.execute(select(Isp.timezone, Isp.terms_days, Isp.currency)).one()
    return Frame(as_of_on or clock.today(row.timezone), row.terms_days, row.currency)


def list_due(session: Session, as_of_on: date) -> list[int]:
    """The ids of accounts whose next period has begun and of which something is left to bill."""
    has_more = or_(
        exists().where(
            Subscription.account_id == Account.id,
            Subscription.ended_on.is_not(None),
            drafting.IS_NOT_BILLED_OUT,
        ),
        exists().where(
            Charge.account_id == Account.id,
            Charge.invoice_id.is_(None),
            Charge.cancelled_at.is_(None),
        ),
    )
    return list(
        session.scalars(
            select(Account.id)
            .where(
                or_(
                    Account.billed_through_on < as_of_on,
                    and_(Account.billed_through_on.is_(None), Account.opened_on <= as_of_on),
                ),
                or_(Account.status == AccountStatus.ACTIVE.value, has_more),
            )
            .order_by(Account.id),
            {"changeable_on": drafting.first_changeable(as_of_on)},
        )
    )


# Planning ------------------------------------------------------------------------------------


def plan(frame: Frame, on_progress: Progress = lambda _done, _all: None) -> Plan:
    """Add up what is to be billed, and say what stands out. Writes nothing."""
    found = Plan(frame.as_of_on, frame.currency)
    largest: list[tuple[int, int, Difference]] = []
    with Session(db.engine) as session:
        due = list_due(session, frame.as_of_on)
    for done, batch in _chunks(due, PLANNED_AT_ONCE):
        with Session(db.engine) as session:
            drafts = drafting.draft_next(session, batch, frame.as_of_on, frame.terms_days)
            last = _last_period(session, [draft.account_id for draft in drafts if draft.lines])
            for_data = _find_for_data(session, drafts)
        for account_id, of_account in groupby(drafts, lambda draft: draft.account_id):
            _add(found, list(of_account), last.get(account_id), largest, for_data)
        on_progress(done, len(due))
    found.differences = [difference for _, _, difference in sorted(largest, reverse=True)]
    _judge_total(found)
    return found


@dataclass(frozen=True, slots=True)
class _Last:
    number: str
    total_minor: int
    subscriptions: int


def _last_period(session: Session, account_ids: Sequence[int]) -> dict[int, _Last]:
    """Of each account its number, and what its last period cost for how many subscriptions."""
    charged = (
        select(func.count(InvoiceLine.subscription_id.distinct()))
        .where(
            InvoiceLine.invoice_id == Invoice.id,
            InvoiceLine.kind == InvoiceLineKind.CHARGE.value,
        )
        .correlate(Invoice)
        .scalar_subquery()
    )
    rows = session.execute(
        select(Account.id, Account.number, Invoice.total_minor, charged)
        .outerjoin(
            Invoice,
            and_(
                Invoice.account_id == Account.id,
                Invoice.period_to == Account.billed_through_on,
                Invoice.kind == InvoiceKind.INVOICE.value,
            ),
        )
        .where(Account.id.in_(account_ids))
    )
    return {
        account_id: _Last(number, total_minor or 0, subscriptions if total_minor else 0)
        for account_id, number, total_minor, subscriptions in rows
    }


def _find_for_data(session: Session, drafts: Sequence[Draft]) -> set[int]:
    """Of what is billed once, the charges for data beside a plan."""
    charge_ids = [charge_id for draft in drafts for charge_id in draft.charge_ids]
    if not charge_ids:
        return set()
    blocks = select(UsageBlock.charge_id).where(UsageBlock.charge_id.in_(charge_ids))
    top_ups = select(TopUp.charge_id).where(TopUp.charge_id.in_(charge_ids))
    return set(session.scalars(union(blocks, top_ups)))


def _signed(draft: Draft) -> int:
    return -draft.total_minor if draft.kind == InvoiceKind.CREDIT_NOTE else draft.total_minor


def _add(
    found: Plan,
    drafts: Sequence[Draft],
    last: _Last | None,
    largest: list[tuple[int, int, Difference]],
    for_data: AbstractSet[int],
) -> None:
    """Add what one account is to get, the oldest period first. What it used and bought of data,
    charge by charge, is one item: that may be much, and says nothing about the run."""
    found.accounts += 1
    written = [draft for draft in drafts if draft.lines]
    if not written or last is None:
        return
    for draft in written:
        charged = [line for line in draft.lines if line.kind == InvoiceLineKind.CHARGE]
        found.invoices += 1
        found.total_minor += _signed(draft)
        found.subscriptions += len({line.subscription_id for line in charged} - {None})
    found.last_total_minor += last.total_minor
    found.last_subscriptions += last.subscriptions
    items = sum(line.kind != InvoiceLineKind.TAX for draft in written for line in draft.lines)
    data_count = sum(charge_id in for_data for draft in written for charge_id in draft.charge_ids)
    items -= max(0, data_count - 1)
    if items > MOST_ITEMS:
        facts = {"number": last.number, "count": items}
        found.reasons.append(Reason(Standout.MANY_ITEMS, facts))
    twice = _billed_twice(written)
    if twice:
        found.reasons.append(Reason(Standout.BILLED_TWICE, {"number": last.number, "what": twice}))
    next_minor = sum(_signed(draft) for draft in written)
    by = abs(next_minor - last.total_minor)
    if last.subscriptions and by:
        keep = heapq.heappush if len(largest) < DIFFERENCES_SHOWN else heapq.heappushpop
        account_id = written[0].account_id
        difference = Difference(account_id, last.number, last.total_minor, next_minor)
        keep(largest, (by, account_id, difference))


def _billed_twice(drafts: Sequence[Draft]) -> str:
    """What is charged for the same day twice; empty if nothing is."""
    ends: dict[int, date] = {}
    lines = [
        (line.period_from, line.period_to, line.subscription_id, line.description)
        for draft in drafts
        for line in draft.lines
        if line.kind == InvoiceLineKind.CHARGE and line.subscription_id and line.period_from
    ]
    for start, end, subscription_id, description in sorted(lines, key=lambda row: row[:3]):
        known = ends.get(subscription_id)
        if known is not None and start <= known:
            return description
        ends[subscription_id] = end or start
    return ""


def _judge_total(found: Plan) -> None:
    if found.invoices < COMPARED_FROM or not found.last_subscriptions or not found.subscriptions:
        return
    each = found.total_minor / found.subscriptions
    last = found.last_total_minor / found.last_subscriptions
    if last > 0 and each > MOST_TIMES_LAST * last:
        facts = {"next_minor": round(each), "last_minor": round(last)}
        found.reasons.append(Reason(Standout.COSTS_MORE, facts))


# Running -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run has done: how many invoices and credit notes, and their sum in minor units."""

    run_id: int
    invoices: int
    total_minor: int


def run(
    frame: Frame,
    *,
    accepted_minor: int | None = None,
    asked_id: int | None = None,
    on_added: Progress = lambda _done, _all: None,
    on_progress: Progress = lambda _done, _all: None,
) -> Outcome:
    """Bill everything that is due; `asked_id` is the run that staff asked for. `on_added` is told
    how far adding up is, then `on_progress` how far issuing is.

    Raises BillRunUnderWay while another run goes on, BillRunStopped, with its plan, when what it
    would bill stands out and `accepted_minor` is not its total (nothing was issued then), and
    BillRunHalted when staff stopped it.
    """
    run_id = _begin(frame, accepted_minor) if asked_id is None else _take_up(asked_id)
    with _ended_well(run_id):
        planned = plan(frame, _beating(run_id, on_added))
        _note_plan(run_id, planned)
        if planned.reasons and accepted_minor != planned.total_minor:
            raise BillRunStopped(planned)
        invoices = total_minor = 0
        for done, of_all, count, minor in _issue_due(frame, run_id):
            on_progress(done, of_all)
            invoices, total_minor = invoices + count, total_minor + minor
    return Outcome(run_id, invoices, total_minor)


def preview(frame: Frame, asked_id: int) -> None:
    """Add up what a run would bill, as staff asked with the preview `asked_id`. Bills nothing.

    Raises BillRunUnderWay while another preview is made, BillRunHalted.
    """
    run_id = _take_up(asked_id)
    with _ended_well(run_id):
        _note_plan(run_id, plan(frame, _beating(run_id)))


@contextmanager
def _ended_well(run_id: int) -> Iterator[None]:
    """Note how the run ends: done, or stopped and why."""
    try:
        yield
    except BillRunStopped:
        _end(run_id, BillRunState.STOPPED, Stop.STANDS_OUT)
        raise
    except BillRunHalted:
        _end(run_id, BillRunState.STOPPED, Stop.BY_STAFF)
        raise
    except Exception as error:
        _end(run_id, BillRunState.STOPPED, f"{Stop.BROKE_OFF.value}:{type(error).__name__}")
        raise
    _end(run_id, BillRunState.DONE)


def _beating(run_id: int, on_added: Progress = lambda _done, _all: None) -> Progress:
    """Notes how far adding up is, every second at most: it takes long for many accounts."""
    noted_at = time.monotonic()

    def note(done: int, of_all: int) -> None:
        nonlocal noted_at
        on_added(done, of_all)
        if time.monotonic() - noted_at >= BEAT_SECONDS:
            _note(run_id, done_count=done, account_count=of_all)
            noted_at = time.monotonic()

    return note


def _begin(frame: Frame, accepted_minor: int | None) -> int:
    """The id of a new run. Raises BillRunUnderWay."""
    now = clock.now()

    def work(session: Session) -> int:
        end_lost(session)
        found = BillRun(
            public_id=ids.public_id(),
            as_of_on=frame.as_of_on,
            state=BillRunState.RUNNING.value,
            accepted_minor=accepted_minor,
            started_at=now,
            beat_at=now,
        )
        session.add(found)
        session.flush()
        return found.id

    try:
        return unit_of_work(work)
    except IntegrityError:
        raise BillRunUnderWay from None


def _take_up(asked_id: int) -> int:
    """Begin a run that was asked for. Raises BillRunUnderWay, BillRunHalted when it was stopped
    before it began."""

    def work(session: Session) -> int | None:
        end_lost(session)
        return session.scalar(
            update(BillRun)
            .where(BillRun.id == asked_id, BillRun.state == BillRunState.ASKED.value)
            .values(
                state=BillRunState.RUNNING.value,
                beat_at=clock.now(),
                revision=BillRun.revision + 1,
            )
            .returning(BillRun.id)
        )

    try:
        run_id = unit_of_work(work)
    except IntegrityError:
        raise BillRunUnderWay from None
    if run_id is None:
        raise BillRunHalted
    return run_id


def end_lost(session: Session) -> None:
    """Note of runs that were killed that they have ended, within the running unit of work."""
    now = clock.now()
    session.execute(
        update(BillRun)
        .where(BillRun.state == BillRunState.RUNNING.value, BillRun.beat_at < now - LOST_AFTER)
        .values(
            state=BillRunState.STOPPED.value,
            ended_at=now,
            stopped_because=Stop.KILLED.value,
            revision=BillRun.revision + 1,
        )
    )


def _note(run_id: int, **values: Any) -> None:
    """Note how far the run is. Raises BillRunHalted when staff have asked that it stops."""
    stop_asked_at = unit_of_work(
        lambda session: session.scalar(
            update(BillRun)
            .where(BillRun.id == run_id)
            .values(beat_at=clock.now(), revision=BillRun.revision + 1, **values)
            .returning(BillRun.stop_asked_at)
        )
    )
    if stop_asked_at is not None:
        raise BillRunHalted


def _note_plan(run_id: int, planned: Plan) -> None:
    _note(
        run_id,
        planned_count=planned.invoices,
        planned_minor=planned.total_minor,
        found=planned.as_facts(),
        done_count=0,
        account_count=planned.accounts,
    )


def _end(run_id: int, state: BillRunState, because: str = "") -> None:
    now = clock.now()

    def work(session: Session) -> None:
        is_preview = session.scalar(
            update(BillRun)
            .where(BillRun.id == run_id)
            .values(
                state=state.value,
                ended_at=now,
                stopped_because=because[:500],
                revision=BillRun.revision + 1,
            )
            .returning(BillRun.is_preview)
        )
        if not is_preview:
            activity.record(session, [activity.Event(f"bill_run_{state.value}", now)])

    unit_of_work(work)


def _issue_due(frame: Frame, run_id: int) -> Iterator[tuple[int, int, int, int]]:
    """Issue what is due, batch by batch; yields how many of how many accounts are done, and count
    and sum of what the batch has issued."""
    with Session(db.engine) as session:
        due = list_due(session, frame.as_of_on)
    size, done = FIRST_BATCH, 0
    while done < len(due):
        batch = due[done : done + size]
        done += len(batch)
        issued = unit_of_work(
            partial(_issue_and_tell, batch=batch, frame=frame, run_id=run_id, at=(done, len(due))),
            *batch,
        )
        wanted = int(len(batch) * UNIT_SECONDS / max(issued.seconds, 0.001))
        size = max(SMALLEST_BATCH, min(LARGEST_BATCH, wanted, size * 2))
        minor = sum(_signed(draft) for draft in issued.drafts)
        yield done, len(due), len(issued.invoice_ids), minor


@dataclass(frozen=True, slots=True)
class Issued:
    """What a batch has issued: drafts, of which those with lines became invoices, and the seconds
    that it took."""

    drafts: Sequence[Draft]
    invoice_ids: Sequence[int]
    seconds: float


def issue_batch(
    session: Session, batch: Sequence[int], frame: Frame, run_id: int | None = None
) -> Issued:
    """Draft and issue what is due of these accounts."""
    started = time.monotonic()
    drafts = drafting.draft_next(session, batch, frame.as_of_on, frame.terms_days)
    invoice_ids = invoicing.issue(session, drafts, frame.currency, run_id)
    return Issued(drafts, invoice_ids, time.monotonic() - started)


_IS_TO_STOP = select(BillRun.stop_asked_at).where(BillRun.id == bindparam("this_run"))
_NOTE_ISSUED = (
    update(BillRun)
    .where(BillRun.id == bindparam("this_run"))
    .values(
        beat_at=bindparam("now"),
        done_count=bindparam("done"),
        account_count=bindparam("of_all"),
        issued_count=BillRun.issued_count + bindparam("count"),
        issued_minor=BillRun.issued_minor + bindparam("minor"),
        revision=BillRun.revision + 1,
    )
)


def _issue_and_tell(
    session: Session, batch: Sequence[int], frame: Frame, run_id: int, at: tuple[int, int]
) -> Issued:
    """The same; whose bills they are hears that they are ready, and the run's row says in the same
    transaction how far it is: `at` so many of so many accounts.

    Raises BillRunHalted, before anything is issued, when staff have asked that it stops.
    """
    started = time.monotonic()
    connection = session.connection()
    if connection.scalar(_IS_TO_STOP, {"this_run": run_id}) is not None:
        raise BillRunHalted
    issued = issue_batch(session, batch, frame, run_id)
    bill_messages.tell(session, issued.invoice_ids)
    noted = {
        "this_run": run_id,
        "now": clock.now(),
        "done": at[0],
        "of_all": at[1],
        "count": len(issued.invoice_ids),
        "minor": sum(_signed(draft) for draft in issued.drafts),
    }
    connection.execute(_NOTE_ISSUED, noted)
    return replace(issued, seconds=time.monotonic() - started)


def _chunks(items: Sequence[int], size: int) -> Iterator[tuple[int, Sequence[int]]]:
    for start in range(0, len(items), size):
        batch = items[start : start + size]
        yield start + len(batch), batch
