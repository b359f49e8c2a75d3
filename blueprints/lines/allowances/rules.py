"""What follows from how much of what is included is used. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from blueprints.billing.periods import Span

USUAL_PERCENTS = (75, 90, 100)
MOST_PERCENTS = 5
HIGHEST_PERCENT = 300
TOP_UP_DAYS = 30
"""How long a top-up lasts where the catalog does not say."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a bill period was counted when the plan in use began in it, on `began_on`.

    `earned` is what the plans before it include, times the days on which each was in use. The line
    had carried `carried_bytes`, of which `free_bytes` count against nothing, as what was carried
    under a plan without a limit; `over_bytes` were beyond what a plan before included, and
    `spared_bytes` are beyond it but not charged, as the plan before did not.
    """

    began_on: date
    earned: int = 0
    carried_bytes: int = 0
    free_bytes: int = 0
    over_bytes: int = 0
    spared_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Count:
    """What a line has carried in the bill period `span`. The plan in use since `mark` includes
    `plan_bytes` in a whole period, None: it has no limit.

    Each plan includes its share by days, so that changing to and fro gains nothing.
    """

    span: Span
    plan_bytes: int | None
    carried_bytes: int
    mark: Mark

    @property
    def _shares_bytes(self) -> int:
        days = (self.span.until_on - self.mark.began_on).days
        return (self.mark.earned + (self.plan_bytes or 0) * days) // self.span.days

    @property
    def included_bytes(self) -> int:
        """What the period includes. At least what had been used when the plan began, less what was
        beyond it already: a change alone takes nothing back that was included."""
        mark = self.mark
        return max(self._shares_bytes, mark.carried_bytes - mark.free_bytes - mark.over_bytes)

    @property
    def used_bytes(self) -> int:
        """What counts against it."""
        return self.carried_bytes - self._free_bytes

    @property
    def over_bytes(self) -> int:
        """What is beyond it; with a plan without a limit, what was when that began."""
        if self.plan_bytes is None:
            return self.mark.over_bytes
        return max(0, self.used_bytes - self.included_bytes)

    @property
    def _free_bytes(self) -> int:
        if self.plan_bytes is not None:
            return self.mark.free_bytes
        return self.mark.free_bytes + self.carried_bytes - self.mark.carried_bytes

    def mark_on(self, day: date) -> Mark:
        """The mark with which another plan begins on `day`, but for what is not to be charged."""
        days = (day - self.mark.began_on).days
        return Mark(
            day,
            self.mark.earned + (self.plan_bytes or 0) * days,
            self.carried_bytes,
            self._free_bytes,
            max(self.mark.over_bytes, self.over_bytes),
        )

    def follow(self, plan_bytes: int | None, day: date, covered_bytes: int) -> Count:
        """The count once a plan that includes `plan_bytes` begins on `day`, where top-ups and
        blocks cover so much. Nothing is left to charge of what was carried before, and a block that
        is not used up still covers what comes."""
        mark = self.mark_on(day)
        after = Count(self.span, plan_bytes, self.carried_bytes, mark)
        spared = self.mark.spared_bytes
        spared += max(0, self.over_bytes - covered_bytes - spared)
        spared = max(min(spared, after.over_bytes), after.over_bytes - covered_bytes)
        return replace(after, mark=replace(mark, spared_bytes=max(0, spared)))

    def would_gain(self, plan_bytes: int | None, day: date) -> bool:
        """Whether more has been used than is included by days, if a plan that includes `plan_bytes`
        begins on `day`; or without a limit by a plan that is not paid for any day."""
        if plan_bytes is None:
            return False
        mark = self.mark_on(day)
        after = Count(self.span, plan_bytes, self.carried_bytes, mark)
        is_fleeting = self.plan_bytes is None and self.mark.began_on == day
        return after.included_bytes > after._shares_bytes or (
            is_fleeting and self.carried_bytes > self.mark.carried_bytes
        )


@dataclass(frozen=True, slots=True)
class KnownTopUp:
    """A top-up and how much of it each bill period used, by the first day of the period."""

    top_up_id: int
    amount_bytes: int
    bought_on: date
    expires_on: date
    uses: Mapping[date, int]

    @property
    def left_bytes(self) -> int:
        return max(0, self.amount_bytes - sum(self.uses.values()))


def percents_of(chosen: Sequence[int] | None) -> tuple[int, ...]:
    """The thresholds of a line in percent of what is included: its own, or the usual ones."""
    return USUAL_PERCENTS if chosen is None else tuple(chosen)


def crossed(percents: Iterable[int], used_bytes: int, included_bytes: int) -> list[int]:
    """The thresholds that are reached, the lowest first."""
    return sorted(
        percent for percent in percents if used_bytes * 100 >= percent * included_bytes > 0
    )


def spend(top_ups: Iterable[KnownTopUp], open_bytes: int, day: date) -> tuple[dict[int, int], int]:
    """How much more of each top-up is used for `open_bytes` that nothing covers yet, on `day`, and
    how much still nothing covers."""
    uses, rest = {}, open_bytes
    for each in sorted(top_ups, key=lambda one: (one.expires_on, one.top_up_id)):
        if each.bought_on <= day <= each.expires_on and (used := min(each.left_bytes, rest)):
            uses[each.top_up_id] = used
            rest -= used
    return uses, rest


def blocks_of(over_bytes: int, block_bytes: int) -> int:
    """How many blocks are begun."""
    return -(-over_bytes // block_bytes)
