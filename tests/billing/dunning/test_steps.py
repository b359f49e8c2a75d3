"""Which step comes on which day, without a database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blueprints.billing.dunning.steps import Debtor, OpenInvoice, StepKind, coming, due
from core.dunning_policy import DunningPolicy, DunningRules, Reminder
from models import Channel

DUE = date(2026, 3, 2)  # a Monday
USUAL = DunningPolicy()
RULES = DunningRules()
FEE = replace(USUAL, fee_minor=700)
REMINDED = {"remind:1": DUE + timedelta(days=1), "remind:7": DUE + timedelta(days=7)}


def debtor(
    *invoices: tuple[int, int], taken: Mapping[str, date] | None = None, **more: object
) -> Debtor:
    """An account with invoices due so many days after DUE, with so much open."""
    made = tuple(
        OpenInvoice(number, f"2026-{number:06d}", DUE + timedelta(days=days), minor, taken or {})
        for number, (days, minor) in enumerate(invoices, start=1)
    )
    return Debtor(1, made, **more)  # type: ignore[arg-type]


def taken_on(
    who: Debtor, day: int, policy: DunningPolicy = USUAL, rules: DunningRules = RULES
) -> list[str]:
    """The steps of the day that comes so many days after DUE."""
    return [step.name for step in due(who, policy, rules, DUE + timedelta(days=day))]


@pytest.mark.parametrize(
    ("day", "names"),
    [
        (-4, []),
        (-3, ["remind:-3"]),
        (0, ["remind:-3"]),  # missed, and no more than three days late
        (1, ["remind:1"]),
        (4, ["remind:1"]),
        (6, ["remind:1"]),  # late, but nothing has said yet that it is overdue
        (7, ["remind:7"]),
        (20, ["remind:7"]),
    ],
)
def test_reminders_come_on_their_days(day: int, names: list[str]) -> None:
    assert taken_on(debtor((0, 6500)), day) == names


def test_later_reminder_that_was_missed_is_not_sent_weeks_later() -> None:
    assert taken_on(debtor((0, 6500), taken={"remind:1": DUE + timedelta(days=1)}), 11) == []


@pytest.mark.parametrize(
    ("day", "names"),
    [
        (20, []),
        (21, ["hold"]),  # Monday, 23 March
        (22, ["hold"]),
        (26, []),  # a Saturday
        (27, []),
        (28, ["hold"]),
    ],
)
def test_line_is_held_on_working_days_alone(day: int, names: list[str]) -> None:
    assert taken_on(debtor((0, 6500), taken=REMINDED), day) == names


def test_holiday_is_no_day_to_hold_on() -> None:
    rules = replace(RULES, holidays=(DUE + timedelta(days=21),))
    who = debtor((0, 6500), taken=REMINDED)
    assert taken_on(who, 21, rules=rules) == []
    assert taken_on(who, 22, rules=rules) == ["hold"]
    [hold] = coming(who, USUAL, rules, DUE + timedelta(days=9))
    assert (hold.kind, hold.on) == (StepKind.HOLD, DUE + timedelta(days=22))


def test_isp_that_works_every_day_holds_on_sundays() -> None:
    rules = replace(RULES, weekend=())
    assert taken_on(debtor((0, 6500), taken=REMINDED), 27, rules=rules) == ["hold"]


def test_nobody_is_held_who_was_not_reminded_in_time() -> None:
    never = debtor((0, 6500))
    assert taken_on(never, 60) == ["remind:7"]
    lately = debtor((0, 6500), taken={"remind:7": DUE + timedelta(days=58)})
    assert taken_on(lately, 64) == []
    assert taken_on(lately, 65) == ["hold"]
    silent = replace(USUAL, reminders=())
    assert taken_on(never, 21, silent) == ["hold"]


def test_account_is_closed_as_long_after_the_hold_as_the_policy_says() -> None:
    in_time = debtor((0, 6500), taken=REMINDED, held_on=DUE + timedelta(days=21))
    assert taken_on(in_time, 89) == []
    assert taken_on(in_time, 91) == ["close"]  # the 90th day is a Sunday
    late = replace(in_time, held_on=DUE + timedelta(days=80))
    assert taken_on(late, 148) == []
    assert taken_on(late, 149) == ["close"]
    never_held = replace(in_time, held_on=None)
    assert "close" not in taken_on(never_held, 200)


def test_account_without_a_line_is_closed_after_a_reminder() -> None:
    who = debtor((0, 6500), taken=REMINDED, can_be_held=False)
    assert taken_on(who, 40) == []
    assert taken_on(who, 91) == ["close"]


def test_policy_without_hold_or_close_does_neither() -> None:
    mild = replace(USUAL, hold_after_days=None, close_after_days=None)
    assert taken_on(debtor((0, 6500), taken=REMINDED), 365, mild) == []


@pytest.mark.parametrize(
    ("minor", "day", "names"),
    [(499, -3, []), (499, 1, []), (499, 22, []), (500, 1, ["remind:1"])],
)
def test_below_the_floor_nothing_happens(minor: int, day: int, names: list[str]) -> None:
    assert taken_on(debtor((0, minor)), day) == names
    assert coming(debtor((0, 499)), FEE, RULES, DUE + timedelta(days=30)) == []


def test_rest_of_an_old_bill_does_not_make_a_new_one_old() -> None:
    """The age that counts is that of the bill with which the floor is reached."""
    who = debtor((-100, 100), (0, 6500), taken=REMINDED)
    assert taken_on(who, 8) == []
    assert taken_on(who, 21) == ["hold"]


def test_what_is_on_its_way_rests() -> None:
    who = debtor((0, 6500), (30, 6500), taken=REMINDED, on_its_way_minor=6500)
    assert who.overdue_minor(DUE + timedelta(days=29)) == 0
    assert taken_on(who, 21) == []
    assert taken_on(replace(who, on_its_way_minor=6100), 21) == []  # 4.00 is below the floor
    assert taken_on(replace(who, on_its_way_minor=6000), 21) == ["hold"]


def changed(who: Debtor, which: int, **more: Any) -> Debtor:
    invoices = [
        replace(each, **more) if number == which else each
        for number, each in enumerate(who.invoices)
    ]
    return replace(who, invoices=tuple(invoices))


@pytest.mark.parametrize("what", ["disputed_minor", "on_its_way_minor"])
def test_what_rests_of_a_bill_rests_on_that_bill_alone(what: str) -> None:
    who = debtor((0, 6500), (30, 6500), taken=REMINDED)
    day = DUE + timedelta(days=29)
    newer = changed(who, 1, **{what: 6500})
    assert newer.overdue_minor(day) == 6500
    assert [each.id for each in newer.owed()] == [1]
    assert taken_on(newer, 29) == ["hold"]
    assert changed(who, 0, **{what: 6000}).overdue_minor(day) == 500
    assert changed(who, 0, **{what: 6500}).overdue_minor(day) == 0


def test_what_comes_is_counted_as_it_will_be_settled() -> None:
    who = debtor((0, 6500), (30, 6500), taken=REMINDED)
    more = changed(who, 1, on_its_way_minor=7000)  # the rest of it goes to the oldest
    assert [(each.id, each.open_minor) for each in more.owed()] == [(1, 6000)]
    both = changed(replace(who, on_its_way_minor=6500), 0, disputed_minor=3000)
    assert [(each.id, each.open_minor) for each in both.owed()] == [(2, 6500)]
    disputed_twice = changed(who, 0, disputed_minor=3000, on_its_way_minor=5000)
    assert [each.id for each in disputed_twice.owed()] == [2]


def test_fee_is_charged_once_or_each_month() -> None:
    who = debtor((0, 6500), taken=REMINDED)
    once = replace(FEE, hold_after_days=None, close_after_days=None)
    assert taken_on(who, 9, once) == []
    assert taken_on(who, 10, once) == ["fee"]
    charged = debtor((0, 6500), taken=REMINDED | {"fee": DUE + timedelta(days=10)})
    assert taken_on(charged, 60, once) == []
    monthly = replace(once, is_fee_monthly=True)
    assert taken_on(who, 10, monthly) == ["fee:2026-03"]
    paid = debtor((0, 6500), taken=REMINDED | {"fee:2026-03": DUE + timedelta(days=10)})
    assert taken_on(paid, 39, monthly) == []
    assert taken_on(paid, 42, monthly) == ["fee:2026-04"]  # 12 April is a Sunday


def test_fee_is_an_amount_or_a_share_of_what_is_open() -> None:
    day = DUE + timedelta(days=10)
    who = debtor((0, 6510), taken=REMINDED)
    [fixed] = due(who, FEE, RULES, day)
    assert fixed.amount_minor == 700
    [share] = due(who, replace(USUAL, fee_bp=150), RULES, day)
    assert share.amount_minor == 98  # 97.65
    assert due(debtor((0, 600), taken=REMINDED), replace(USUAL, fee_bp=1), RULES, day) == []


def test_account_that_rests_is_left_alone_until_the_day_is_over() -> None:
    who = debtor((0, 6500), taken=REMINDED, rests_until=DUE + timedelta(days=30))
    assert taken_on(who, 30) == []
    assert taken_on(who, 31) == ["hold"]
    [hold] = coming(who, USUAL, RULES, DUE + timedelta(days=9))
    assert hold.on == DUE + timedelta(days=31)
    arranged = replace(who, is_arranged=True)
    assert taken_on(arranged, 50) == []
    assert coming(arranged, USUAL, RULES, DUE + timedelta(days=50)) == []


def test_account_that_was_released_may_be_held_again() -> None:
    who = debtor((0, 6500), taken=REMINDED | {"hold": DUE + timedelta(days=21)})
    assert taken_on(who, 35) == ["hold:2"]


def test_closed_account_is_only_reminded() -> None:
    who = debtor((0, 6500), is_closed=True)
    assert taken_on(who, 1, FEE) == ["remind:1"]
    assert (
        taken_on(replace(who, invoices=debtor((0, 6500), taken=REMINDED).invoices), 60, FEE) == []
    )


def test_autopay_needs_no_reminder_before_the_due_day() -> None:
    who = debtor((0, 6500), pays_by_itself=True)
    assert taken_on(who, -3) == []
    assert taken_on(who, 1) == ["remind:1"]


def test_what_comes_is_said_nearest_first() -> None:
    found = coming(debtor((0, 6500)), FEE, RULES, DUE + timedelta(days=1))
    assert [(step.kind, step.on) for step in found] == [
        (StepKind.FEE, DUE + timedelta(days=10)),
        (StepKind.HOLD, DUE + timedelta(days=21)),
    ]
    held = debtor((0, 6500), taken=REMINDED, held_on=DUE + timedelta(days=21))
    [close] = coming(held, USUAL, RULES, DUE + timedelta(days=22))
    assert (close.kind, close.on) == (StepKind.CLOSE, DUE + timedelta(days=91))


@given(
    bills=st.lists(st.tuples(st.integers(-40, 40), st.integers(1, 20_000)), min_size=1, max_size=4),
    floor=st.integers(0, 3_000),
    fee=st.integers(0, 900),
    is_monthly=st.booleans(),
    notice=st.integers(0, 14),
    holidays=st.sets(st.integers(0, 120), max_size=12),
)
def test_step_comes_on_the_day_that_was_said(
    bills: list[tuple[int, int]],
    floor: int,
    fee: int,
    is_monthly: bool,
    notice: int,
    holidays: set[int],
) -> None:
    """Lived through day by day without paying: each step is taken on the day that was named the day
    before, on a working day, and no two for the same reason."""
    policy = replace(
        USUAL,
        reminders=(Reminder(-3), Reminder(1, (Channel.TEXT,))),
        floor_minor=floor,
        fee_minor=fee,
        is_fee_monthly=is_monthly,
        notice_days=notice,
    )
    rules = replace(RULES, holidays=tuple(DUE + timedelta(days=day) for day in holidays))
    who = debtor(*sorted(bills))
    seen: set[tuple[int, str]] = set()
    for number in range(-45, 260):
        today = DUE + timedelta(days=number)
        said = {step.kind: step.on for step in coming(who, policy, rules, today)}
        for step in due(who, policy, rules, today):
            assert (step.invoice.id, step.name) not in seen
            seen.add((step.invoice.id, step.name))
            if step.kind is not StepKind.REMIND:
                assert rules.is_working(today)
                assert said[step.kind] == today
            who = _after(who, step.invoice.id, step.name, step.kind, today)
        left = coming(who, policy, rules, today)
        assert all(step.on > today for step in left)
    has_enough = sum(minor for _day, minor in bills) >= max(floor, 1)
    assert who.is_closed is has_enough


def _after(who: Debtor, invoice_id: int, name: str, kind: StepKind, today: date) -> Debtor:
    invoices = tuple(
        replace(each, taken={**each.taken, name: today}) if each.id == invoice_id else each
        for each in who.invoices
    )
    who = replace(who, invoices=invoices)
    if kind is StepKind.HOLD:
        return replace(who, held_on=today)
    return replace(who, is_closed=True) if kind is StepKind.CLOSE else who
