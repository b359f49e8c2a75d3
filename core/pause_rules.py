"""How an account may be paused, as the ISP says: the catalog's `[pause]` table (docs/plans.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class PauseRules:
    """The plans of `kinds` rest for `least_days` to `most_days` at a time, `most_days_a_year` in a
    calendar year, from `notice_days` after it is asked for on. `plan` is the code of the option
    that is paid for meanwhile, empty for none. `prolongs_contract`: a contract binds as many days
    longer."""

    kinds: tuple[str, ...] = ("internet", "tv", "phone")
    least_days: int = 14
    most_days: int = 90
    most_days_a_year: int = 90
    notice_days: int = 1
    plan: str = ""
    prolongs_contract: bool = True

    @classmethod
    def read(cls, stored: Mapping[str, Any] | None) -> PauseRules | None:
        """The rules as the ISP's row has them; None where pausing is not offered."""
        if stored is None:
            return None
        known = {field.name for field in fields(cls)}
        given = {key: value for key, value in stored.items() if key in known}
        if "kinds" in given:
            given["kinds"] = tuple(given["kinds"])
        return cls(**given)
