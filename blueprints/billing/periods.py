"""Bill periods, and what a part of one costs. Pure: days and minor units, no database.

A bill period runs from the bill day to the day before the next one, by calendar steps (31 January →
28 February). What a subscription costs for some days of a period is the price of the days up to the
last of them less the price of the days before the first. So whatever a period is cut into, its
parts sum to the price, and a part that is credited and the same part charged cancel to the minor
unit (bar 60).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from core import clock
from core.money import round_half_away

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Span:
    """Days from `from_on` until the day before `until_on`."""

    from_on: date
    until_on: date

    @property
    def days(self) -> int:
        return (self.until_on - self.from_on).days

    @property
    def last_on(self) -> date:
        return self.until_on - _DAY


def without(span: Span, holes: Iterable[Span]) -> list[Span]:
    """The parts of `span` that lie in none of `holes`, in order; what is empty has none."""
    parts = [span] if span.from_on < span.until_on else []
    for hole in holes:
        parts = [
            rest
            for part in parts
            for rest in (
                Span(part.from_on, min(part.until_on, hole.from_on)),
                Span(max(part.from_on, hole.until_on), part.until_on),
            )
            if rest.from_on < rest.until_on
        ]
    return parts


def within(spans: Iterable[Span], bounds: Span) -> list[Span]:
    """What of `spans` lies within `bounds`."""
    clipped = (
        Span(max(each.from_on, bounds.from_on), min(each.until_on, bounds.until_on))
        for each in spans
    )
    return [each for each in clipped if each.from_on < each.until_on]


def read_spans(text: str) -> tuple[Span, ...]:
    """Spans as they are stored: `2026-07-05/2026-07-25`, with spaces between them."""
    return tuple(
        Span(*(date.fromisoformat(day) for day in each.split("/"))) for each in text.split()
    )


def write_spans(spans: Sequence[Span]) -> str:
    """What `read_spans` reads."""
    return " ".join(f"{each.from_on}/{each.until_on}" for each in spans)


def period_of(day: date, bill_day: int) -> Span:
    """The bill period in which `day` lies. `bill_day` is 1 to 31; a shorter month ends on its last
    day and begins its period there."""
    start = clock.month_step(day, 0, bill_day)
    if start > day:
        start = clock.month_step(day, -1, bill_day)
    return Span(start, clock.month_step(start, 1, bill_day))


def cost_of(price_minor: int, part: Span, period: Span) -> int:
    """What `part`, which lies within `period`, costs of the period's price, in minor units."""

    def cost_until(day: date) -> int:
        return round_half_away(price_minor * (day - period.from_on).days, period.days)

    return cost_until(part.until_on) - cost_until(part.from_on)


def cut(span: Span, bill_day: int, *edges: date | None) -> Iterator[tuple[Span, Span]]:
    """The parts of `span` with the period each lies in, in order; also cut at `edges`."""
    day = span.from_on
    while day < span.until_on:
        period = period_of(day, bill_day)
        until = min(span.until_on, period.until_on)
        for edge in edges:
            if edge is not None and day < edge < until:
                until = edge
        yield Span(day, until), period
        day = until
