"""What a plan, and a subscription to it, costs on a day. Pure: days and minor units, no database.

A plan carries the dated changes of its price that have happened or are planned (`price_steps`).
What a subscription costs follows from them and from the day whose price it was begun at: nothing
has to be written to fifty thousand rows when a day comes, and any bill or preview computes the
same. A subscription that follows a change while its contract binds does so with the first day on
which it is free where the price rises, or its first bill day from then on, and at once where it
falls.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, NamedTuple

from blueprints.billing.periods import Span
from core import clock


class Existing(StrEnum):
    """What a change of price means for those who subscribe already: they keep their price, follow
    on the day, or follow from their first bill day on or after it."""

    KEEP = "keep"
    DAY = "day"
    BILL_DAY = "bill_day"


@dataclass(frozen=True, slots=True)
class PriceStep:
    """A change of a plan's price from the day `on`."""

    on: date
    was_minor: int
    price_minor: int
    existing: Existing

    def stored(self) -> list[Any]:
        """As it stands in `price_steps` of the plan."""
        return [self.on.isoformat(), self.was_minor, self.price_minor, self.existing.value]


StoredSteps = Sequence[Sequence[Any]] | None
Prices = tuple[tuple[date, int], ...]
"""Prices of a whole period, each from a day on, in the order of the days."""


def read_steps(stored: StoredSteps) -> list[PriceStep]:
    """The steps of a plan's `price_steps`, the earliest first."""
    return [
        PriceStep(date.fromisoformat(on), was_minor, price_minor, Existing(existing))
        for on, was_minor, price_minor, existing in stored or ()
    ]


def list_price(price_minor: int, stored: StoredSteps, day: date) -> int:
    """What the plan costs whoever begins on `day`; `price_minor` is the plan's own column."""
    if not stored:
        return price_minor
    steps = read_steps(stored)
    found = steps[0].was_minor
    for step in steps:
        if step.on <= day:
            found = step.price_minor
    return found


@dataclass(frozen=True, slots=True)
class Begun:
    """What a subscription's prices follow from. `agreed_minor` is the price it was begun at, where
    that is known; changes up to `priced_on` do not count for it."""

    started_on: date
    agreed_minor: int | None
    priced_on: date | None
    bound_until_on: date | None
    bill_day: int


class Standing(NamedTuple):
    """The price that a subscription begins at, and those that follow it."""

    price_minor: int
    later: Prices


def standing(price_minor: int, stored: StoredSteps, begun: Begun) -> Standing:
    """What a subscription to the plan costs from when on, at full prices."""
    priced_on = begun.priced_on or begun.started_on
    first_minor = begun.agreed_minor
    if first_minor is None:
        first_minor = list_price(price_minor, stored, priced_on)
    later: list[tuple[date, int]] = []
    for step in read_steps(stored):
        if step.on <= priced_on or step.existing is Existing.KEEP:
            continue
        day = step.on
        if step.existing is Existing.BILL_DAY:
            day = first_bill_day(day, begun.bill_day)
        is_raise = step.price_minor > at(first_minor, later, day)
        if is_raise and begun.bound_until_on is not None:
            day = max(day, begun.bound_until_on)
            if step.existing is Existing.BILL_DAY:
                day = first_bill_day(day, begun.bill_day)
        later = [each for each in later if each[0] < day]
        if at(first_minor, later, day) != step.price_minor:
            later.append((day, step.price_minor))
    return Standing(first_minor, tuple(later))


def at(first_minor: int, later: Iterable[tuple[date, int]], day: date) -> int:
    """The price on `day`."""
    found = first_minor
    for on, price_minor in later:
        if on <= day:
            found = price_minor
    return found


def first_bill_day(day: date, bill_day: int) -> date:
    """The first day on or after `day` on which a bill period begins."""
    this_month = clock.month_step(day, 0, bill_day)
    return this_month if this_month >= day else clock.month_step(day, 1, bill_day)


def billed(stored: Mapping[str, int]) -> Prices:
    """The `billed_prices` of a subscription: at which its days were billed, each from a day on."""
    return tuple((date.fromisoformat(on), minor) for on, minor in sorted(stored.items()))


def to_store(known: Prices) -> dict[str, int] | None:
    """The same as they are stored."""
    return {on.isoformat(): minor for on, minor in known} or None


def with_billed(known: Prices, known_until: date, part: Span, price_minor: int) -> Prices:
    """`known`, which holds until `known_until`, once the days of `part` are billed at this
    price."""
    found = {on: minor for on, minor in known if not part.from_on <= on < part.until_on}
    found[part.from_on] = price_minor
    if part.until_on < known_until and known[0][0] <= part.until_on:
        found.setdefault(part.until_on, at(known[0][1], known, part.until_on))
    ordered = sorted(found.items())
    return tuple(
        each for place, each in enumerate(ordered) if not place or ordered[place - 1][1] != each[1]
    )
