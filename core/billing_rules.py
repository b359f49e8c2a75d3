"""What the ISP decides about billing, with what holds where it decides nothing.

The catalog's `[billing]` table sets them; docs/billing.md lists each with its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class BillingRules:
    """The rules in days, amounts in minor units, and counts.

    `retry_days`: how many days after a failed autopay it is tried again, each time.
    `notice_days`, `debit_notice_days`: how long before autopay takes money it says so, for cards
    and, where the amount varies, for bank debits (12 CFR 1005.10(d)). `scheduled_days`: how far
    ahead a payment may be scheduled. `instalment_notice_days`: how long before an instalment that
    is paid by hand its customer is reminded of it; 0: not at all. `promise_days`: how long a
    promise may last; `instalments_most` and `instalments_days`: in how many parts and within how
    long; `arrangement_from_minor`: from which debt on; `arrangements_a_year`: how often;
    `arrangement_after_days`: for accounts that are at least so old. `refund_limit_minor`,
    `adjustment_limit_minor`: above them a second member of staff approves. `overage_most_minor`:
    the most that is charged for a line's data beyond its plan in a bill period. `call_most_minor`:
    what no single call costs more than; dearer ones are taken for mistakes. `tv_free_day`:
    a TV package can be given back for 24 hours as if it had never been (47 USC 562); elsewhere it
    need not be so. `expiring_days`: how long before a card expires that is said. `journal_codes`:
    the bookkeeping's code of each account of the books, for the export of the journal.
    """

    retry_days: tuple[int, ...] = (2, 4, 7)
    notice_days: int = 3
    debit_notice_days: int = 10
    scheduled_days: int = 60
    instalment_notice_days: int = 3
    promise_days: int = 14
    instalments_most: int = 4
    instalments_days: int = 60
    arrangement_from_minor: int = 2_000
    arrangements_a_year: int = 3
    arrangement_after_days: int = 60
    refund_limit_minor: int = 10_000
    adjustment_limit_minor: int = 5_000
    overage_most_minor: int = 20_000
    call_most_minor: int = 100_000
    tv_free_day: bool = True
    expiring_days: int = 30
    journal_codes: tuple[tuple[str, str], ...] = ()

    @classmethod
    def read(cls, stored: Mapping[str, Any] | None) -> BillingRules:
        """The rules as the ISP's row has them: what it does not name is the default."""
        known = {field.name for field in fields(cls)}
        given = {key: value for key, value in (stored or {}).items() if key in known}
        if "retry_days" in given:
            given["retry_days"] = tuple(given["retry_days"])
        if "journal_codes" in given:
            given["journal_codes"] = tuple(given["journal_codes"].items())
        return cls(**given)


DEFAULT_RULES = BillingRules()
