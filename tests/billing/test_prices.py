"""What plans and subscriptions cost on a day, and what bills make of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blueprints.billing import prices
from blueprints.billing.drafting import BilledAccount, BilledSubscription, compute
from blueprints.billing.periods import Span, cost_of, period_of
from blueprints.billing.prices import Begun, Existing, PriceStep

OPENED = date(2025, 1, 1)
MAY, JUNE, JULY = date(2026, 5, 1), date(2026, 6, 1), date(2026, 7, 1)
MID_JUNE = date(2026, 6, 11)


def steps(*each: tuple[date, int, int, Existing]) -> list[list[object]]:
    return [PriceStep(*one).stored() for one in each]


def begun(**more: object) -> Begun:
    facts: dict[str, object] = {"started_on": OPENED, "agreed_minor": None, "priced_on": None}
    facts |= {"bound_until_on": None, "bill_day": 1} | more
    return Begun(**facts)  # type: ignore[arg-type]


RAISE = steps((MID_JUNE, 5000, 6000, Existing.DAY))


@pytest.mark.parametrize(
    ("stored", "facts", "first", "later"),
    [
        (None, {}, 7000, ()),
        (None, {"agreed_minor": 4500}, 4500, ()),
        (RAISE, {}, 5000, ((MID_JUNE, 6000),)),
        (RAISE, {"started_on": MID_JUNE}, 6000, ()),
        (RAISE, {"started_on": JULY, "agreed_minor": 5000}, 5000, ()),
        (RAISE, {"agreed_minor": 5000, "priced_on": MID_JUNE}, 5000, ()),
        (RAISE, {"agreed_minor": 6000}, 6000, ()),
        (RAISE, {"bound_until_on": JULY}, 5000, ((JULY, 6000),)),
        (RAISE, {"bound_until_on": JUNE}, 5000, ((MID_JUNE, 6000),)),
        (steps((MID_JUNE, 5000, 4000, Existing.DAY)), {"bound_until_on": JULY}, 5000,
         ((MID_JUNE, 4000),)),
        (steps((MID_JUNE, 5000, 6000, Existing.KEEP)), {}, 5000, ()),
        (steps((MID_JUNE, 5000, 6000, Existing.BILL_DAY)), {}, 5000, ((JULY, 6000),)),
        (steps((MID_JUNE, 5000, 6000, Existing.BILL_DAY)), {"bill_day": 11}, 5000,
         ((MID_JUNE, 6000),)),
        (steps((MID_JUNE, 5000, 6000, Existing.BILL_DAY)), {"bound_until_on": date(2026, 6, 20)},
         5000, ((JULY, 6000),)),
        (steps((MID_JUNE, 5000, 6000, Existing.BILL_DAY)), {"bound_until_on": date(2026, 7, 2)},
         5000, ((date(2026, 8, 1), 6000),)),
        # A later change takes the place of one that a contract has put off.
        (steps((MAY, 5000, 6000, Existing.DAY), (MID_JUNE, 6000, 4500, Existing.DAY)),
         {"bound_until_on": JULY}, 5000, ((MID_JUNE, 4500),)),
        (steps((MAY, 5000, 6000, Existing.KEEP), (MID_JUNE, 6000, 5500, Existing.DAY)), {}, 5000,
         ((MID_JUNE, 5500),)),
        (steps((MAY, 5000, 6000, Existing.DAY), (MID_JUNE, 6000, 7000, Existing.KEEP)), {}, 5000,
         ((MAY, 6000),)),
    ],
)  # fmt: skip
def test_subscription_costs_what_it_was_begun_at_and_follows_what_it_must(
    stored: prices.StoredSteps,
    facts: dict[str, object],
    first: int,
    later: prices.Prices,
) -> None:
    assert prices.standing(7000, stored, begun(**facts)) == (first, later)


def test_list_price_is_that_of_the_day() -> None:
    day = timedelta(days=1)
    assert prices.list_price(5000, RAISE, MID_JUNE - day) == 5000
    assert prices.list_price(5000, RAISE, MID_JUNE) == 6000
    assert prices.list_price(5000, None, MID_JUNE) == 5000


def bill(
    use: BilledSubscription, month: date, bill_day: int = 1
) -> tuple[list[int], BilledSubscription]:
    """The amounts of the bill for the period from `month` on, and the subscription after it."""
    span = period_of(month, bill_day)
    lines, marks = compute(BilledAccount(1, bill_day, span, subscriptions=(use,)), (), month)
    for mark in marks:
        use = replace(
            use,
            billed_until_on=mark.until_on,
            billed_price_minor=mark.price_minor,
            billed_prices=mark.prices,
        )
    return [line.amount_minor for line in lines], use


def use_of(later: prices.Prices, **more: object) -> BilledSubscription:
    facts: dict[str, object] = {"started_on": OPENED, "billed_until_on": MAY}
    facts |= {"billed_price_minor": 6000, "later": later} | more
    return BilledSubscription(1, "Air", "internet", 6000, None, None, **facts)  # type: ignore[arg-type]


def test_bill_that_the_day_lies_in_has_each_price_for_its_days() -> None:
    amounts, use = bill(use_of(((MID_JUNE, 9000),), billed_until_on=JUNE), JUNE)
    assert amounts == [2000, 6000]
    # Ended on 21 June: ten of its days are given back, at what they were billed with.
    amounts, _use = bill(replace(use, ended_on=date(2026, 6, 21)), JULY)
    assert amounts == [-3000]
    amounts, _use = bill(replace(use, ended_on=JUNE), JULY)
    assert sorted(amounts) == [-6000, -2000]


def test_bill_made_before_a_raise_was_planned_stays() -> None:
    _amounts, use = bill(use_of(()), MAY)
    amounts, use = bill(replace(use, later=((date(2026, 5, 20), 9000),)), JUNE)
    assert amounts == [9000]
    assert bill(replace(use, ended_on=date(2026, 5, 16)), JULY)[0] == [-3097, -9000]


def test_what_a_withdrawn_price_has_charged_is_given_back_once() -> None:
    amounts, use = bill(use_of(((MID_JUNE, 9000),), billed_until_on=JUNE), JUNE)
    assert sum(amounts) == 8000
    withdrawn = replace(use, later=())
    amounts, use = bill(withdrawn, JULY)
    assert amounts == [6000, -2000]
    amounts, use = bill(use, date(2026, 8, 1))
    assert amounts == [6000]
    # And what ends then is given back at what it cost in the end.
    assert bill(replace(use, ended_on=date(2026, 8, 1)), date(2026, 9, 1))[0] == [-6000]


@given(
    st.integers(1, 31),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 20_000)), max_size=4),
    st.integers(0, 300),
    st.integers(0, 300),
)
def test_whatever_prices_follow_each_day_is_paid_once_at_its_price(
    bill_day: int, changes: list[tuple[int, int]], gone: int, asked: int
) -> None:
    """Changes of price, the end of the subscription known only from a day on: what was charged in
    the end is each day's price."""
    first = period_of(date(2026, 1, 15), bill_day).from_on
    later = tuple(
        (first + timedelta(days=days), minor) for days, minor in sorted(dict(changes).items())
    )
    use = BilledSubscription(1, "Air", "internet", 5000, None, None, first, later=later)
    ended_on = first + timedelta(days=gone)
    asked_on = min(ended_on, first + timedelta(days=asked))
    charged, day = 0, first
    while day <= first + timedelta(days=400):
        if day >= asked_on:
            use = replace(use, ended_on=ended_on)
        amounts, use = bill(use, day, bill_day)
        charged += sum(amounts)
        day = period_of(day, bill_day).until_on
    cost, day = 0, first
    while day < ended_on:
        part = Span(day, day + timedelta(days=1))
        cost += cost_of(use.full_price_on(day), part, period_of(day, bill_day))
        day = part.until_on
    assert charged == cost
