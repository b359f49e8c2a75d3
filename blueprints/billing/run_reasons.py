"""Why a bill run stands out, or has stopped: kept as facts, said in the reader's language."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from flask_babel import gettext as _

from core import words
from core.money import Money, format_money


class Standout(StrEnum):
    """What in a plan stops a run until its total is accepted."""

    MANY_ITEMS = "many_items"
    BILLED_TWICE = "billed_twice"
    COSTS_MORE = "costs_more"


@dataclass(frozen=True, slots=True)
class Reason:
    """A thing that stands out, with the facts of its sentence."""

    kind: Standout
    facts: Mapping[str, Any]

    def as_facts(self) -> dict[str, Any]:
        return {"kind": self.kind.value, **self.facts}

    @staticmethod
    def read(kept: Mapping[str, Any]) -> Reason:
        """What `as_facts` gave."""
        facts = {name: value for name, value in kept.items() if name != "kind"}
        return Reason(Standout(kept["kind"]), facts)

    def words(self, currency: str) -> str:
        """Its sentence, without a full stop, in the language that is spoken (core.words)."""
        facts = self.facts
        match self.kind:
            case Standout.MANY_ITEMS:
                return _(
                    "account %(number)s would get %(count)s items in one day",
                    number=facts["number"],
                    count=facts["count"],
                )
            case Standout.BILLED_TWICE:
                return _(
                    "account %(number)s would pay for %(what)s twice",
                    number=facts["number"],
                    what=facts["what"],
                )
            case Standout.COSTS_MORE:
                language = words.language()
                return _(
                    "a subscription would cost %(next)s on average, "
                    "and cost %(last)s in the last period",
                    next=format_money(Money(facts["next_minor"], currency), language),
                    last=format_money(Money(facts["last_minor"], currency), language),
                )


class Stop(StrEnum):
    """Why a run ended before it was done, as its row keeps it."""

    STANDS_OUT = "stands_out"
    BY_STAFF = "by_staff"
    KILLED = "killed"
    BROKE_OFF = "broke_off"


def words_of_stop(because: str) -> str:
    """A row's `stopped_because` as a sentence: a `Stop`, and after it what broke the run off."""
    name, _colon, detail = because.partition(":")
    match name:
        case Stop.STANDS_OUT:
            return _("What it would bill stands out.")
        case Stop.BY_STAFF:
            return _("Staff stopped it.")
        case Stop.KILLED:
            return _(
                "It was killed. What it has issued stays; the next run goes on where it ended."
            )
        case _:
            return _("It broke off (%(what)s).", what=detail or name)
