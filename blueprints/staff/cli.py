"""Commands for the ISP's own people: `flask catalog load`, `flask accounts import`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from blueprints.staff import catalog, importing
from blueprints.staff.errors import CatalogInvalid, ImportImpossible
from blueprints.staff.import_reader import Record, Refusal
from blueprints.staff.importing import ImportResult
from core.commands import Commands
from core.money import Money, format_money

catalog_cli = Commands("catalog", help="What the ISP sells.")
accounts_cli = Commands("accounts", help="The accounts of the ISP's subscribers.")

SHOWN_REFUSALS = 20
SHOWN_REFUSALS_DRY = 1000  # nothing is written then, so this is the only list


def _fail(message: object) -> click.ClickException:
    return click.ClickException(str(message))


@catalog_cli.command("load")
@click.argument("file", type=click.Path(path_type=Path))
def load_catalog(file: Path) -> None:
    """Load the ISP's settings, areas, taxes and plans from FILE (TOML).

    The whole file is checked before anything is written. Loading again updates what is there and
    deletes nothing: a plan that is missing from the file is no longer offered, those who have it
    keep it.
    """
    try:
        summary = catalog.load(file)
    except CatalogInvalid as error:
        raise _fail(error) from None
    click.echo(
        f"Catalog loaded: {summary.added} added, {summary.changed} changed, "
        f"{summary.unchanged} unchanged."
    )
    if summary.withdrawn:
        click.echo(f"No longer offered: {', '.join(summary.withdrawn)}.")
    for note in summary.notes:
        click.echo(f"Note: {note}.")


@accounts_cli.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--cut-over",
    type=click.DateTime(formats=["%Y-%m-%d"]),
    metavar="DATE",
    help="The day on which the portal takes over, like 2026-01-31: opening balances are due on it, "
    "and each account is billed from its first bill day on or after it. Default: today.",
)
@click.option("--dry-run", is_flag=True, help="Write nothing, only say what would happen.")
def import_accounts(file: Path, cut_over: datetime | None, *, dry_run: bool) -> None:
    """Import accounts from FILE, the export of the old billing (CSV).

    A row that is refused is refused whole and goes to FILE.rejected.csv with its line, column and
    reason; mend it there and import that file. Running the same file again changes nothing, and
    finishes a run that was interrupted.

    A row whose account number and line username are both on file updates that account: do so while
    the old billing is still where accounts are kept, for the file wins over what is stored. An
    opening balance can be corrected while it is the account's only entry.

    Ends with 0 when the file was read to its end, refused rows or not (they are listed on standard
    error), and with 1 when it could not be.
    """
    shown: list[str] = []
    limit = SHOWN_REFUSALS_DRY if dry_run else SHOWN_REFUSALS

    def keep(record: Record, refusal: Refusal) -> None:
        if len(shown) < limit:
            where = f" ({refusal.column})" if refusal.column else ""
            shown.append(f"line {record.line}: {refusal.reason}{where}. {refusal.sentence}")

    try:
        size = file.stat().st_size
    except OSError as error:
        raise _fail(f"{file} cannot be read: {error.strerror}") from None
    try:
        label = "Checking" if dry_run else "Importing"
        with click.progressbar(length=size, label=label) as bar:
            result = importing.run(
                file,
                cut_over=cut_over.date() if cut_over else None,
                is_dry_run=dry_run,
                on_progress=lambda offset: bar.update(offset - bar.pos),
                on_refusal=keep,
            )
    except OSError as error:
        # Of the file itself, or of the one beside it for refused rows: on a full disk, say.
        raise _fail(f"{file} was not imported to its end: {error.strerror}") from None
    except ImportImpossible as error:
        raise _fail(error) from None
    for line in shown:
        click.echo(line, err=True)
    _tell(result, shown=len(shown), is_dry_run=dry_run)


def _tell(result: ImportResult, *, shown: int, is_dry_run: bool) -> None:
    refused = result.refused.total()
    if refused > shown:
        click.echo(f"… and {refused - shown:,} more.", err=True)
    if is_dry_run:
        click.echo("Nothing was written. It would be:")
    click.echo(
        f"{result.rows:,} rows: {result.added:,} accounts added, {result.changed:,} changed, "
        f"{result.unchanged:,} unchanged; {refused:,} rows refused."
    )
    total = format_money(Money(result.opening_minor, result.currency), result.language)
    click.echo(
        f"Opening balances of the accounts taken: {total}, due {result.cut_over.isoformat()} "
        "where the account is new."
    )
    for warning, count in sorted(result.warnings.items()):
        click.echo(f"Warning: {count:,} accounts with {warning}.")
    if result.rejected_path is not None:
        click.echo(f"Refused rows: {result.rejected_path}. Mend them there and import that file.")
