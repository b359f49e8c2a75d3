"""A year of autopay with a bank that says no now and then: each bill is taken once."""

from __future__ import annotations

import random
import re
from datetime import date, timedelta

import pytest

from core.billing_rules import DEFAULT_RULES
from core.settings import ROOT
from gateways.payments.sandbox.methods import Behaviour, Saving
from tests import repeats
from tests.billing.planned.diary import MONTH_MINOR, Diary

BEGIN, END = date(2026, 7, 1), date(2027, 6, 30)


def live_a_year(diary: Diary, seed: int, saving: Saving, days_before: int) -> list[str]:
    """Live it; the public ids of the methods that were used, the next after autopay had ended."""
    print(f"seed {seed}")
    dice = random.Random(seed)
    methods = [diary.save(saving=saving)]
    values = {"days_before": str(days_before), "ceiling": "", "range_from": "", "range_to": ""}
    with diary.on(BEGIN - timedelta(days=9)):
        diary.autopay(diary.portal.visitor("alice"), methods[0], **values)
    for number in range((END - BEGIN).days + 30):
        day = BEGIN + timedelta(days=number)
        with diary.on(day):
            if day.day == 1 and day <= END:
                diary.issue(day)
            diary.behave(methods[-1], dice.choice([Behaviour.PAYS, Behaviour.DECLINES]))
            diary.gateway.loses = lambda call: (
                dice.choice([None, None, "before", "after"]) if call == "charge" else None
            )
            diary.work()
            if diary.mandates()[-1] == "failed":
                methods.append(diary.save(saving=saving))
                diary.autopay(diary.portal.visitor("alice"), methods[-1], **values)
    return methods


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize("saving", [Saving.CARD, Saving.BANK])
@pytest.mark.parametrize("number", range(repeats.sized(1, 3, 12)))
def test_each_bill_of_a_year_is_taken_once(diary: Diary, saving: Saving, number: int) -> None:
    days_before = (0, 4, 10)[number % 3]
    live_a_year(diary, 2_026 + number, saving, days_before)
    bills = 2 + 12
    paid = diary.portal.rows(
        "SELECT invoice_id, sum(amount_minor) FROM payments WHERE planned_id IS NOT NULL"
        " AND state = 'succeeded' GROUP BY invoice_id"
    )
    assert [int(minor) for _invoice, minor in paid] == [MONTH_MINOR] * len(paid)
    late = bills - len(paid)
    assert diary.balance() == late * MONTH_MINOR
    assert late <= 1  # the last one may still have a try before it
    # Nothing was taken that had not been said, as many days before as the rules ask.
    for row in diary.portal.rows(
        "SELECT p.created_at, l.told_at, l.due_on, m.kind FROM payments p"
        " JOIN planned_payments l ON l.id = p.planned_id JOIN payment_methods m"
        " ON m.id = l.method_id"
    ):
        taken, told, due = (date.fromisoformat(str(value)[:10]) for value in row[:3])
        assert told + timedelta(days=DEFAULT_RULES.notice_days) <= due <= taken


def test_defaults_in_the_documentation_are_those_of_the_rules() -> None:
    [_, text] = (ROOT / "docs" / "billing.md").read_text().split("\n## Planned payments\n")
    text = text.split("\n## ")[0]
    found: dict[str, tuple[int, ...]] = {}
    for keys, values in re.findall(r"^\|[^|]*\| (`[^|]*`) \| ([0-9, ]+) \|$", text, re.MULTILINE):
        names, numbers = re.findall(r"`(\w+)`", keys), [int(each) for each in values.split(", ")]
        if len(names) == 1:
            found[names[0]] = tuple(numbers)
        else:
            found |= {name: (each,) for name, each in zip(names, numbers, strict=True)}
    assert len(found) >= 10
    for name, values in found.items():
        default = getattr(DEFAULT_RULES, name)
        assert values == (default if isinstance(default, tuple) else (default,)), name
