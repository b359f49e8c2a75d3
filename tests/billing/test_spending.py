"""What was billed, by month and kind of service."""

from __future__ import annotations

from datetime import date

import pytest

from blueprints.billing import spending
from tests.conftest import Portal

TODAY = date(2026, 6, 20)


def test_months_and_kinds_sum_to_what_was_billed(ctx: Portal) -> None:
    found = spending.find_spending(ctx.world.accounts["alice"], TODAY)
    assert found.kinds == ("internet", "tv", "phone", "tax")
    assert [month.first_on.month for month in found.months] == [*range(7, 13), *range(1, 7)]
    billed = ctx.one(
        "SELECT sum(total_minor) FROM invoices WHERE account_id = :id",
        id=ctx.world.accounts["alice"],
    )
    assert found.total.amount_minor == billed
    assert sum(month.total.amount_minor for month in found.months) == billed
    assert sum(part.amount_minor for part in found.sums) == billed
    assert found.months[-1].parts[0].amount_minor == 6500


def test_page_shows_a_chart_and_the_same_as_a_table(portal: Portal) -> None:
    page = portal.visitor("alice").get(portal.path("billing/spending"))
    assert page.status == 200
    [chart] = page.select("svg.chart")
    assert chart.get("role") == "img"
    assert chart.get("aria-label")
    assert len(chart.cssselect("path[class]")) == 4
    assert [item.text_content() for item in page.select(".legend li")] == [
        "Internet", "TV", "Phone", "Taxes and fees",
    ]  # fmt: skip
    assert len(page.select("main tbody tr")) == 13
    assert "June 2026" in page.text


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_account_that_was_never_billed_is_told_so(portal: Portal) -> None:
    page = portal.visitor("rich").get(portal.path("billing/spending", "rich"))
    assert "No bill in the last twelve months" in page.text
    assert not page.select("svg.chart")


@pytest.mark.parametrize(
    ("ledger", "kind"),
    [
        ("revenue:tv", "tv"),
        ("revenue:adjustment", "other"),
        ("tax:STATE", "tax"),
        ("equity:opening", "other"),
        ("revenue", "other"),
    ],
)
def test_kind_of_a_line(ledger: str, kind: str) -> None:
    assert spending.kind_of(ledger) == kind
