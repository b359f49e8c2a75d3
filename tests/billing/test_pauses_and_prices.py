"""Pauses and dated prices together, billed again and again: what was charged is what a model that
looks at one day after the other says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from blueprints.billing import prices
from blueprints.billing.drafting import (
    BilledAccount,
    BilledSubscription,
    TaxRule,
    compute,
    first_changeable,
)
from blueprints.billing.periods import Span, cost_of, period_of
from blueprints.billing.prices import Begun, Existing, PriceStep

DAY = timedelta(days=1)
FEE = TaxRule("FEE", "Fee", None, 100, ("internet",), None, None)


@dataclass
class Life:
    """A subscription, the changes of its plan's price, and what the model knows of its days."""

    dice: Random
    bill_day: int
    use: BilledSubscription
    next_on: date
    bound_until_on: date | None
    steps: list[PriceStep] = field(default_factory=list)
    minor_of: dict[date, int] = field(default_factory=dict)
    charged: int = 0

    def chance(self, of_one: float) -> bool:
        return self.dice.random() < of_one

    def live(self, today: date) -> None:
        """Whatever people may do on a day."""
        if self.chance(0.1):
            self._price(today)
        if self.chance(0.05):
            self._pause(today)
        if self.chance(0.01):
            if self.use.ended_on is None:
                on = today + DAY * self.dice.randrange(50)
                if self.chance(0.5):
                    on = period_of(on, self.bill_day).until_on
                self.use = replace(self.use, ended_on=max(self.use.started_on, on))
            elif self.use.ended_on > today:
                self.use = replace(self.use, ended_on=None)
        self._follow()

    def _price(self, today: date) -> None:
        if self.steps and self.steps[-1].on > today:
            self.steps.pop()
            return
        on = today + DAY * self.dice.randrange(1, 60)
        was_minor = self.steps[-1].price_minor if self.steps else 5000
        minor = self.dice.choice([3900, 4500, 6000, 7300])
        if minor != was_minor:
            existing = self.dice.choice(list(Existing))
            self.steps.append(PriceStep(on, was_minor, minor, existing))

    def _pause(self, today: date) -> None:
        """Begins today, or ends; a contract binds as much longer."""
        use, last = self.use, self.use.paused[-1] if self.use.paused else None
        if last is None or last.until_on <= today:
            if today >= use.started_on and (use.ended_on is None or use.ended_on > today):
                made = Span(today, today + DAY * self.dice.randrange(3, 70))
                self.use = replace(use, paused=(*use.paused, made))
                self._prolong(today, made.days)
        elif last.from_on < today:
            ended = Span(last.from_on, today)
            self.use = replace(use, paused=(*use.paused[:-1], ended))
            self._prolong(today, ended.days - last.days)

    def _prolong(self, today: date, days: int) -> None:
        if self.bound_until_on is not None and self.bound_until_on > today:
            self.bound_until_on += DAY * days

    def _follow(self) -> None:
        begun = Begun(self.use.started_on, 5000, None, self.bound_until_on, self.bill_day)
        found = prices.standing(5000, [step.stored() for step in self.steps], begun)
        self.use = replace(self.use, later=found.later)

    def is_listed(self, issued_on: date) -> bool:
        """As `IS_NOT_BILLED_OUT` says."""
        use = self.use
        if use.ended_on is None:
            return True
        if use.billed_until_on is None:
            return use.ended_on > use.started_on
        return (
            use.billed_until_on != use.ended_on
            or use.paused != use.billed_paused
            or bool(use.billed_prices)
            or (bool(self.steps) and use.ended_on > first_changeable(issued_on))
        )

    def bill(self) -> None:
        span = period_of(self.next_on, self.bill_day)
        if self.is_listed(span.from_on):
            account = BilledAccount(1, self.bill_day, span, subscriptions=(self.use,))
            lines, marks = compute(account, (FEE,), span.from_on)
            self.charged += sum(line.amount_minor for line in lines)
            for mark in marks:
                self.use = replace(
                    self.use,
                    billed_until_on=mark.until_on,
                    billed_price_minor=mark.price_minor,
                    billed_taxes=mark.taxes,
                    billed_paused=mark.paused,
                    billed_prices=mark.prices,
                )
        self._bill_days(span)
        self.next_on = span.until_on

    def _bill_days(self, span: Span) -> None:
        """A day keeps the lowest price that it had when a bill was made, while it is had."""
        until = span.until_on if self.use.ended_on is None else self.use.ended_on
        day, known = self.use.started_on, self.minor_of
        self.minor_of = {}
        while day < min(until, span.until_on):
            now = self.use.price_on(day)
            self.minor_of[day] = min(known.get(day, now), now)
            day += DAY

    @property
    def cost(self) -> int:
        """What its days cost in the end, and a fee for each period with one in use."""
        used = [
            day
            for day in self.minor_of
            if not any(hole.from_on <= day < hole.until_on for hole in self.use.paused)
        ]
        periods = {day: period_of(day, self.bill_day) for day in used}
        days = sum(cost_of(self.minor_of[day], Span(day, day + DAY), periods[day]) for day in used)
        return days + 100 * len(set(periods.values()))


@settings(max_examples=60)
@given(st.integers(0, 1_000_000))
def test_bills_come_to_what_each_day_costs(seed: int) -> None:
    dice = Random(seed)
    bill_day = dice.choice([1, 5, 15, 28, 30, 31])
    today = period_of(date(2026, 1, 15), bill_day).from_on
    started_on = today + DAY * dice.randrange(40)
    intro_until_on = started_on + DAY * dice.randrange(20, 100)
    use = BilledSubscription(1, "Air", "internet", 5000, 3000, intro_until_on, started_on)
    if dice.random() < 0.7:
        use = replace(use, intro_price_minor=None, intro_until_on=None)
    bound_until_on = started_on + DAY * dice.randrange(200) if dice.random() < 0.5 else None
    life = Life(dice, bill_day, use, today, bound_until_on)
    for _ in range(330):
        life.live(today)
        is_ahead = life.next_on <= today + DAY * 31 and life.chance(0.06)
        if life.next_on == today or is_ahead:
            life.bill()
            assert life.charged == life.cost
        today += DAY


def test_days_charged_after_a_pause_are_given_back_at_what_they_cost_then() -> None:
    may, june, july = date(2026, 5, 1), date(2026, 6, 1), date(2026, 7, 1)
    use = BilledSubscription(
        1, "Air", "internet", 5000, None, None, date(2026, 1, 1), None, june, 6000, {},
        (), (Span(date(2026, 5, 21), june),),
    )  # fmt: skip
    account = BilledAccount(1, 1, Span(june, july), subscriptions=(use,))
    lines, [mark] = compute(account, (), june)
    assert [line.amount_minor for line in lines] == [5000, 1774]
    assert mark.prices == ((date(2026, 1, 1), 6000), (date(2026, 5, 21), 5000))
    gone = replace(
        use, billed_until_on=july, billed_price_minor=5000, billed_paused=(),
        billed_prices=mark.prices, ended_on=may,
    )  # fmt: skip
    account = BilledAccount(1, 1, Span(july, date(2026, 8, 1)), subscriptions=(gone,))
    lines, _marks = compute(account, (), july)
    assert [line.amount_minor for line in lines] == [-3871, -1774, -5000]
