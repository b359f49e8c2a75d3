"""`flask backup` and `flask restore`."""

from __future__ import annotations

import contextlib
from datetime import UTC, timedelta
from functools import partial
from pathlib import Path

import click
from flask import current_app
from flask.cli import with_appcontext
from sqlalchemy.exc import SQLAlchemyError

from blueprints.billing.verify import find_faults
from blueprints.dashboard.settings import closing
from core import backup, nightly, restore
from core.backup_file import BackupFailed, Manifest, NoPlace
from core.db import DatabaseBusy, db
from core.restore import Restored, RestoreRefused, Rules
from core.settings import Settings
from core.units import format_data

# What the gateway may have booked under a slightly different clock.
_MARGIN = timedelta(hours=1)
# The tables of which people ask what is missing.
_NAMED = (
    ("payments", "payment", "payments"),
    ("invoices", "bill", "bills"),
    ("accounts", "account", "accounts"),
    ("customers", "customer", "customers"),
)


@click.command("backup")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@with_appcontext
def backup_command(file: Path | None) -> None:
    """Make a verified backup in FILE, which must not exist; the portal may run meanwhile.

    Without FILE it does what the worker does at night: a dated file in the folder LASTMILE_BACKUPS,
    and the old ones go. Only the database is in it: keep a copy of your settings and of the file
    `secret` elsewhere.
    """
    nightly.end_with_the_worker()
    settings: Settings = current_app.config["PORTAL"]
    try:
        if file is None:
            made = backup.make_nightly(settings, find_faults)
        else:
            made = backup.make(settings, file.absolute(), find_faults)
    except BackupFailed as error:
        # Whoever mistypes a name sees it here, and no backup is missing for it.
        if nightly.is_nightly() or not isinstance(error, NoPlace):
            _note(f"{error}")
        raise click.ClickException(f"{error}.") from error
    manifest = made.manifest
    click.echo(
        f"{made.path}: {manifest.isp_name}, {_rows(manifest.rows)}, "
        f"{_size(made.size_bytes)}, read back and verified."
    )
    if not manifest.is_good:
        reason = f"the books do not add up: {manifest.faults[0]}"
        _note(reason)
        raise click.ClickException(
            f"{made.path} is written, but {reason}. See flask ledger verify."
        )
    _note(None)


def _note(failure: str | None) -> None:
    """Let every node and `flask doctor` know; a backup does not depend on it."""
    with contextlib.suppress(SQLAlchemyError, DatabaseBusy, OSError):
        if failure is None:
            nightly.note_done(nightly.BACKUP)
        else:
            nightly.note_failed(nightly.BACKUP, failure)


def _size(count: int) -> str:
    return format_data(count, "en")


def _rows(rows: dict[str, int]) -> str:
    return ", ".join(
        f"{rows[table]:,} {one if rows[table] == 1 else many}"
        for table, one, many in _NAMED
        if table in rows
    )


@click.command("restore")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--with-faults", is_flag=True, help="Also when its books do not add up.")
@with_appcontext
def restore_command(file: Path, yes: bool, with_faults: bool) -> None:
    """Put the backup in FILE in the place of the database, which is kept beside it.

    The portal and its worker must be stopped. Killed half-way, the database is the old one or the
    restored one, never a part.
    """
    settings: Settings = current_app.config["PORTAL"]
    db.session.remove()
    db.engine.dispose()
    try:
        manifest = restore.examine(settings, file, with_faults=with_faults)
        click.echo(_describe(file, manifest))
        restore.check_unused(settings, file)
        if not yes:
            click.confirm("Put it in the place of the database?", abort=True)
        erase = partial(closing.close_again, secret=settings.secret)
        done = restore.restore(settings, file, Rules(find_faults, erase, with_faults))
    except RestoreRefused as error:
        raise click.ClickException(f"Nothing was changed: {error}.") from error
    _say(done)
    _say_next(done.manifest)


def _describe(file: Path, manifest: Manifest) -> str:
    made_at = manifest.made_at.astimezone(UTC)
    return (
        f"{file} shows {manifest.isp_name} as of {made_at:%Y-%m-%d %H:%M} UTC, "
        f"{restore.words_of_age(made_at)} ago: {_rows(manifest.rows)}."
    )


def _say(done: Restored) -> None:
    click.echo("Restored, and its books add up." if done.manifest.is_good else "Restored.")
    if done.upgraded_from is not None:
        click.echo(f"The schema was brought up to date from {done.upgraded_from}.")
    if done.replaced is None:
        click.echo("There was no database before.")
    else:
        click.echo(f"The database that was there is kept: {done.replaced}")
    lost = _rows(done.lost_rows)
    if lost:
        click.echo(f"It had more than the restored one: {lost}.")
    if done.erased:
        people = "1 person" if done.erased == 1 else f"{done.erased} people"
        click.echo(f"Erased again: {people} whose online account was closed since.")
    if done.doubtful:
        click.echo(
            "Closing an online account was begun since, and nothing tells whether it was done: "
            f"{', '.join(done.doubtful)}. Ask them, see docs/operation.md."
        )
    click.echo("Everybody has been signed out. Passwords changed since then are the old ones.")


def _say_next(manifest: Manifest) -> None:
    gateway = current_app.extensions["payment_gateway"]
    since = (manifest.made_at.astimezone(UTC) - _MARGIN).strftime("%Y-%m-%dT%H:%MZ")
    if gateway is None:
        click.echo("Next: enter what was paid since then, start the portal, run flask doctor.")
    else:
        # The demo's bank runs with the portal.
        is_demo = current_app.config["PORTAL"].is_demo
        when = "after starting the portal" if is_demo else "before people pay again"
        click.echo(
            f"Next, {when}: flask billing reconcile --since {since}\n"
            f"It books what {gateway.title} has taken since then."
        )
