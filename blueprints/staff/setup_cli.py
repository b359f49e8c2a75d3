"""`flask setup`: the first steps of a real deployment: a database, and an ISP with plans."""

from __future__ import annotations

from pathlib import Path

import click
from flask import current_app
from flask.cli import with_appcontext

from blueprints.staff import members
from blueprints.staff.cli import load_catalog
from blueprints.staff.members_cli import tell_link
from core.commands import in_words
from core.errors import Refusal
from core.isp import current_isp
from core.migrate import upgrade
from models import StaffRole


@click.command("setup")
@click.argument("catalog_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--administrator",
    nargs=2,
    metavar="NAME EMAIL",
    help="Who the first administrator is. Default: the ISP's support address.",
)
@click.pass_context
@with_appcontext
def setup_command(
    context: click.Context, catalog_file: Path, administrator: tuple[str, str] | None
) -> None:
    """Make the database and load the ISP's brand and plans from CATALOG_FILE.

    Safe to run again: the schema is brought up to date and the catalog is updated in place. While
    nobody can sign in as administrator, it ends with a one-time link for the first one.
    """
    settings = current_app.config["PORTAL"]
    if settings.is_demo:
        raise click.ClickException("LASTMILE_DEMO=1 makes its own ISP: unset it for a real one.")
    with in_words():
        upgrade(settings)
        context.invoke(load_catalog, file=catalog_file)
        invite_first_administrator(administrator)
    click.echo("Next: flask accounts import FILE.csv, then flask customers add ACCOUNT_NUMBER")


def invite_first_administrator(who: tuple[str, str] | None) -> None:
    """Print the link of the first administrator, unless there is one who signs in (bar 12)."""
    if members.has_administrator():
        return
    name, email = who or ("Administrator", current_isp().support_email)
    if not email:
        click.echo("Then the first administrator: flask staff add NAME EMAIL --role administrator")
        return
    try:
        token = members.add(name, email, StaffRole.ADMINISTRATOR)
    except Refusal as refusal:
        raise click.ClickException(refusal.customer_message) from None
    click.echo(f"The first administrator, {name} ({email}), signs in with this link:")
    tell_link(name, token)
