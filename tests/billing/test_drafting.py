"""What an account owes for a period: days, introductory prices, changes, taxes (bar 60)."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from blueprints.billing.drafting import (
    BilledAccount,
    BilledSubscription,
    DraftLine,
    OneOff,
    TaxRule,
    compute,
)
from blueprints.billing.periods import Span, cost_of, cut, period_of
from models import InvoiceLineKind

TAXES = (
    TaxRule("STATE", "State tax", 625, None, ("tv", "phone"), date(2020, 1, 1), None),
    TaxRule("E911", "911 fee", None, 125, ("phone",), None, None),
    TaxRule("OLD", "Old tax", 1000, None, ("tv",), None, date(2024, 12, 31)),
    TaxRule("TOWN", "Town tax", 100, None, ("tv",), None, None, ("ALDR",)),
)
FEBRUARY = Span(date(2026, 2, 1), date(2026, 3, 1))
JANUARY_1 = date(2026, 1, 1)


def of(kind: str, price: int, number: int = 1, **more: object) -> BilledSubscription:
    given_: dict[str, object] = {"started_on": JANUARY_1, "billed_until_on": FEBRUARY.from_on}
    given_ |= {"intro_price_minor": None, "intro_until_on": None} | more
    return BilledSubscription(number, kind, kind, price, **given_)  # type: ignore[arg-type]


def lines_of(*subscriptions: BilledSubscription, **more: object) -> tuple[DraftLine, ...]:
    account = BilledAccount(1, 1, FEBRUARY, subscriptions=subscriptions, **more)  # type: ignore[arg-type]
    return compute(account, TAXES, FEBRUARY.from_on)[0]


def sums(lines: tuple[DraftLine, ...]) -> tuple[int, int]:
    """Before tax, and tax."""
    tax = sum(line.amount_minor for line in lines if line.kind == InvoiceLineKind.TAX)
    return sum(line.amount_minor for line in lines) - tax, tax


@pytest.mark.parametrize(
    ("subscriptions", "charges", "taxes"),
    [
        ([of("internet", 6500)], 6500, 0),
        ([of("tv", 1900)], 1900, 119),
        ([of("phone", 1800)], 1800, 113 + 125),
        ([of("phone", 1800), of("phone", 1800, 2)], 3600, 225 + 250),
        ([of("tv", 1900), of("tv", 700, 2), of("phone", 1800, 3)], 4400, 275 + 125),
        ([of("option", 0)], 0, 0),
    ],
)
def test_charges_and_taxes_of_a_month(
    subscriptions: list[BilledSubscription], charges: int, taxes: int
) -> None:
    assert sums(lines_of(*subscriptions)) == (charges, taxes)


def test_tax_of_an_area_and_exemption() -> None:
    assert sums(lines_of(of("tv", 1900), area="ALDR")) == (1900, 119 + 19)
    assert sums(lines_of(of("tv", 1900), area="ALDR", exempt_from=("STATE",))) == (1900, 19)


def test_first_part_month_costs_its_days() -> None:
    begun = of("internet", 2800, started_on=date(2026, 2, 15), billed_until_on=None)
    [line] = lines_of(begun)
    assert (line.amount_minor, line.period_from) == (1400, date(2026, 2, 15))


def test_what_began_in_the_period_before_is_charged_with_the_next() -> None:
    begun = of("phone", 3100, started_on=date(2026, 1, 22), billed_until_on=None)
    lines = lines_of(begun)
    assert [line.amount_minor for line in lines[:2]] == [1000, 3100]
    assert [line.amount_minor for line in lines[2:]] == [256, 250]  # two periods, two fees


def test_change_of_plan_inside_a_period_gives_credit_and_charge() -> None:
    old = of("phone", 1800, ended_on=date(2026, 1, 20), billed_price_minor=1800)
    new = of("phone", 1800, 2, started_on=date(2026, 1, 20), billed_until_on=None)
    lines = lines_of(old, new)
    january, february, credit, *taxes = lines
    assert january.amount_minor + credit.amount_minor == 0
    assert (credit.kind, credit.period_from, credit.period_to) == (
        InvoiceLineKind.CREDIT, date(2026, 1, 20), date(2026, 1, 31),
    )  # fmt: skip
    assert february.amount_minor == 1800
    assert [line.amount_minor for line in taxes] == [113, 125]  # no second fee for January


def test_days_that_this_portal_never_charged_are_not_given_back() -> None:
    over = of("internet", 6500, ended_on=date(2026, 1, 20))
    assert lines_of(over) == ()


def test_credit_is_at_the_price_that_was_billed() -> None:
    over = of("internet", 9900, ended_on=date(2026, 1, 1), billed_price_minor=6500)
    [line] = lines_of(over)
    assert line.amount_minor == -6500


@pytest.mark.parametrize(
    ("day", "price"),
    [(date(2026, 1, 31), 4900), (date(2026, 7, 30), 4900), (date(2026, 7, 31), 6500)],
)
def test_introductory_price_runs_for_its_months(day: date, price: int) -> None:
    subscription = of(
        "internet",
        6500,
        intro_price_minor=4900,
        intro_until_on=date(2026, 7, 31),
        started_on=date(2026, 1, 31),
    )
    assert subscription.price_on(day) == price


PAUSED = Span(date(2026, 2, 8), date(2026, 2, 22))
"""Half of February."""


def test_nothing_is_charged_for_paused_days() -> None:
    lines = lines_of(of("internet", 2800, paused=(PAUSED,)))
    assert [(line.amount_minor, line.period_from) for line in lines] == [
        (700, date(2026, 2, 1)), (700, date(2026, 2, 22)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("paused", "known", "given_back"),
    [
        ((Span(date(2026, 1, 11), date(2026, 1, 21)),), (), -1000),
        ((), (Span(date(2026, 1, 11), date(2026, 1, 21)),), 1000),
        (
            (Span(date(2026, 1, 11), date(2026, 1, 16)),),
            (Span(date(2026, 1, 11), date(2026, 1, 21)),),
            500,
        ),
        (
            (Span(date(2026, 1, 11), date(2026, 1, 21)),),
            (Span(date(2026, 1, 11), date(2026, 1, 21)),),
            0,
        ),
    ],
)
def test_what_bills_did_not_know_of_a_pause_is_given_back_or_charged(
    paused: tuple[Span, ...], known: tuple[Span, ...], given_back: int
) -> None:
    use = of("internet", 3100, billed_price_minor=3100, paused=paused, billed_paused=known)
    february, *rest = sorted(
        lines_of(use), key=lambda line: line.period_from or FEBRUARY.from_on, reverse=True
    )
    assert february.amount_minor == 3100
    assert sum(line.amount_minor for line in rest) == given_back


def test_flat_fee_is_not_owed_for_a_period_that_is_paused() -> None:
    whole = of("phone", 2800, paused=(FEBRUARY,))
    assert lines_of(whole) == ()
    [*_parts, _state, fee] = lines_of(of("phone", 2800, paused=(PAUSED,)))
    assert fee.amount_minor == 125


def test_introductory_price_that_ends_inside_a_period_splits_it() -> None:
    subscription = of(
        "internet",
        2800,
        intro_price_minor=1400,
        intro_until_on=date(2026, 2, 15),
        started_on=date(2026, 1, 15),
    )
    assert [line.amount_minor for line in lines_of(subscription)] == [700, 1400]


def test_days_of_an_introductory_price_are_given_back_at_it() -> None:
    over = of(
        "internet",
        6500,
        intro_price_minor=4900,
        intro_until_on=date(2026, 1, 15),
        ended_on=date(2026, 1, 1),
        billed_price_minor=6500,
    )
    first, second = lines_of(over)
    assert (first.amount_minor, second.amount_minor) == (-2213, -3565)


def test_days_are_given_back_with_the_taxes_that_they_were_billed_with() -> None:
    """Exempt since, elsewhere since, and at another rate since: 10 % was charged, and 2.00 flat."""
    was = {"STATE": [1000, None], "E911": [None, 200]}
    over = of("phone", 3100, ended_on=JANUARY_1, billed_price_minor=3100, billed_taxes=was)
    taxes = lines_of(over, exempt_from=("STATE", "E911"), area="ALDR")[1:]
    assert [(line.ledger, line.amount_minor, line.rate_bp) for line in taxes] == [
        ("tax:STATE", -310, 1000),
        ("tax:E911", -200, None),
    ]
    untaxed = of("phone", 3100, ended_on=JANUARY_1, billed_price_minor=3100, billed_taxes={})
    assert sums(lines_of(untaxed)) == (-3100, 0)


def test_charge_and_credit_at_two_rates_stand_on_two_lines() -> None:
    over = of(
        "tv",
        3100,
        ended_on=JANUARY_1,
        billed_price_minor=3100,
        billed_taxes={"STATE": [1000, None]},
    )
    lines = lines_of(over, of("tv", 1000, 2))
    assert [(line.amount_minor, line.rate_bp) for line in lines if line.rate_bp] == [
        (63, 625),
        (-310, 1000),
    ]


def test_fee_of_a_plan_that_was_not_used_for_a_day_is_given_back() -> None:
    over = of(
        "phone",
        3100,
        started_on=date(2026, 1, 20),
        ended_on=date(2026, 1, 20),
        billed_price_minor=3100,
    )
    assert [line.amount_minor for line in lines_of(over) if line.ledger == "tax:E911"] == [-125]


def test_draft_says_with_which_taxes_it_bills() -> None:
    account = BilledAccount(
        1, 1, FEBRUARY, "ALDR", (of("tv", 1900), of("phone", 1800, 2)), exempt_from=("STATE",)
    )
    marks = compute(account, TAXES, FEBRUARY.from_on)[1]
    assert [mark.taxes for mark in marks] == [{"TOWN": [100, None]}, {"E911": [None, 125]}]


def test_one_offs_join_with_their_taxes() -> None:
    lines = lines_of(
        of("internet", 6500),
        one_offs=(OneOff(1, "tv", "Box lost", 4000), OneOff(2, "", "Our apology", -500)),
    )
    assert sums(lines) == (6500 + 4000 - 500, 250)
    assert [line.ledger for line in lines[1:3]] == ["revenue:tv", "revenue:adjustment"]


# Whatever the days ---------------------------------------------------------------------------

DAYS = st.dates(date(2023, 1, 1), date(2029, 12, 31))
BILL_DAYS = st.integers(1, 31)
PRICES = st.integers(0, 10**7)


@given(DAYS, BILL_DAYS)
def test_periods_lie_side_by_side(day: date, bill_day: int) -> None:
    period = period_of(day, bill_day)
    assert period.from_on <= day < period.until_on
    assert period_of(period.until_on, bill_day).from_on == period.until_on
    assert period_of(period.last_on, bill_day) == period
    assert 28 <= period.days <= 31


@given(DAYS, BILL_DAYS, PRICES, st.lists(DAYS, max_size=6))
def test_parts_of_a_period_sum_to_its_price(
    day: date, bill_day: int, price: int, edges: list[date]
) -> None:
    period = period_of(day, bill_day)
    parts = list(cut(period, bill_day, *edges))
    assert sum(part.days for part, _ in parts) == period.days
    assert sum(cost_of(price, part, within) for part, within in parts) == price
    assert all(cost_of(price, part, within) >= 0 for part, within in parts)


@given(
    DAYS,
    BILL_DAYS,
    st.lists(
        st.tuples(st.integers(1, 70), st.sampled_from(["change", "rest"]), PRICES), max_size=8
    ),
    PRICES,
)
def test_a_year_of_changes_costs_what_its_days_cost(
    opened: date, bill_day: int, changes: list[tuple[int, str, int]], price: int
) -> None:
    """Bill every period for some years while plans change and the service rests at will: what was
    charged less what was given back is, period by period, what the days in use cost."""
    uses: list[BilledSubscription] = []
    day = opened
    first = _use(1, price, opened)
    uses.append(first)
    current: BilledSubscription | None = first
    events: list[tuple[date, str, int]] = []
    for gap, what, new_price in changes:
        day += timedelta(days=gap)
        events.append((day, what, new_price))
    charged = 0
    billed_to = opened
    end = day + timedelta(days=40)
    last = max(end, opened + timedelta(days=370))
    while billed_to < last:
        period = period_of(billed_to, bill_day)
        # In advance: on its first day the period is billed as things stand then.
        for at, what, new_price in [event for event in events if event[0] <= billed_to]:
            if current is not None:
                uses = [
                    replace(use, ended_on=at)
                    if use.subscription_id == current.subscription_id
                    else use
                    for use in uses
                ]
            if what == "change" or current is None:
                current = _use(len(uses) + 1, new_price, at)
                uses.append(current)
            else:
                current = None
        events = [event for event in events if event[0] > billed_to]
        span = Span(billed_to, period.until_on)
        account = BilledAccount(1, bill_day, span, subscriptions=tuple(uses))
        lines, marks = compute(account, (), billed_to)
        charged += sum(line.amount_minor for line in lines)
        for mark in marks:
            uses = [
                replace(use, billed_until_on=mark.until_on, billed_price_minor=mark.price_minor)
                if use.subscription_id == mark.subscription_id
                else use
                for use in uses
            ]
        billed_to = period.until_on
    assume(not events)
    cost = 0
    for use in uses:
        used = Span(use.started_on, min(use.ended_on or billed_to, billed_to))
        if used.days > 0:
            cost += sum(
                cost_of(use.price_minor, part, period) for part, period in cut(used, bill_day)
            )
    assert charged == cost


def _use(number: int, price: int, day: date) -> BilledSubscription:
    return BilledSubscription(number, "Air", "internet", price, None, None, day)


@given(BILL_DAYS, PRICES, st.integers(2023, 2029))
def test_a_year_before_tax_sums_to_the_price_of_its_months(
    bill_day: int, price: int, year: int
) -> None:
    opened = period_of(date(year, 1, 15), bill_day).from_on
    use = _use(1, price, opened)
    charged, billed_to = 0, opened
    for _ in range(12):
        span = Span(billed_to, period_of(billed_to, bill_day).until_on)
        account = BilledAccount(1, bill_day, span, subscriptions=(use,))
        lines, [mark] = compute(account, (), billed_to)
        use = replace(use, billed_until_on=mark.until_on, billed_price_minor=mark.price_minor)
        charged += sum(line.amount_minor for line in lines)
        billed_to = span.until_on
    assert charged == 12 * price
