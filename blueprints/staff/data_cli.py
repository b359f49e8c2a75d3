"""`flask data`: moving the whole database."""

from __future__ import annotations

import sys
from datetime import date, datetime, timedelta

import click
from flask import current_app

from blueprints.staff import copying
from blueprints.staff.copying import CopyResult
from blueprints.staff.errors import CopyImpossible, CopyInterrupted
from core import data_access
from core.commands import Commands, Day, beginning
from core.db import reading

data_cli = Commands("data", help="The whole database.")

NOT_EQUAL = 3
INTERRUPTED = 4


@data_cli.command("copy")
@click.option(
    "--to",
    required=True,
    metavar="URL",
    help="An empty PostgreSQL database: postgresql://user@host/name. A password is better kept in "
    "PGPASSWORD or ~/.pgpass than written here, where others may see it.",
)
@click.option(
    "--batch-rows",
    type=click.IntRange(1, 1_000_000),
    default=copying.BATCH_ROWS,
    show_default=True,
    help="How many rows are committed at a time.",
)
def copy(to: str, batch_rows: int) -> None:
    """Copy everything from SQLite to the PostgreSQL database at URL, and compare both sides.

    End the portal and its worker first. A copy that was interrupted goes on where it was when the
    command is run again. The SQLite file is only read.

    Ends with 0 when both sides are equal, 1 when the copy was refused (it says why), 3 when the
    sides differ, 4 when the target went away: run it again then.
    """
    try:
        result = copying.run(current_app.config["PORTAL"], to, click.echo, batch_rows)
    except CopyImpossible as error:
        raise click.ClickException(str(error)) from None
    except CopyInterrupted as error:
        click.echo(f"The target went away: {error}", err=True)
        click.echo("Run the command again: it goes on where it was.", err=True)
        sys.exit(INTERRUPTED)
    _tell_checks(result)
    if not result.is_equal:
        for fault in result.faults:
            click.echo(fault, err=True)
        click.echo(
            "The copy is not equal: do not use it. Was something written to the SQLite file "
            "meanwhile? Make a new, empty database and copy again.",
            err=True,
        )
        sys.exit(NOT_EQUAL)
    _tell_next(result)


@data_cli.command("accesses")
@click.option("--account", metavar="NUMBER", help="Of one account; default: of all.")
@click.option("--from", "from_", required=True, type=Day(), help="A day, or an instant.")
@click.option("--to", required=True, type=Day(), help="A day, which counts whole, or an instant.")
def accesses(account: str | None, from_: datetime | date, to: datetime | date) -> None:
    """List whose personal data was read, which fields, when and by whom."""
    begin, end = beginning(from_), beginning(to)
    if not isinstance(to, datetime):
        end = beginning(to + timedelta(days=1))
    with reading() as session:
        found = data_access.list_noted(session, begin, end, account)
    for each in found:
        whose = " ".join(
            part
            for part in (
                f"account {each.account_number}" if each.account_number else "",
                f"person {each.customer_public_id}" if each.customer_public_id else "",
            )
            if part
        )
        click.echo(
            f"{each.read_at:%Y-%m-%d %H:%M:%S}Z  {each.reader}  {whose}  {each.fields}"
            f"  ({each.purpose})"
        )
    click.echo(f"{len(found):,} reads.", err=True)


def _tell_checks(result: CopyResult) -> None:
    if not result.checks:
        return
    width = max(len(check.name) for check in result.checks)
    click.echo(f"{'table':<{width}}  {'SQLite':>12}  {'PostgreSQL':>12}  content")
    for check in result.checks:
        word = f"equal {check.source.sha256[:12]}" if check.is_equal else "DIFFERS"
        click.echo(
            f"{check.name:<{width}}  {check.source.rows:>12,}  {check.target.rows:>12,}  {word}"
        )


def _tell_next(result: CopyResult) -> None:
    if result.checks:
        click.echo("Both sides are equal, the books add up, rules and triggers are in place.")
    click.echo(f"Now set DATABASE_URL={result.target_shown}")
    if result.needs_password:
        click.echo("(with its password in place of ***) and start the portal.")
    else:
        click.echo("and start the portal.")
    click.echo(
        f"{result.source} stays as it is and is no longer used. Keep LASTMILE_DATA and "
        "LASTMILE_SECRET as they are."
    )
