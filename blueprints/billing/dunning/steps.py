"""Which steps of the policy are due for an account that has not paid, and which come next.

Everything here is pure. Steps that hurt (a late fee, holding, closing) are taken on working days
alone, and never before the customer was reminded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from enum import StrEnum

from core import clock
from core.dunning_policy import DunningPolicy, DunningRules, Reminder
from core.money import tax_on

REMINDER_MAY_BE_LATE = timedelta(days=3)
"""A reminder whose day was missed by more than this, as while an account rests, is not sent; the
first one that says that a bill is overdue always is."""


class StepKind(StrEnum):
    """From the mildest to the hardest."""

    REMIND = "remind"
    FEE = "fee"
    HOLD = "hold"
    CLOSE = "close"


HARDNESS = tuple(StepKind)


@dataclass(frozen=True, slots=True)
class OpenInvoice:
    """An invoice of which something is open, and the steps taken for it, by name, with the day.

    `on_its_way_minor` was sent for it and has not arrived; `disputed_minor` rests until decided.
    """

    id: int
    number: str
    due_on: date
    open_minor: int
    taken: Mapping[str, date] = field(default_factory=dict)
    on_its_way_minor: int = 0
    disputed_minor: int = 0

    def age(self, today: date) -> int:
        """How many days it is overdue; not overdue on the due day."""
        return (today - self.due_on).days

    def find_reminded_on(self) -> date | None:
        """When it was first said that it is overdue."""
        said = [
            day
            for name, day in self.taken.items()
            if name.startswith("remind:") and int(name.removeprefix("remind:")) > 0
        ]
        return min(said, default=None)


@dataclass(frozen=True, slots=True)
class Debtor:
    """An account with open invoices, the one that was due first before the others.

    `on_its_way_minor`: coming from the bank and for no bill; it counts from the oldest one on.
    `rests_until`: it is left alone until and with this day; `is_arranged`: while what was agreed
    about it is kept. `held_on`: since when its lines are
    held for it; `can_be_held`: there is a line that is not closed. `pays_by_itself`: autopay takes
    the money and gives notice of its own, so nobody is reminded before the due day.
    """

    account_id: int
    invoices: tuple[OpenInvoice, ...]
    is_closed: bool = False
    on_its_way_minor: int = 0
    rests_until: date | None = None
    is_arranged: bool = False
    held_on: date | None = None
    can_be_held: bool = True
    pays_by_itself: bool = False

    def owed(self) -> list[OpenInvoice]:
        """The invoices with what is open of them and does not rest.

        What comes from the bank goes as it will be settled: to the bill that it is for, and what
        is more than that to the oldest ones. What is disputed rests on its own bill alone.
        """
        spare_minor = self.on_its_way_minor + sum(
            max(0, each.on_its_way_minor - each.open_minor) for each in self.invoices
        )
        found = []
        for invoice in self.invoices:
            left_minor = max(0, invoice.open_minor - invoice.on_its_way_minor)
            part = min(spare_minor, left_minor)
            spare_minor -= part
            left_minor -= part + min(invoice.disputed_minor, left_minor - part)
            if left_minor:
                found.append(replace(invoice, open_minor=left_minor))
        return found

    def overdue_minor(self, today: date) -> int:
        """What is overdue and does not rest."""
        return _sum(each for each in self.owed() if each.due_on < today)

    def is_resting(self, today: date) -> bool:
        """Whether it is left alone."""
        return self.is_arranged or (self.rests_until is not None and today <= self.rests_until)


@dataclass(frozen=True, slots=True)
class Step:
    """A step for an invoice. `amount_minor` is the fee, or what is overdue in all."""

    kind: StepKind
    name: str
    invoice: OpenInvoice
    amount_minor: int
    reminder: Reminder | None = None


@dataclass(frozen=True, slots=True)
class Coming:
    """A step that hurts and the day on which it is taken if nothing is paid."""

    kind: StepKind
    on: date
    amount_minor: int


def _sum(invoices: Iterator[OpenInvoice] | Sequence[OpenInvoice]) -> int:
    return sum(invoice.open_minor for invoice in invoices)


def is_enough(minor: int, policy: DunningPolicy) -> bool:
    """Whether anything happens because of so much overdue."""
    return minor > 0 and minor >= policy.floor_minor


def due(debtor: Debtor, policy: DunningPolicy, rules: DunningRules, today: date) -> list[Step]:
    """The steps to take today."""
    if debtor.is_resting(today):
        return []
    found = list(_reminders(debtor, policy, today))
    if rules.is_working(today) and not debtor.is_closed:
        found += _fees(debtor, policy, today)
        for seek in (_find_hold, _find_close):
            if (step := seek(debtor, policy, today)) is not None:
                found.append(step)
    return found


def _reminders(debtor: Debtor, policy: DunningPolicy, today: date) -> Iterator[Step]:
    overdue_minor = debtor.overdue_minor(today)
    for invoice in debtor.owed():
        reached = [each for each in policy.reminders if each.days <= invoice.age(today)]
        if not reached or (debtor.pays_by_itself and reached[-1].days <= 0):
            continue
        latest = reached[-1]
        name = f"remind:{latest.days}"
        is_late = timedelta(days=invoice.age(today) - latest.days) > REMINDER_MAY_BE_LATE
        is_first = latest.days > 0 and invoice.find_reminded_on() is None
        minor = overdue_minor + (invoice.open_minor if invoice.due_on >= today else 0)
        if name not in invoice.taken and is_enough(minor, policy) and (is_first or not is_late):
            yield Step(StepKind.REMIND, name, invoice, minor, latest)


def _ripe(debtor: Debtor, days: int, today: date) -> list[OpenInvoice]:
    """Invoices that are overdue by at least so many days."""
    return [each for each in debtor.owed() if each.due_on < today and each.age(today) >= days]


def _find_tipping(owed: Sequence[OpenInvoice], policy: DunningPolicy) -> OpenInvoice | None:
    """The invoice with which what was due first is enough for something to happen."""
    minor = 0
    for invoice in owed:
        minor += invoice.open_minor
        if is_enough(minor, policy):
            return invoice
    return None


def _noticed_on(invoice: OpenInvoice, policy: DunningPolicy, today: date) -> date:
    """The first day on which the customer has known long enough that it is overdue; if no reminder
    has said so yet, as if the next one did."""
    said = [each.days for each in policy.reminders if each.days > 0]
    if not said:
        return invoice.due_on
    reminded_on = invoice.find_reminded_on() or max(invoice.due_on + timedelta(days=said[0]), today)
    return reminded_on + timedelta(days=policy.notice_days)


def _was_noticed(invoice: OpenInvoice, policy: DunningPolicy, today: date) -> bool:
    if not any(each.days > 0 for each in policy.reminders):
        return True
    return invoice.find_reminded_on() is not None and _noticed_on(invoice, policy, today) <= today


def _fee_name(first_on: date, policy: DunningPolicy, today: date) -> str:
    """The name of the latest fee since `first_on` that a policy asks for."""
    if not policy.is_fee_monthly:
        return "fee"
    months = 0
    while clock.month_step(first_on, months + 1, first_on.day) <= today:
        months += 1
    return f"fee:{clock.month_step(first_on, months, first_on.day):%Y-%m}"


def fee_minor(invoice: OpenInvoice, policy: DunningPolicy) -> int:
    """The late fee for an invoice in minor units."""
    return policy.fee_minor or tax_on(invoice.open_minor, policy.fee_bp)


def _fees(debtor: Debtor, policy: DunningPolicy, today: date) -> Iterator[Step]:
    if not policy.has_fee:
        return
    ripe = _ripe(debtor, policy.fee_after_days, today)
    if not is_enough(_sum(ripe), policy):
        return
    for invoice in ripe:
        first_on = invoice.due_on + timedelta(days=policy.fee_after_days)
        name = _fee_name(first_on, policy, today)
        minor = fee_minor(invoice, policy)
        if minor and name not in invoice.taken and _was_noticed(invoice, policy, today):
            yield Step(StepKind.FEE, name, invoice, minor)


def _find_hold(debtor: Debtor, policy: DunningPolicy, today: date) -> Step | None:
    if policy.hold_after_days is None or debtor.held_on is not None or not debtor.can_be_held:
        return None
    invoice = _find_tipping(_ripe(debtor, policy.hold_after_days, today), policy)
    if invoice is None or not _was_noticed(invoice, policy, today):
        return None
    # Whoever was released, by a rest say, may be held for the same invoice again.
    count = sum(name.split(":")[0] == StepKind.HOLD for name in invoice.taken)
    name = f"hold:{count + 1}" if count else "hold"
    return Step(StepKind.HOLD, name, invoice, debtor.overdue_minor(today))


def _find_close(debtor: Debtor, policy: DunningPolicy, today: date) -> Step | None:
    if policy.close_after_days is None:
        return None
    invoice = _find_tipping(_ripe(debtor, policy.close_after_days, today), policy)
    if invoice is None or _close_from(debtor, policy, invoice, today) > today:
        return None
    if not _may_close(debtor, policy, invoice, today):
        return None
    return Step(StepKind.CLOSE, "close", invoice, debtor.overdue_minor(today))


def _may_close(debtor: Debtor, policy: DunningPolicy, invoice: OpenInvoice, today: date) -> bool:
    """Closing comes after holding where there is something to hold, else after a reminder."""
    if policy.hold_after_days is not None and debtor.can_be_held:
        return debtor.held_on is not None
    return _was_noticed(invoice, policy, today)


def _close_from(debtor: Debtor, policy: DunningPolicy, invoice: OpenInvoice, today: date) -> date:
    """The first day of closing: as many days after the line was held as lie between the two."""
    close_after = timedelta(days=policy.close_after_days or 0)
    start = invoice.due_on + close_after
    if policy.hold_after_days is None or not debtor.can_be_held:
        return max(start, _noticed_on(invoice, policy, today))
    if debtor.held_on is None:
        return start
    return max(start, debtor.held_on + close_after - timedelta(days=policy.hold_after_days))


# What comes -----------------------------------------------------------------------------------


def coming(debtor: Debtor, policy: DunningPolicy, rules: DunningRules, today: date) -> list[Coming]:
    """The next steps that hurt if nothing is paid, the nearest first: a fee, and holding or
    closing. None while nothing is overdue."""
    if debtor.is_closed or debtor.is_arranged:
        return []
    if not is_enough(debtor.overdue_minor(today), policy):
        return []
    start = today
    if debtor.rests_until is not None and debtor.is_resting(today):
        start = debtor.rests_until + timedelta(days=1)
    found = [
        step
        for step in (
            _coming_fee(debtor, policy, today),
            _coming_hold(debtor, policy, today),
            _coming_close(debtor, policy, today),
        )
        if step is not None
    ]
    moved = [replace(step, on=rules.working(max(step.on, start))) for step in found]
    return sorted(moved, key=lambda step: step.on)


def _coming_fee(debtor: Debtor, policy: DunningPolicy, today: date) -> Coming | None:
    tipping = _find_tipping(debtor.owed(), policy)
    if not policy.has_fee or tipping is None:
        return None
    found = []
    for invoice in debtor.owed():
        first_on = max(invoice.due_on, tipping.due_on) + timedelta(days=policy.fee_after_days)
        on = max(first_on, _noticed_on(invoice, policy, today))
        if (
            on <= today
            and _fee_name(_first_fee_on(invoice, policy), policy, today) in invoice.taken
        ):
            next_on = _next_fee_on(invoice, policy, today)
            if next_on is None:
                continue
            on = next_on
        found.append(Coming(StepKind.FEE, on, fee_minor(invoice, policy)))
    return min(found, key=lambda step: step.on, default=None)


def _first_fee_on(invoice: OpenInvoice, policy: DunningPolicy) -> date:
    return invoice.due_on + timedelta(days=policy.fee_after_days)


def _next_fee_on(invoice: OpenInvoice, policy: DunningPolicy, today: date) -> date | None:
    if not policy.is_fee_monthly:
        return None
    first_on, months = _first_fee_on(invoice, policy), 0
    while clock.month_step(first_on, months, first_on.day) <= today:
        months += 1
    return clock.month_step(first_on, months, first_on.day)


def _coming_hold(debtor: Debtor, policy: DunningPolicy, today: date) -> Coming | None:
    tipping = _find_tipping(debtor.owed(), policy)
    if policy.hold_after_days is None or debtor.held_on is not None:
        return None
    if not debtor.can_be_held or tipping is None:
        return None
    on = tipping.due_on + timedelta(days=policy.hold_after_days)
    return Coming(
        StepKind.HOLD,
        max(on, _noticed_on(tipping, policy, today)),
        debtor.overdue_minor(today),
    )


def _coming_close(debtor: Debtor, policy: DunningPolicy, today: date) -> Coming | None:
    tipping = _find_tipping(debtor.owed(), policy)
    if policy.close_after_days is None or tipping is None:
        return None
    if policy.hold_after_days is not None and debtor.can_be_held and debtor.held_on is None:
        return None
    return Coming(
        StepKind.CLOSE,
        _close_from(debtor, policy, tipping, today),
        debtor.overdue_minor(today),
    )
