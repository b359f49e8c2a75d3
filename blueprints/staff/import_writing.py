"""Writing imported accounts, and what later exports change about them, in whole batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, insert, update
from sqlalchemy.orm import Session

from blueprints.billing import opening
from blueprints.lines import holding
from blueprints.lines.phone import numbers
from blueprints.staff.import_decisions import Change, address_lines, contacts_of
from blueprints.staff.import_reader import AccountRow
from core import clock, ids, search_terms
from models import (
    Account,
    AccountStatus,
    Contact,
    ContactKind,
    HoldReason,
    Line,
    LineState,
    PlanKind,
    Subscription,
)


@dataclass(frozen=True, slots=True)
class PlanFacts:
    id: int
    kind: str
    down_kbps: int | None
    up_kbps: int | None
    intro_price_minor: int | None = None
    intro_months: int | None = None
    agreed_minor: int | None = None
    priced_on: date | None = None

    def intro_until(self, started_on: date) -> date | None:
        """The first day at the full price of a subscription that begins then; None where there is
        no introductory one."""
        if self.intro_price_minor is None or not self.intro_months:
            return None
        return clock.month_step(started_on, self.intro_months, started_on.day)


@dataclass(frozen=True, slots=True)
class Frame:
    """What holds for every row of one run."""

    plans: dict[str, PlanFacts]
    currency: str
    language: str
    cut_over: date
    today: date


class _Writes:
    """Rows to write, gathered over a batch and written with one statement per table and kind."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._rows: dict[Any, list[dict[str, Any]]] = {
            Contact: [],
            Subscription: [],
        }
        self._held: list[int] = []

    def contact(
        self, account_id: int, kind: ContactKind, value: str, row: AccountRow, since: date
    ) -> None:
        self._rows[Contact].append(
            {
                "account_id": account_id,
                "kind": kind.value,
                "value": value,
                "address": row.address if kind is ContactKind.POSTAL else None,
                "since_on": since,
            }
        )

    def subscriptions(
        self,
        account_id: int,
        line_id: int,
        codes: Iterable[str],
        started_on: date,
        ended_on: date | None,
        billed_until_on: date | None,
    ) -> None:
        for code in codes:
            plan = self._frame.plans[code]
            self._rows[Subscription].append(
                {
                    "public_id": ids.public_id(),
                    "account_id": account_id,
                    "plan_id": plan.id,
                    "line_id": None if plan.kind in (PlanKind.TV, PlanKind.PHONE) else line_id,
                    "started_on": started_on,
                    "ended_on": ended_on,
                    "billed_until_on": billed_until_on,
                    "intro_price_minor": plan.intro_price_minor,
                    "intro_until_on": plan.intro_until(started_on),
                    "price_minor": plan.agreed_minor,
                    "priced_on": plan.priced_on,
                }
            )

    def hold(self, line_id: int) -> None:
        self._held.append(line_id)

    def write(self, session: Session) -> None:
        for model, rows in self._rows.items():
            if rows:
                session.connection().execute(insert(model), rows)
        holding.hold(session, self._held, HoldReason.IMPORTED, is_noted=False)


def first_bill_day(start: date, bill_day: int) -> date:
    """The first day on or after `start` on which a bill period of `bill_day` begins."""
    first = start.replace(day=1)
    day = clock.month_step(first, 0, bill_day)
    return day if day >= start else clock.month_step(first, 1, bill_day)


def _billed_through(row: AccountRow, frame: Frame) -> date:
    start = max(frame.cut_over, row.activated_on)
    return first_bill_day(start, row.bill_day) - timedelta(days=1)


def _speeds(codes: Iterable[str], frame: Frame) -> tuple[int | None, int | None]:
    for code in codes:
        plan = frame.plans[code]
        if plan.kind == PlanKind.INTERNET:
            return plan.down_kbps, plan.up_kbps
    return None, None


def _opening_of(row: AccountRow, account_id: int, frame: Frame) -> opening.Opening:
    return opening.Opening(
        account_id, row.number, row.opening_minor, frame.cut_over, row.name, address_lines(row)
    )


def write_new(session: Session, rows: Sequence[AccountRow], frame: Frame) -> None:
    if not rows:
        return
    account_ids: dict[str, int] = {
        number: account_id
        for account_id, number in session.connection().execute(
            insert(Account).returning(Account.id, Account.number),
            [
                {
                    "public_id": ids.public_id(),
                    "number": row.number,
                    "name": row.name,
                    "status": _status(row.status == "closed"),
                    "area_code": row.area_code,
                    "language": row.language,
                    "bill_day": row.bill_day,
                    "opened_on": row.activated_on,
                    "billed_through_on": _billed_through(row, frame),
                    "currency": frame.currency,
                    "balance_minor": 0,
                    "revision": 1,
                }
                for row in rows
            ],
        )
    }
    speeds = [_speeds(row.plan_codes, frame) for row in rows]
    now = clock.now()
    line_ids: dict[str, int] = {
        username: line_id
        for line_id, username in session.connection().execute(
            insert(Line).returning(Line.id, Line.username),
            [
                {
                    "public_id": ids.public_id(),
                    "account_id": account_ids[row.number],
                    "username": row.username,
                    "is_closed": row.status == "closed",
                    "down_kbps": down_kbps,
                    "up_kbps": up_kbps,
                    "wanted_state": (
                        LineState.CLOSED if row.status == "closed" else LineState.OPEN
                    ).value,
                    "sync_at": now,
                }
                for row, (down_kbps, up_kbps) in zip(rows, speeds, strict=True)
            ],
        )
    }
    writes = _Writes(frame)
    for row in rows:
        account_id, line_id = account_ids[row.number], line_ids[row.username]
        for kind, value in contacts_of(row):
            writes.contact(account_id, kind, value, row, row.activated_on)
        ended_on = max(frame.cut_over, row.activated_on) if row.status == "closed" else None
        billed_until_on = ended_on or _billed_through(row, frame) + timedelta(days=1)
        writes.subscriptions(
            account_id, line_id, row.plan_codes, row.activated_on, ended_on, billed_until_on
        )
        if row.status == "suspended":
            writes.hold(line_id)
    writes.write(session)
    opening.post_openings(
        session, [_opening_of(row, account_ids[row.number], frame) for row in rows], frame.currency
    )
    search_terms.refresh(session, list(account_ids.values()))


def _status(is_closed: bool) -> str:
    return (AccountStatus.CLOSED if is_closed else AccountStatus.ACTIVE).value


def write_changes(session: Session, changes: Sequence[Change], frame: Frame) -> None:
    if not changes:
        return
    connection = session.connection()
    connection.execute(
        update(Account)
        .where(Account.id == bindparam("changed_account"))
        .values(
            {
                name: bindparam(f"new_{name}")
                for name in ("name", "status", "area_code", "language", "bill_day", "opened_on")
            }
            | {"revision": Account.revision + 1}
        ),
        [
            {
                "changed_account": change.stored.id,
                "new_name": change.row.name,
                "new_status": _status(change.is_closed),
                "new_area_code": change.row.area_code,
                "new_language": change.row.language,
                "new_bill_day": change.row.bill_day,
                "new_opened_on": change.row.activated_on,
            }
            for change in changes
        ],
    )
    _move_starts(connection, changes, frame)
    _end_what_is_over(session, changes, frame)
    writes = _Writes(frame)
    for change in changes:
        row, account_id = change.row, change.stored.id
        begin_on = max(frame.cut_over, row.activated_on)
        through_on = change.stored.billed_through_on if change.stored.is_unbilled else None
        writes.subscriptions(
            account_id,
            change.line_id,
            change.begun,
            begin_on,
            None,
            through_on and through_on + timedelta(days=1),
        )
        for kind, value in change.new_contacts:
            # On file here only now, whatever the old billing knew (bar 17).
            writes.contact(account_id, kind, value, row, frame.today)
        if change.is_held:
            writes.hold(change.line_id)
    writes.write(session)
    numbers.carry_over(
        session, {subscription_id for change in changes for subscription_id, _ in change.ended}
    )
    _correct_openings(session, changes, frame)
    search_terms.refresh(session, [change.stored.id for change in changes])


def _many(connection: Connection, statement: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(statement, rows)


def _move_starts(connection: Connection, changes: Sequence[Change], frame: Frame) -> None:
    """Where the day of activation or the bill day was corrected: what follows from them."""
    moved = [each for each in changes if each.row.activated_on != each.stored.opened_on]
    days = [
        {
            "moved_account": change.stored.id,
            "old_on": change.stored.opened_on,
            "new_on": change.row.activated_on,
        }
        for change in moved
    ]
    _many(
        connection,
        update(Subscription)
        .where(
            Subscription.account_id == bindparam("moved_account"),
            Subscription.started_on == bindparam("old_on"),
            Subscription.plan_id == bindparam("of_plan"),
            Subscription.ended_on.is_(None),
        )
        .values(intro_until_on=bindparam("new_until_on")),
        [
            {
                "moved_account": change.stored.id,
                "old_on": change.stored.opened_on,
                "of_plan": plan.id,
                "new_until_on": plan.intro_until(change.row.activated_on),
            }
            for change in moved
            for plan in frame.plans.values()
            if plan.intro_months
        ],
    )
    _many(
        connection,
        update(Subscription)
        .where(
            Subscription.account_id == bindparam("moved_account"),
            Subscription.started_on == bindparam("old_on"),
            Subscription.ended_on.is_(None),
        )
        .values(started_on=bindparam("new_on")),
        days,
    )
    _many(
        connection,
        update(Contact)
        .where(
            Contact.account_id == bindparam("moved_account"),
            Contact.since_on == bindparam("old_on"),
        )
        .values(since_on=bindparam("new_on")),
        days,
    )
    rebilled = [
        (change, _billed_through(change.row, frame))
        for change in changes
        if change.stored.is_unbilled
        and (
            change in moved
            or change.row.bill_day != change.stored.bill_day
            or (change.is_line_turned and not change.is_closed)
        )
    ]
    for change, through_on in rebilled:
        change.stored.billed_through_on = through_on
    _many(
        connection,
        update(Account)
        .where(Account.id == bindparam("moved_account"))
        .values(billed_through_on=bindparam("new_billed_through_on")),
        [
            {"moved_account": change.stored.id, "new_billed_through_on": through_on}
            for change, through_on in rebilled
        ],
    )
    _many(
        connection,
        update(Subscription)
        .where(
            Subscription.account_id == bindparam("moved_account"),
            Subscription.ended_on.is_(None),
        )
        .values(billed_until_on=bindparam("new_billed_until_on")),
        [
            {
                "moved_account": change.stored.id,
                "new_billed_until_on": through_on + timedelta(days=1),
            }
            for change, through_on in rebilled
        ],
    )


def _end_what_is_over(session: Session, changes: Sequence[Change], frame: Frame) -> None:
    """Subscriptions, contacts and holds that the rows no longer have; lines closed or opened."""
    connection = session.connection()
    _many(
        connection,
        update(Subscription)
        .where(Subscription.id == bindparam("over_id"))
        .values(ended_on=bindparam("over_on")),
        [
            {"over_id": subscription_id, "over_on": max(frame.cut_over, started_on)}
            for change in changes
            for subscription_id, started_on in change.ended
        ],
    )
    # What was replaced stays on file for a while, and what came back counts as new (bar 17).
    _many(
        connection,
        update(Contact)
        .where(Contact.id == bindparam("dropped_id"))
        .values(ended_on=bindparam("dropped_on")),
        [
            {"dropped_id": contact_id, "dropped_on": frame.today}
            for change in changes
            for contact_id in change.dropped_contacts
        ],
    )
    _many(
        connection,
        update(Contact)
        .where(Contact.id == bindparam("revived_id"))
        .values(ended_on=None, since_on=bindparam("revived_on")),
        [
            {"revived_id": contact_id, "revived_on": frame.today}
            for change in changes
            for contact_id in change.revived_contacts
        ],
    )
    turned: list[dict[str, Any]] = []
    for change in changes:
        if change.is_line_turned or change.begun:
            down_kbps, up_kbps = _speeds(change.row.plan_codes, frame)
            turned.append(
                {
                    "turned_line": change.line_id,
                    "new_is_closed": change.is_closed,
                    "new_down": down_kbps,
                    "new_up": up_kbps,
                }
            )
    _many(
        connection,
        update(Line)
        .where(Line.id == bindparam("turned_line"))
        .values(
            is_closed=bindparam("new_is_closed"),
            down_kbps=bindparam("new_down"),
            up_kbps=bindparam("new_up"),
            sync_at=clock.now(),
            sync_count=0,
        ),
        turned,
    )
    released = [change.line_id for change in changes if change.is_released]
    holding.release(session, released, HoldReason.IMPORTED, is_noted=False)
    holding.plan(session, [row["turned_line"] for row in turned], clock.now())


def _correct_openings(session: Session, changes: Sequence[Change], frame: Frame) -> None:
    first = []
    for change in changes:
        if not change.opening_difference_minor:
            continue
        item = _opening_of(change.row, change.stored.id, frame)
        if change.stored.entries:
            opening.adjust_opening(session, item, change.opening_difference_minor, frame.currency)
        else:
            first.append(item)
    opening.post_openings(session, first, frame.currency)
