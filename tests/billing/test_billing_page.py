"""What docs/billing.md says by way of example is what the portal computes."""

from __future__ import annotations

from datetime import date

from blueprints.billing.drafting import BilledAccount, BilledSubscription, TaxRule, compute
from blueprints.billing.periods import Span
from core.money import Money, format_plain
from core.settings import ROOT

TAXES = (
    TaxRule("STATE", "State tax", 625, None, ("tv", "phone"), None, None),
    TaxRule("E911", "911 fee", None, 125, ("phone",), None, None),
)
CHANGED, FEBRUARY = date(2026, 1, 20), date(2026, 2, 1)


def test_example_is_computed() -> None:
    start = date(2026, 1, 1)
    subscriptions = (
        BilledSubscription(1, "Air 50", "internet", 6500, None, None, start, None, FEBRUARY, 6500),
        BilledSubscription(2, "Home", "phone", 1800, None, None, start, CHANGED, FEBRUARY, 1800),
        BilledSubscription(3, "World", "phone", 2800, None, None, CHANGED),
    )
    span = Span(FEBRUARY, date(2026, 3, 1))
    lines, _marks = compute(BilledAccount(1, 1, span, None, subscriptions), TAXES, FEBRUARY)
    rows = ["| what | days | amount |", "|---|---|---|"]
    for line in lines:
        days = f"{line.period_from} – {line.period_to}" if line.period_from else ""
        amount = format_plain(Money(line.amount_minor, "USD"))
        rows.append(f"| {line.description} | {days} | {amount} |")
    total = format_plain(Money(sum(line.amount_minor for line in lines), "USD"))
    rows.append(f"| **Total** |  | **{total}** |")
    page = (ROOT / "docs" / "billing.md").read_text()
    shown = page.split("<!-- example: begin -->\n")[1].split("<!-- example: end -->")[0]
    assert shown.splitlines() == rows
