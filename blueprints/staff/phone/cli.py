"""`flask calls`: what the switch says of calls."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from blueprints.staff.errors import ImportImpossible
from blueprints.staff.import_reader import Refusal
from blueprints.staff.phone import call_importing
from blueprints.staff.phone.call_reader import CallLine
from core.commands import Commands

SHOWN_REFUSALS = 50

calls_cli = Commands("calls", help="Call records.")


@calls_cli.command("import")
@click.argument("file", type=click.Path(path_type=Path))
def import_calls(file: Path) -> None:
    """Take call records from FILE (CSV, as docs/phone.md says) and charge what they cost.

    A call counts once, whatever file it comes in and however often. Rows that cannot be taken are
    written to FILE.rejected.csv, with why, to be mended and imported again. Exit 1 if there were
    any.
    """
    shown = 0

    def tell(line: CallLine, refusal: Refusal) -> None:
        nonlocal shown
        shown += 1
        if shown <= SHOWN_REFUSALS:
            column = f", {refusal.column}" if refusal.column else ""
            click.echo(f"line {line.line}{column}: {refusal.sentence}", err=True)

    try:
        done = call_importing.run(file, tell)
    except ImportImpossible as error:
        raise click.ClickException(f"{file}: {error}") from None
    click.echo(f"{done.kept} calls taken, {done.known} known before, {done.refused} refused.")
    if done.rejected_path is not None:
        click.echo(f"Refused rows: {done.rejected_path}", err=True)
        sys.exit(1)
