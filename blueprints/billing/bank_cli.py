"""`flask payments import-bank`: what the bank says arrived."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import click
from flask.cli import with_appcontext

from blueprints.billing import bank_files, bank_import
from blueprints.billing.bank_import import Finding, Imported
from core import activity, clock
from core.db import unit_of_work
from core.isp import current_isp
from core.money import Money, format_money


def _columns(
    _context: click.Context, _option: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """Pairs like date=Buchungstag, in one value or in several."""
    found = {}
    for value in values:
        for pair in value.split(","):
            name, sign, column = pair.partition("=")
            if not sign or name.strip() not in bank_files.COLUMNS:
                names = ", ".join(bank_files.COLUMNS)
                raise click.BadParameter(f"{pair!r}: write NAME=COLUMN, NAME one of {names}")
            found[name.strip()] = column.strip()
    return found


@click.command("import-bank")
@with_appcontext
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--map",
    "columns",
    multiple=True,
    callback=_columns,
    help="Which column of a CSV is what, like date=Booked,amount=Value,payer=Name,reference=Text,"
    "key=Transaction ID. Columns with these names need no map.",
)
@click.option(
    "--days",
    "day_order",
    type=click.Choice(["ymd", "dmy", "mdy"]),
    default="ymd",
    help="How days are written where they are not like 2026-03-31.",
)
def import_bank(file: Path, columns: dict[str, str], day_order: str) -> None:
    """Book bank transfers from a statement: CSV, or camt.053 (XML).

    Whatever names an account or a bill is booked at once; staff decide the rest on their page.
    Reading a file again, or one that overlaps, changes nothing.
    """
    currency = current_isp().currency
    try:
        content = file.read_bytes()
        read = bank_files.read(content, currency, columns, day_order)
    except bank_files.FileUnreadable as error:
        raise click.ClickException(f"{file}: {error}") from None
    except OSError as error:
        raise click.ClickException(f"{file} cannot be read: {error.strerror}") from None
    counts: Counter[Finding] = Counter()

    def tell(done: Imported) -> None:
        counts[done.finding] += 1
        if done.finding is not Finding.KNOWN:
            click.echo(_line(done))

    bank_import.import_file(content, read, file.name, on_line=tell)
    note = activity.Event("bank_imported", clock.now())
    unit_of_work(lambda session: activity.record(session, [note]))
    click.echo(
        f"{counts[Finding.MATCHED]} booked, {counts[Finding.PROPOSED]} proposed, "
        f"{counts[Finding.UNMATCHED]} unmatched, {counts[Finding.KNOWN]} known before, "
        f"{read.passed_over} passed over."
    )
    if counts[Finding.USED_BEFORE]:
        click.echo(
            f"The bank's reference was used for other money before: {counts[Finding.USED_BEFORE]}. "
            "Staff look at these on Unmatched payments."
        )
    if counts[Finding.OTHER_CURRENCY]:
        click.echo(f"In another currency, left out: {counts[Finding.OTHER_CURRENCY]}.", err=True)
        sys.exit(1)


def _line(done: Imported) -> str:
    line = done.line
    parts = [
        f"{line.booked_on}",
        format_money(Money(line.amount_minor, line.currency), "en"),
        done.finding.value,
        f"account {done.account_number}" if done.account_number else "",
        line.reference[:60],
    ]
    return "  ".join(part for part in parts if part)
