"""How the demo's accounts pay: who pays when, how much, and what happens on the way."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from gateways.payments.sandbox.store import Decision

SLOTS = 2  # payments are made twice a day


class Habit(StrEnum):
    """How somebody pays bills as a rule."""

    PROMPT = "prompt"  # within two days
    STEADY = "steady"  # before the bill is due
    LATE = "late"  # some days after it was due
    PARTS = "parts"  # a part in time, the rest later
    CLUMSY = "clumsy"  # the first card is declined, or the page is left
    DEBIT = "debit"  # from a bank account, which takes days
    AHEAD = "ahead"  # more than is owed


_SHARES = (
    (Habit.PROMPT, 14),
    (Habit.STEADY, 57),
    (Habit.LATE, 10),
    (Habit.PARTS, 3),
    (Habit.CLUMSY, 3),
    (Habit.DEBIT, 10),
    (Habit.AHEAD, 3),
)


@dataclass(frozen=True, slots=True, order=True)
class Attempt:
    """A wish to pay: a share of what is owed then, in percent, and something beyond it."""

    day: date
    slot: int
    account_id: int
    decision: Decision = Decision.PAY
    percent: int = 100
    extra_minor: int = 0


def choose(dice: random.Random) -> Habit:
    """A habit, as often as it is found among people."""
    habits, weights = zip(*_SHARES, strict=True)
    return Habit(dice.choices(habits, weights)[0])


def attempts(
    habit: Habit, account_id: int, issued_on: date, due_on: date, dice: random.Random
) -> list[Attempt]:
    """What somebody of this habit does about a bill."""
    slot = dice.randrange(SLOTS)

    def at(
        day: date, *, decision: Decision = Decision.PAY, percent: int = 100, extra: int = 0
    ) -> Attempt:
        return Attempt(day, slot, account_id, decision, percent, extra)

    def days(first: int, last: int) -> timedelta:
        return timedelta(days=dice.randint(first, last))

    in_time = due_on - days(0, max(0, (due_on - issued_on).days - 1))
    is_slip = dice.random() < 0.03
    how = dice.choices((Decision.PAY, Decision.CONFIRM), (9, 1))[0]
    wishes = [at(in_time, decision=how)]
    match habit:
        case Habit.PROMPT:
            wishes = [at(issued_on + days(0, 2))]
        case Habit.LATE:
            wishes = [at(due_on + days(2, 18))]
        case Habit.PARTS:
            part = dice.choice((30, 50, 60))
            wishes = [at(in_time, percent=part), at(due_on + days(5, 20))]
        case Habit.CLUMSY if dice.random() < 0.5:
            first = dice.choice((Decision.DECLINE, Decision.DECLINE, Decision.CANCEL))
            wishes = [at(in_time, decision=first), at(in_time + days(1, 3))]
        case Habit.DEBIT:
            wishes = [at(in_time, decision=Decision.DEBIT)]
        case Habit.AHEAD if dice.random() < 0.3:
            wishes = [at(in_time, extra=dice.choice((2500, 5000, 10_000)))]
        case _ if is_slip:
            wishes = [at(due_on + days(1, 25))]
    return wishes
