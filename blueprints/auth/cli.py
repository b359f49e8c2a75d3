"""`flask customers add`: letting a subscriber in by a link. What staff do beside it is in
`blueprints/staff/helping_cli.py`."""

from __future__ import annotations

import click
from flask import current_app

from blueprints.auth import service
from blueprints.auth.errors import AccountUnknown, AlreadyRegistered
from core.commands import Commands

customers_cli = Commands("customers", help="People who sign in.")


@customers_cli.command("add")
@click.argument("account_number")
def add(account_number: str) -> None:
    """Print a one-time link with which the subscriber of ACCOUNT_NUMBER chooses ID and password.

    The link is valid for 21 days; printing a new one ends the old one.
    """
    try:
        token = service.invite(account_number)
    except AccountUnknown:
        raise click.ClickException(
            f"There is no account with the number {account_number}."
        ) from None
    except AlreadyRegistered:
        raise click.ClickException(f"The account {account_number} already has its owner.") from None
    click.echo(f"{current_app.config['PORTAL'].public_url}/welcome/{token}")
    days = service.WELCOME_VALID.days
    click.echo(f"For this subscriber alone: it works once, within {days} days.", err=True)
