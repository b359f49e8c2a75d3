"""What to do with each row of an export, by comparing it with what is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from blueprints.billing import drafting, opening
from blueprints.staff.import_reader import AccountRow, Refusal
from models import (
    Account,
    AccountStatus,
    Contact,
    ContactKind,
    HoldReason,
    JournalEntry,
    JournalLine,
    Line,
    LineHold,
    Plan,
    Subscription,
)

DUPLICATE_NUMBER = Refusal(
    "account_number",
    "duplicate account number",
    "Another account has this number. To change an account, number and line username must both "
    "be those on file.",
)
USERNAME_TAKEN = Refusal(
    "line_username",
    "line username already used",
    "Another account has a line with this username.",
)
OPENING_SETTLED = Refusal(
    "opening_balance",
    "opening balance already settled",
    "The opening balance differs from the one imported before, but the account has been billed, "
    "paid or corrected since. Write the imported amount here and correct the account itself.",
)


@dataclass(slots=True)
class Stored:
    """An account as it is on file, as far as a row can differ from it."""

    id: int
    name: str
    status: str
    language: str
    bill_day: int
    opened_on: date
    area_code: str | None
    billed_through_on: date | None
    lines: dict[str, tuple[int, bool]] = field(default_factory=dict)  # username: (id, is closed)
    contacts: dict[str, dict[str, int]] = field(default_factory=dict)  # kind: value: id
    former_contacts: dict[str, dict[str, int]] = field(default_factory=dict)
    standing: dict[str, tuple[int, date]] = field(default_factory=dict)  # plan: (id, started)
    imported_holds: dict[int, bool] = field(default_factory=dict)  # line: whether one stands
    entries: int = 0
    opening_entries: int = 0
    opening_minor: int = 0

    @property
    def is_unbilled(self) -> bool:
        """Whether this portal has not billed it yet: what there is was brought over."""
        return self.entries == self.opening_entries


@dataclass(slots=True)
class Change:
    """What a row changes about the account it names; empty when the row says what is stored."""

    row: AccountRow
    stored: Stored
    line_id: int
    is_closed: bool
    are_terms_new: bool = False  # a column of the account itself
    ended: list[tuple[int, date]] = field(default_factory=list)  # subscription, started
    begun: list[str] = field(default_factory=list)  # plan codes
    dropped_contacts: list[int] = field(default_factory=list)
    revived_contacts: list[int] = field(default_factory=list)
    new_contacts: list[tuple[ContactKind, str]] = field(default_factory=list)
    is_line_turned: bool = False  # closed or opened
    is_held: bool = False
    is_released: bool = False
    opening_difference_minor: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not (
            self.are_terms_new
            or self.ended
            or self.begun
            or self.new_contacts
            or self.revived_contacts
            or self.is_line_turned
            or self.is_held
            or self.is_released
            or self.opening_difference_minor
        )


@dataclass(slots=True)
class Snapshot:
    accounts: dict[str, Stored]  # by number
    username_owners: dict[str, int]


@dataclass(slots=True)
class Taken:
    """Numbers and usernames that this run has seen in good rows: a later row cannot have them."""

    numbers: set[str] = field(default_factory=set)
    usernames: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Decisions:
    """What to do with the rows of one batch."""

    new: list[AccountRow] = field(default_factory=list)
    changed: list[Change] = field(default_factory=list)
    unchanged: list[AccountRow] = field(default_factory=list)
    refused: dict[int, Refusal] = field(default_factory=dict)  # by line
    warnings: Counter[str] = field(default_factory=Counter)
    taken: Taken = field(default_factory=Taken)

    @property
    def is_quiet(self) -> bool:
        return not self.new and not self.changed


# Reading what is stored ----------------------------------------------------------------------


def read_stored(session: Session, rows: Sequence[AccountRow]) -> Snapshot:
    """What the database holds of the accounts and usernames that `rows` name."""
    accounts = {
        row.number: Stored(
            row.id,
            row.name,
            row.status,
            row.language,
            row.bill_day,
            row.opened_on,
            row.area_code,
            row.billed_through_on,
        )
        for row in session.execute(
            select(
                Account.number,
                Account.id,
                Account.name,
                Account.status,
                Account.language,
                Account.bill_day,
                Account.opened_on,
                Account.area_code,
                Account.billed_through_on,
            ).where(Account.number.in_([row.number for row in rows]))
        )
    }
    by_id = {stored.id: stored for stored in accounts.values()}
    owners = {}
    for line_id, account_id, username, is_closed in session.execute(
        select(Line.id, Line.account_id, Line.username, Line.is_closed).where(
            or_(
                Line.username.in_([row.username for row in rows]),
                Line.account_id.in_(list(by_id)),
            )
        )
    ):
        owners[username] = account_id
        if account_id in by_id:
            by_id[account_id].lines[username] = (line_id, is_closed)
    if by_id:
        _read_details(session, by_id)
    return Snapshot(accounts, owners)


def _read_details(session: Session, by_id: dict[int, Stored]) -> None:
    account_ids = list(by_id)
    for account_id, contact_id, kind, value, ended_on in session.execute(
        select(Contact.account_id, Contact.id, Contact.kind, Contact.value, Contact.ended_on).where(
            Contact.account_id.in_(account_ids)
        )
    ):
        stored = by_id[account_id or 0]
        there = stored.contacts if ended_on is None else stored.former_contacts
        there.setdefault(kind, {})[value] = contact_id
    for account_id, subscription_id, code, started_on in session.execute(
        select(Subscription.account_id, Subscription.id, Plan.code, Subscription.started_on)
        .join(Plan, Plan.id == Subscription.plan_id)
        .where(Subscription.account_id.in_(account_ids), Subscription.ended_on.is_(None))
    ):
        by_id[account_id].standing[code] = (subscription_id, started_on)
    for account_id, line_id, released_at in session.execute(
        select(Line.account_id, LineHold.line_id, LineHold.released_at)
        .join(Line, Line.id == LineHold.line_id)
        .where(Line.account_id.in_(account_ids), LineHold.reason == HoldReason.IMPORTED.value)
    ):
        holds = by_id[account_id].imported_holds
        holds[line_id] = holds.get(line_id, False) or released_at is None
    for account_id, entries, opening_entries, opening_minor in session.execute(
        select(
            JournalEntry.account_id,
            func.count(JournalEntry.id.distinct()),
            func.count(JournalLine.entry_id),
            func.coalesce(func.sum(-JournalLine.amount_minor), 0),
        )
        .outerjoin(
            JournalLine,
            (JournalLine.entry_id == JournalEntry.id)
            & (JournalLine.ledger == opening.OPENING_LEDGER),
        )
        .where(JournalEntry.account_id.in_(account_ids))
        .group_by(JournalEntry.account_id)
    ):
        stored = by_id[account_id]
        stored.entries, stored.opening_entries = entries, opening_entries
        stored.opening_minor = int(opening_minor)


# Deciding ------------------------------------------------------------------------------------


def decide(batch: Sequence[tuple[int, AccountRow]], snapshot: Snapshot, taken: Taken) -> Decisions:
    """What to do with each row, given as (line, row), in order.

    What an earlier row of the same run has counts first, so that every run over a file refuses the
    same rows for the same reasons, whatever was stored meanwhile.
    """
    result = Decisions()
    for line, row in batch:
        if row.number in taken.numbers or row.number in result.taken.numbers:
            result.refused[line] = DUPLICATE_NUMBER
            continue
        if row.username in taken.usernames or row.username in result.taken.usernames:
            result.refused[line] = USERNAME_TAKEN
            continue
        stored = snapshot.accounts.get(row.number)
        if stored is None:
            if row.username in snapshot.username_owners:
                result.refused[line] = USERNAME_TAKEN
                continue
            result.new.append(row)
        elif row.username not in stored.lines:
            result.refused[line] = DUPLICATE_NUMBER
            continue
        else:
            change = _find_change(row, stored)
            if change is None:
                result.refused[line] = OPENING_SETTLED
            elif change.is_empty:
                result.unchanged.append(row)
            else:
                result.changed.append(change)
            result.warnings.update(change.warnings if change else ())
        result.taken.numbers.add(row.number)
        result.taken.usernames.add(row.username)
        if line not in result.refused:
            result.warnings.update(row.warnings)
    return result


def _find_change(row: AccountRow, stored: Stored) -> Change | None:
    """How the row differs from what is stored; None when its opening balance must be refused."""
    line_id, is_line_closed = stored.lines[row.username]
    change = Change(row, stored, line_id, row.status == "closed")
    if row.opening_minor != stored.opening_minor:
        if stored.entries > 1 or stored.entries != stored.opening_entries:
            return None
        change.opening_difference_minor = row.opening_minor - stored.opening_minor
    is_stored_closed = stored.status == AccountStatus.CLOSED
    if is_stored_closed and not change.is_closed and stored.entries > stored.opening_entries:
        # It had a life here after it came over: an old export does not bring it back.
        change.is_closed = True
        change.warnings.append("closed here since, stays closed")
    change.are_terms_new = change.is_closed != is_stored_closed or (
        (row.name, row.language, row.bill_day, row.activated_on, row.area_code)
        != (stored.name, stored.language, stored.bill_day, stored.opened_on, stored.area_code)
    )
    change.is_line_turned = change.is_closed != is_line_closed
    wanted = () if change.is_closed else row.plan_codes
    change.ended = [each for code, each in stored.standing.items() if code not in wanted]
    change.begun = [code for code in wanted if code not in stored.standing]
    for kind, value in contacts_of(row):
        there = stored.contacts.get(kind, {})
        if value not in there:
            change.dropped_contacts += there.values()
            former_id = stored.former_contacts.get(kind, {}).get(value)
            if former_id is None:
                change.new_contacts.append((kind, value))
            else:
                change.revived_contacts.append(former_id)
    is_held = stored.imported_holds.get(line_id)
    if row.status == "suspended" and not change.is_closed:
        change.is_held = is_held is None
        if is_held is False:
            change.warnings.append("suspended in the file, released here since")
    else:
        change.is_released = bool(is_held)
    return change


def contacts_of(row: AccountRow) -> list[tuple[ContactKind, str]]:
    found = [
        (ContactKind.EMAIL, row.email),
        (ContactKind.PHONE, row.phone),
        (ContactKind.POSTAL, ", ".join(address_lines(row)) or None),
    ]
    return [(kind, value) for kind, value in found if value is not None]


def address_lines(row: AccountRow) -> tuple[str, ...]:
    return drafting.address_lines(row.address or {})
