"""What follows from how much of what is included is used. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

USUAL_PERCENTS = (75, 90, 100)
MOST_PERCENTS = 5
HIGHEST_PERCENT = 300
TOP_UP_DAYS = 30
"""How long a top-up lasts where the catalog does not say."""


@dataclass(frozen=True, slots=True)
class KnownTopUp:
    """A top-up and how much of it each bill period used, by the first day of the period."""

    top_up_id: int
    amount_bytes: int
    bought_on: date
    expires_on: date
    uses: Mapping[date, int]

    def left_for(self, period_on: date) -> int:
        """What the other periods leave for this one."""
        others = sum(used for on, used in self.uses.items() if on != period_on)
        return max(0, self.amount_bytes - others)


def percents_of(chosen: Sequence[int] | None) -> tuple[int, ...]:
    """The thresholds of a line in percent of what is included: its own, or the usual ones."""
    return USUAL_PERCENTS if chosen is None else tuple(chosen)


def crossed(percents: Iterable[int], used_bytes: int, included_bytes: int) -> list[int]:
    """The thresholds that are reached, the lowest first."""
    return sorted(
        percent for percent in percents if used_bytes * 100 >= percent * included_bytes > 0
    )


def spend(
    top_ups: Iterable[KnownTopUp], over_bytes: int, period_on: date, last_on: date
) -> tuple[dict[int, int], int]:
    """How much of each top-up the period uses, of `over_bytes` beyond what is included, and how
    much nothing covers. `last_on` is the last day of the period so far: what has expired by then
    covers what it did before."""
    uses, rest = {}, over_bytes
    for each in sorted(top_ups, key=lambda one: (one.expires_on, one.top_up_id)):
        if each.bought_on > last_on:
            continue
        most = each.left_for(period_on)
        if each.expires_on < last_on:
            most = min(most, each.uses.get(period_on, 0))
        used = min(most, rest)
        if used:
            uses[each.top_up_id] = used
        rest -= used
    return uses, rest


def blocks_of(over_bytes: int, block_bytes: int) -> int:
    """How many blocks are begun."""
    return -(-over_bytes // block_bytes)
