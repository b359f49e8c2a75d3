"""Accounts that do not pay a tax: the commands, and the bills that follow."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from click.testing import Result

from core import clock
from tests import world
from tests.conftest import Portal


def run(portal: Portal, *args: str) -> Result:
    return portal.app.test_cli_runner().invoke(args=["billing", *args])


def taxes_of_july(ctx: Portal) -> set[str]:
    """The codes of the taxes on alice's bill of July."""
    with clock.set_to(datetime(2026, 7, 1, 20, tzinfo=UTC)):
        world.issue_month(ctx.world, ("alice",), date(2026, 7, 1))
    rows = ctx.rows(
        "SELECT l.ledger FROM invoice_lines l JOIN invoices i ON i.id = l.invoice_id"
        " WHERE i.account_id = :id AND i.issued_on = '2026-07-01' AND l.kind = 'tax'",
        id=ctx.world.accounts["alice"],
    )
    return {row[0].removeprefix("tax:") for row in rows}


def number(ctx: Portal) -> str:
    return str(
        ctx.one("SELECT number FROM accounts WHERE id = :id", id=ctx.world.accounts["alice"])
    )


def test_exempt_account_is_billed_without_the_tax(ctx: Portal) -> None:
    done = run(ctx, "exempt", number(ctx), "STATE", "--from", "2026-07-01", "--reason", "C-77")
    assert done.exit_code == 0
    assert "does not pay STATE from 2026-07-01." in done.output
    assert "STATE  from 2026-07-01  C-77" in run(ctx, "exemptions").output
    assert taxes_of_july(ctx) == {"E911"}
    assert ctx.one("SELECT count(*) FROM activity WHERE kind = 'tax_exempted'") == 1


def test_exemption_that_has_ended_counts_no_more(ctx: Portal) -> None:
    days = ("--from", "2026-01-01", "--to", "2026-12-31")
    run(ctx, "exempt", number(ctx), "STATE", *days, "--reason", "C-77")
    done = run(ctx, "pays-tax", number(ctx), "STATE", "--after", "2026-06-30")
    assert done.exit_code == 0
    assert taxes_of_july(ctx) == {"E911", "STATE"}
    again = run(ctx, "pays-tax", number(ctx), "STATE", "--after", "2026-06-30")
    assert again.exit_code == 1
    assert "pays STATE by then" in again.output


def test_one_that_never_began_is_taken_away(ctx: Portal) -> None:
    run(ctx, "exempt", number(ctx), "STATE", "--from", "2027-01-01", "--reason", "C-77")
    run(ctx, "pays-tax", number(ctx), "STATE", "--after", "2026-06-30")
    assert "Every account pays every tax." in run(ctx, "exemptions").output


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("none", "STATE", "--reason", "x"), "there is no account none"),
        (("{}", "VAT", "--reason", "x"), "there is no tax VAT; the catalog has"),
        (("{}", "STATE", "--reason", " "), "say why"),
        (("{}", "STATE", "--reason", "x" * 201), "longer than 200"),
        (
            ("{}", "STATE", "--reason", "x", "--from", "2026-07-02", "--to", "2026-07-01"),
            "its last day is before its first one",
        ),
        (("{}", "STATE", "--reason", "x", "--from", "2026-07-02T00:00Z"), "--from takes a day"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(
    ctx: Portal, args: tuple[str, ...], said: str
) -> None:
    refused = run(ctx, "exempt", *(part.format(number(ctx)) for part in args))
    assert refused.exit_code != 0
    assert said in refused.output
    assert "Every account pays every tax." in run(ctx, "exemptions").output
