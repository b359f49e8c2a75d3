"""What the ISP does about bills that are not paid, with what holds where it decides nothing.

The catalog's `[dunning]` table sets the usual policy and `dunning` of a group in `[[groups]]` what
is different there; docs/billing.md lists each key with its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from typing import Any

from models import Channel


@dataclass(frozen=True, slots=True)
class Reminder:
    """A reminder `days` after the due day, before it where that is negative, by `channels`."""

    days: int
    channels: tuple[Channel, ...] = (Channel.EMAIL,)


@dataclass(frozen=True, slots=True)
class DunningPolicy:
    """Days count from the due day, amounts are minor units.

    `floor_minor`: nothing happens while less than this is overdue. A late fee of `fee_minor`, or of
    `fee_bp` basis points of what is open, is charged `fee_after_days`, once or, with
    `is_fee_monthly`, again each month. After `hold_after_days` lines are held, and after
    `close_after_days` the account is closed; None for never. Neither comes before
    `notice_days` have passed since a reminder that it was overdue.
    """

    reminders: tuple[Reminder, ...] = (
        Reminder(-3),
        Reminder(1),
        Reminder(7, (Channel.EMAIL, Channel.TEXT)),
    )
    floor_minor: int = 500
    fee_minor: int = 0
    fee_bp: int = 0
    fee_after_days: int = 10
    is_fee_monthly: bool = False
    hold_after_days: int | None = 21
    close_after_days: int | None = 90
    notice_days: int = 7

    @property
    def has_fee(self) -> bool:
        return bool(self.fee_minor or self.fee_bp)

    def changed_by(self, stored: Mapping[str, Any] | None) -> DunningPolicy:
        """This policy with what `stored` (a checked table of the catalog) names instead."""
        known = {each.name for each in fields(self)}
        given = {key: value for key, value in (stored or {}).items() if key in known}
        for key in ("hold_after_days", "close_after_days"):
            if key in given:  # a TOML file has no null
                given[key] = given[key] or None
        if "reminders" in given:
            given["reminders"] = tuple(
                Reminder(each["days"], tuple(Channel(name) for name in each["channels"]))
                for each in given["reminders"]
            )
        return replace(self, **given)


SATURDAY, SUNDAY = 6, 7
LONGEST_HOLIDAYS = 60


@dataclass(frozen=True, slots=True)
class DunningRules:
    """The usual policy and when the ISP works. `hour`: when the worker takes the steps of the day;
    None for not by itself. `weekend`: days of the week without steps that hurt, 1 for Monday."""

    usual: DunningPolicy = DunningPolicy()
    hour: int | None = None
    weekend: tuple[int, ...] = (SATURDAY, SUNDAY)
    holidays: tuple[date, ...] = ()

    @classmethod
    def read(cls, stored: Mapping[str, Any] | None) -> DunningRules:
        """The rules as the ISP's row has them: what it does not name is the default."""
        table = stored or {}
        return cls(
            DunningPolicy().changed_by(table),
            table.get("hour"),
            tuple(table.get("weekend", (SATURDAY, SUNDAY))),
            tuple(date.fromisoformat(day) for day in table.get("holidays", ())),
        )

    def is_working(self, day: date) -> bool:
        """Whether a step that hurts may be taken on `day`."""
        return day.isoweekday() not in self.weekend and day not in self.holidays

    def working(self, day: date) -> date:
        """`day`, or the first one after it on which the ISP works."""
        for ahead in range(LONGEST_HOLIDAYS):
            later = day + timedelta(days=ahead)
            if self.is_working(later):
                return later
        return day


USUAL_RULES = DunningRules()
