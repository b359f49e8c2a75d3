"""`flask billing exempt`, `pays-tax` and `exemptions`: accounts that do not pay a tax."""

from __future__ import annotations

from datetime import date, datetime

import click

from blueprints.billing import exempting
from core import clock
from core.commands import Day
from core.db import unit_of_work
from core.isp import current_isp


@click.command("exempt")
@click.argument("account")
@click.argument("tax")
@click.option("--from", "from_on", type=Day(), help="The first day; default is today.")
@click.option("--to", "to_on", type=Day(), help="The last day; default is none.")
@click.option("--reason", required=True, help="Why, like the number of a certificate.")
def exempt(
    account: str,
    tax: str,
    from_on: date | datetime | None,
    to_on: date | datetime | None,
    reason: str,
) -> None:
    """Exempt ACCOUNT (its number) from TAX (its code in the catalog).

    Bills issued from the first day on are without it. Run again it changes days and reason.
    """
    first_on, last_on = _day("--from", from_on) or _today(), _day("--to", to_on)
    try:
        account_id = exempting.find_account_id(account)
        wish = exempting.Wish(account_id, tax, first_on, last_on, reason)
        unit_of_work(lambda session: exempting.exempt(session, wish), account_id)
    except exempting.ExemptionRefused as refusal:
        raise click.ClickException(f"{refusal}.") from None
    until = f" until {last_on}" if last_on else ""
    click.echo(f"Account {account} does not pay {tax} from {first_on}{until}.")


@click.command("pays-tax")
@click.argument("account")
@click.argument("tax")
@click.option("--after", "last_on", type=Day(), help="The last day without; default is today.")
def pays_tax(account: str, tax: str, last_on: date | datetime | None) -> None:
    """End the exemption of ACCOUNT (its number) from TAX (its code in the catalog)."""
    day = _day("--after", last_on) or _today()
    try:
        account_id = exempting.find_account_id(account)
        unit_of_work(lambda session: exempting.end(session, account_id, tax, day), account_id)
    except exempting.ExemptionRefused as refusal:
        raise click.ClickException(f"{refusal}.") from None
    click.echo(f"Account {account} pays {tax} again after {day}.")


@click.command("exemptions")
def exemptions() -> None:
    """List the accounts that do not pay a tax."""
    found = exempting.list_exemptions()
    for each in found:
        until = f" until {each.to_on}" if each.to_on else ""
        click.echo(
            f"{each.account_number}  {each.tax_code}  from {each.from_on}{until}  {each.reason}"
        )
    if not found:
        click.echo("Every account pays every tax.")


def _today() -> date:
    return clock.today(current_isp().timezone)


def _day(option: str, given: date | datetime | None) -> date | None:
    if isinstance(given, datetime):
        raise click.ClickException(f"{option} takes a day, like 2026-03-31.")
    return given
